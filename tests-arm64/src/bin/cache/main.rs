//! Caches and code: what a guest may rely on after it changed instructions.
#![no_std]
#![no_main]
guest_lib::payload!();
