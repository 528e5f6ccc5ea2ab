//! What the machine says about itself: STORE SYSTEM INFORMATION, topology, the CPU model.
//!
//! Spec: SA22-7832 10 STORE SYSTEM INFORMATION, PERFORM TOPOLOGY FUNCTION.
#![no_std]
#![no_main]
guest_lib::payload!();

mod blocks;
mod model;
mod operands;
mod topology;
