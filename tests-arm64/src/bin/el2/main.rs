//! What a payload entered at EL2 may do there.
#![no_std]
#![no_main]
guest_lib::payload!();
