//! VMX: what a guest hypervisor may do, and what it must be refused.
//!
//! Spec: SDM 3C 24 to 31. Machine: a processor with VMX for its guests; three CPUs, of which the last is
//! used by the feature-control case alone.
#![no_std]
#![no_main]
guest_lib::payload!();

mod address_checks;
mod capabilities;
mod control_checks;
mod events;
mod fields;
mod guest_activity;
mod guest_segments;
mod guest_state;
mod host_state;
mod launch;
mod modes;
mod pointers;
mod vmxon;
