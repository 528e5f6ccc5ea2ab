//! Exceptions: what a hypervisor must put into the registers when it injects one.
#![no_std]
#![no_main]
guest_lib::payload!();
