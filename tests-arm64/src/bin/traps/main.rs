//! Exceptions: what a guest finds in its registers when one is taken.
//!
//! Scope: DDI0487 D1.4 and D1.5 (entry), D8.15 and D7.6 (aborts), C5.4 (address translation). The
//! processor does most of it by itself, but a hypervisor that injects an undefined instruction or an
//! abort writes ELR, SPSR, ESR, FAR and PSTATE by hand, and each has been wrong somewhere.
//! Machine: one processor, at EL1 or EL2.
#![no_std]
#![no_main]
guest_lib::payload!();

mod aborts;
mod frames;
mod level;
mod pstate;
mod registers;
mod translate;
