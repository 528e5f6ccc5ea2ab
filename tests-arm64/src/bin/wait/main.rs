//! WFI, WFE and SEV: a waiting processor misses no wake-up.
//!
//! Scope: DDI0487 D1.7. A hypervisor takes a waiting virtual processor off its host processor and must put it
//! back for every event, also for one that comes between the guest's last check and its wait.
//! Machine: two processors.
#![no_std]
#![no_main]
guest_lib::payload!();

mod event;
mod interrupt;
