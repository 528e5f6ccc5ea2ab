//! Emulated device accesses: every form of load and store, each retired exactly once.
//!
//! Scope: DDI0487 C3.2 (loads and stores) as a hypervisor has to emulate them when the address is a
//! device it models: size, extension, destination, base register, writeback, byte order, program
//! counter. Machine: one processor; GICv2 adds registers whose reads and writes have effects.
#![no_std]
#![no_main]
guest_lib::payload!();

mod access;
mod acknowledge;
mod extension;
mod loads;
mod soak;
mod stores;
mod user;
