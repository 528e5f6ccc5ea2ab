//! Stage 1 translation: what the MMU answers, and what it writes.
//!
//! Scope: DDI0487 D8.5 (hardware management of the access flag and the dirty state), C5.4 (AT). A hypervisor
//! that walks a guest's tables by software must find what the processor would, and keep what the processor
//! writes into them.
#![no_std]
#![no_main]
guest_lib::payload!();

mod at;
mod flags;
