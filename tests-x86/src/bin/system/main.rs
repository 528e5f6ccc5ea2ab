//! System registers and checks that every guest relies on, outside any area of their own.
//!
//! Spec: SDM 3A 2.5, 6.15.
#![no_std]
#![no_main]
guest_lib::payload!();

mod alignment;
mod control;
mod delivery;
mod page_fault;
