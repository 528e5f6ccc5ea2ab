//! Identification and cache registers: what they promise is what the processor does.
#![no_std]
#![no_main]
guest_lib::payload!();
