//! VMX: what a guest hypervisor may do, and what it must be refused.
//!
//! Spec: SDM 3C 24 to 31. Machine: a processor with VMX for its guests; three CPUs, of which the last is
//! used by the feature-control case alone.
#![no_std]
#![no_main]
guest_lib::payload!();

mod address_checks;
mod apic_virtualization;
mod bitmaps;
mod capabilities;
mod checks;
mod control_checks;
mod control_registers;
mod ept;
mod ept_dirty;
mod events;
mod exits;
mod fields;
mod guest_activity;
mod guest_segments;
mod guest_state;
mod host_state;
mod interrupts;
mod launch;
mod loads;
mod modes;
mod pointers;
mod shadowing;
mod smp;
mod timer;
mod vmxon;
