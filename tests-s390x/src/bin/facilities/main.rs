//! Facilities that few machines have: each case names the one it needs.
//!
//! Where a facility is absent, its instruction must be an operation exception: that half runs
//! everywhere. Spec: SA22-7832 10, and the documents that each file names.
#![no_std]
#![no_main]
guest_lib::payload!();

mod absent;
mod guarded_storage;
mod hypervisor_information;
mod pci;
mod processor_queue;
mod storage_attributes;
mod storage_frames;
