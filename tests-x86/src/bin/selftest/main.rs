//! The runtime proves itself: a case elsewhere is only as good as this.
//!
//! Everything here is architecture of the plainest kind, so on any machine that can boot an
//! operating system all of it passes. Where it does not, no other payload's verdict counts.
#![no_std]
#![no_main]
guest_lib::payload!();

mod clock;
mod faults;
mod interrupts;
mod memory;
mod page_tables;
mod segments;
mod smp;
mod user;
