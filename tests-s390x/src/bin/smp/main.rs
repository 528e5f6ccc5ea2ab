//! SIGNAL PROCESSOR: orders, conditions, and the status that a stopped processor leaves.
//!
//! Spec: SA22-7832 4 (Signal-Processor Orders, CPU Reset), 10 SIGNAL PROCESSOR.
#![no_std]
#![no_main]
guest_lib::payload!();

mod additional_status;
mod calls;
mod floating;
mod orders;
mod reset;
mod restart;
mod status;
mod target;
