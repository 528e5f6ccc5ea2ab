//! Caches and code: what a guest may rely on after it changed instructions.
//!
//! Scope: DDI0487 B2.7, D7.5: the maintenance that CTR_EL0 asks for is enough, here, on other processors,
//! through other addresses and from EL0. Machine: two or more processors.
#![no_std]
#![no_main]
guest_lib::payload!();

mod code;
mod maintenance;
