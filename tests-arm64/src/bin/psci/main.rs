//! PSCI and SMCCC: the calls by which a guest starts, stops and asks.
//!
//! Scope: DEN0022 (PSCI 1.1), DEN0028 (SMC Calling Convention), and the services that answer by the
//! same convention: TRNG, paravirtualized time, a vendor's own. A hypervisor implements all of it in
//! software, so each rule is one that somebody typed. Machine: four processors for the races; any
//! number works.
#![no_std]
#![no_main]
guest_lib::payload!();

mod affinity;
mod cpu_off;
mod cpu_on;
mod features;
mod reset;
mod services;
mod smccc;
mod suspend;
mod system;
mod version;
