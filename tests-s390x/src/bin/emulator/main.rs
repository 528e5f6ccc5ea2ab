//! Instructions that hypervisors emulate or hand to a coprocessor: message security, vectors.
//!
//! Spec: SA22-7832 7 (message-security assist), 21 and 22 (vector facility).
#![no_std]
#![no_main]
guest_lib::payload!();

mod message_security;
mod vector;
