//! Identification and cache registers: what they promise is what the processor does.
//!
//! Scope: DDI0487 D24.1, D24.2, D7.5. A hypervisor shows a virtual processor by filtering these
//! registers, on every processor alike, and must then refuse what it has hidden. Machine: two or more
//! processors, so that differences show.
#![no_std]
#![no_main]
guest_lib::payload!();

mod caches;
mod el0;
mod features;
mod registers;
