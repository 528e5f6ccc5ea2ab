//! What happens around an exception, and what a guest may know about its processor.
//!
//! Scope: DDI0487 D1.4 (entry and return), D2 (self-hosted debug), D7.5 and D24 (caches and
//! identification), D8.15 (aborts), C3.2 (loads and stores of devices). A hypervisor that emulates an
//! instruction or injects an exception does by software what the processor does by itself; the
//! guest must not be able to tell.
#![no_std]
#![no_main]
guest_lib::payload!();

mod abort;
mod cache;
mod debug;
mod entry;
mod identification;
mod mmio;
