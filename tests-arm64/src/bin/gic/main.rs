//! The interrupt controller: GICv2, GICv3 and its Interrupt Translation Service.
//!
//! Scope: IHI0048 3 and 4, IHI0069 4, 5 and 12. `lifecycle` and `priority` hold for both versions and run
//! on both; `both` has what cases of either version share; files named `v2_*` and `v3_*` are about one. A hypervisor emulates the distributor by
//! software, and each register is a small state machine of its own; most of them are never looked
//! at by an operating system after boot, which is why they rot.
#![no_std]
#![no_main]
guest_lib::payload!();

mod both;
mod its;
mod lifecycle;
mod priority;
mod v2_distributor;
mod v2_sgi;
mod v2_targets;
mod v3_distributor;
mod v3_groups;
mod v3_redistributor;
mod v3_routing;
mod v3_sgi;
