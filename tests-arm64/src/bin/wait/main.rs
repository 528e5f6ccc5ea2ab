//! WFI, WFE and SEV: a waiting processor misses no wake-up.
#![no_std]
#![no_main]
guest_lib::payload!();
