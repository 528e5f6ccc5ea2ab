//! Storage keys: setting them, what they protect, and what they record.
//!
//! Spec: SA22-7832 3 (Storage Key, Protection), 10 (SET STORAGE KEY EXTENDED and its family).
#![no_std]
#![no_main]
guest_lib::payload!();

mod chsc;
mod page;
mod prefix;
mod protection;
mod recording;
mod set;
mod tprot;
