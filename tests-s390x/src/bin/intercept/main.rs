//! Control instructions that a hypervisor intercepts: operands, privilege, and what they do.
//!
//! Spec: SA22-7832 10 (Control Instructions), 4 (Control), 6 (Interruptions).
#![no_std]
#![no_main]
guest_lib::payload!();

mod clock;
mod control_registers;
mod cpu_id;
mod epsw;
mod facility_list;
mod operands;
mod prefix;
mod privileged;
mod system_mask;
mod test_block;
