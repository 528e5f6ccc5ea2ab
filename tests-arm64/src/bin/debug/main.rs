//! Self-hosted debug: breakpoints, watchpoints, software step, BRK, OS lock.
#![no_std]
#![no_main]
guest_lib::payload!();
