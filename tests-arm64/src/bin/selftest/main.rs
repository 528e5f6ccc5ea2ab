//! Proof of the arm64 runtime itself: what every other payload relies on.
//!
//! Scope: faults as values at EL1 (or EL2) and EL0, translation tables, interrupts and timers, other
//! processors, memory, the device tree reader. Machine: any number of processors; the words
//! `cpus=N` and `memory_mib=N` of the command line say what the machine was asked to have.
#![no_std]
#![no_main]
guest_lib::payload!();

mod faults;
mod interrupts;
mod memory;
mod paging;
mod smp;
mod tree;
mod user;
