//! DIAGNOSE: the calls a guest makes to its hypervisor.
//!
//! Spec: S390-DIAG (each function code), SA22-7832 10 DIAGNOSE. What a hypervisor does not offer
//! it refuses with a specification exception, never with silence.
#![no_std]
#![no_main]
guest_lib::payload!();

mod notify;
mod page_reference;
mod release;
mod reset;
mod unknown;
mod watchdog;
mod yielding;
