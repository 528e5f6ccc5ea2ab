//! The runtime proves itself: faults, problem state, interruptions, clocks, processors, memory.
//!
//! Every other payload relies on what is checked here, so a failure here comes first. Spec:
//! SA22-7832 3 (storage), 4 (control), 5 (execution), 6 (interruptions).
#![no_std]
#![no_main]
guest_lib::payload!();

mod faults;
mod interruptions;
mod memory;
mod problem_state;
mod processors;
mod translation;
