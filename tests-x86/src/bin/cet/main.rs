//! CET: shadow stacks and indirect-branch tracking, and how VMX carries them.
//!
//! Spec: SDM 1 17, SDM 3A 4.6, SDM 3C 27, 28. Machine: one CPU with CET.
#![no_std]
#![no_main]
guest_lib::payload!();

mod branch_tracking;
mod enabling;
mod shadow_pages;
mod supervisor;
mod user_stack;
mod virtualization;
