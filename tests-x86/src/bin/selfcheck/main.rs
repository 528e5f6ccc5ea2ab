//! Breaks on purpose, so that the runner can prove how it reports what breaks.
//!
//! Never part of a normal run. Each way to go wrong is followed by a case that passes: one broken
//! case must cost one case.
#![no_std]
#![no_main]
guest_lib::payload!();

mod faults;
