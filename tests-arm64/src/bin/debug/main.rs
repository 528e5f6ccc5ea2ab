//! Self-hosted debug: what a kernel's debugger and a process's debugger rely on.
//!
//! Scope: DDI0487 D2: breakpoints, watchpoints, software step, BRK, the OS lock. A hypervisor
//! switches these registers between guests, and shares them with its own debugger, so they are often lost,
//! leaked or trapped. Machine: any; each processor has its own set.
#![no_std]
#![no_main]
guest_lib::payload!();

mod breakpoint;
mod brk;
mod context;
mod registers;
mod setup;
mod step;
mod watchpoint;
