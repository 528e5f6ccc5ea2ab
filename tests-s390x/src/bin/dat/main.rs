//! Address translation: protection at each level, large pages, moves between pages.
//!
//! Spec: SA22-7832 3 (Dynamic Address Translation, Protection), 7 MOVE PAGE, 10 TEST PROTECTION.
#![no_std]
#![no_main]
guest_lib::payload!();

mod edat;
mod iep;
mod move_page;
mod space;
mod tables;
mod tprot;
