//! AArch32 at EL0.
#![no_std]
#![no_main]
guest_lib::payload!();
