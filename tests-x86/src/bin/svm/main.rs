//! SVM: what a guest hypervisor may do, what it must be refused, and what it must be told.
//!
//! Spec: APM 2 15, Appendix B, Appendix C. Machine: SVM offered to the payload.
//!
//! Every case gets a [`NestedVm`](guest_lib::arch::svm::NestedVm): a guest that can be entered, to be
//! spoiled in one place. "Host" in these files is the payload (the hypervisor under test's guest), and
//! "guest" is what the payload runs inside itself.
#![no_std]
#![no_main]
guest_lib::payload!();

mod clean_bits;
mod consistency;
mod control_registers;
mod exceptions;
mod features;
mod global_interrupt;
mod injection;
mod instructions;
mod interrupts;
mod io;
mod modes;
mod msr;
mod nested_dirty;
mod nested_faults;
mod nested_paging;
mod state;
mod tlb;
mod vmrun;
