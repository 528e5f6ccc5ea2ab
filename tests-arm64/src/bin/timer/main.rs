//! Generic timers: counters, deadlines and the interrupts they raise.
//!
//! Scope: DDI0487 D12 and D24.10, the EL1 physical and virtual timer of every processor; at EL2 with
//! FEAT_VHE the same cases reach the EL2 timers, which have the same rules and other INTIDs.
//! Nearly every case runs once per timer. Deadlines are a few milliseconds; nothing asserts that an
//! interrupt is early enough, only that it is not too early, not lost and not doubled.
#![no_std]
#![no_main]
guest_lib::payload!();

mod both;
mod compare;
mod control;
mod counter;
mod cpus;
mod delivery;
mod el0;
mod el2;
mod line;
