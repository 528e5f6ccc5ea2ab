//! Emulated device accesses: each instruction form retires exactly once.
#![no_std]
#![no_main]
guest_lib::payload!();
