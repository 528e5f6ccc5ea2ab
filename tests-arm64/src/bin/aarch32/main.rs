//! AArch32 at EL0 under an AArch64 kernel.
//!
//! Scope: DDI0487 G1.13 and D1.4: how exceptions from AArch32 look to EL1. A hypervisor that passes a
//! trapped instruction on, or skips it, has to know about its 16 bits, its condition and its IT
//! state, which 64-bit code never shows. Machine: a processor with AArch32 at EL0.
#![no_std]
#![no_main]
guest_lib::payload!();

mod calls;
mod conditions;
mod memory;
mod run;
mod traps;
