//! The channel subsystem: subchannels, their status, and channel programs.
//!
//! Spec: SA22-7832 13 to 17. Machine: any device on the channel subsystem that answers SENSE ID.
#![no_std]
#![no_main]
guest_lib::payload!();

mod functions;
mod keys;
mod measurement;
mod operands;
mod program;
mod reports;
mod subchannel;
mod transfer;
