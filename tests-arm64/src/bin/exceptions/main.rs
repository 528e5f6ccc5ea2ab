//! Exceptions: how they are entered, what they say, and how they return.
//!
//! Scope: DDI0487 D1.4 and D1.5 (entry, return, PSTATE), D8.15 (aborts), D24 (the controls of EL1 over EL0, and
//! registers that a level does not have). A hypervisor that emulates an instruction or injects an
//! exception does by software what the processor does by itself; the guest must not be able to tell.
#![no_std]
#![no_main]
guest_lib::payload!();

mod aborts;
mod controls;
mod frames;
mod level;
mod pstate;
mod registers;
