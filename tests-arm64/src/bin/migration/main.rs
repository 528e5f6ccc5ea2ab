//! The machine moves to another host, or into a file and back, while it runs.
//!
//! Nothing that the manual lets software see may change by that: no byte of memory, no register,
//! no interrupt that is pending, active or will come; and no clock may go back. The host moves the
//! machine when a case asks for it (`docs/services.md`). Machine: GICv3 with an ITS.
#![no_std]
#![no_main]
guest_lib::payload!();

mod debug;
mod gic;
mod its;
mod memory;
mod processors;
mod registers;
mod tables;
mod timer;
