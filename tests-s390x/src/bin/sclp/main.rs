//! SERVICE CALL: commands to the service-call logical processor, and their bad blocks.
//!
//! Spec: SCLP (no manual is public; docs/specs.md names where the interface is described).
#![no_std]
#![no_main]
guest_lib::payload!();

mod blocks;
mod commands;
mod console;
mod information;
