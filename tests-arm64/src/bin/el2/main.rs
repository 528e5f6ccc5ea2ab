//! What a payload entered at EL2 may do there.
//!
//! Scope: DDI0487 D8.13 (the Virtualization Host Extensions), D24.2 (HCR_EL2), D8.15 (stage 2 faults).
//! A hypervisor that offers EL2 to its guest emulates nearly all of this. Machine: EL2
//! (`virtualization=on`), `el=2` on the command line.
#![no_std]
#![no_main]
guest_lib::payload!();

mod level;
mod pending;
mod stage2;
mod traps;
mod virtual_ids;
