//! The runtime proves itself: a case elsewhere is only as good as this.
#![no_std]
#![no_main]
guest_lib::payload!();

mod faults;
