//! Proof of the arm64 runtime itself: what every other payload relies on.
#![no_std]
#![no_main]
guest_lib::payload!();

mod faults;
