//! Instruction execution: EXECUTE and its targets, PSWs that must not be loaded, specifications.
//!
//! Spec: SA22-7832 4 (Program-Status Word), 5 (Program Execution), 6 (Interruptions).
#![no_std]
#![no_main]
guest_lib::payload!();

mod condition_code;
mod data_exception;
mod execute;
mod psw;
mod specification;
