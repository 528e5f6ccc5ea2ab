//! Reserved bits of control registers. Spec: SDM 3A 2.5.
//!
//! A guest that sets a reserved bit must get #GP(0) and keep its old value. A hypervisor that
//! takes the bit, drops it, or sends the refusal somewhere else leaves the guest in a state it did
//! not ask for. Each case writes the old value back as the control.

use guest_lib::arch::registers::{Cr0, Cr4};
use guest_lib::arch::{cpu, cpuid};
use guest_lib::prelude::*;

/// A reserved bit written to CR4 raises #GP(0) and changes nothing; the old value is taken.
#[case(spec = "SDM 3A 2.5 CR4", timeout_s = 5)]
fn reserved_cr4_bit_raises_gp() -> Verdict {
    let before = Cr4::read();
    expect_eq!(before.write(), Ok(()))?;
    let spoiled = Cr4::from_bits_retain(before.bits() | 1 << 63);
    expect_eq!(spoiled.write(), Err(Fault::GP0))?;
    expect_eq!(Cr4::read(), before)?;
    expect_eq!(before.write(), Ok(()))
}

/// An address bit beyond the physical width written to CR3 raises #GP(0) and changes nothing.
#[case(spec = "SDM 3A 2.5 CR3", timeout_s = 5)]
fn reserved_cr3_bit_raises_gp() -> Verdict {
    let before = cpu::read_cr3();
    expect_eq!(cpu::write_cr3(before), Ok(()))?;
    expect_eq!(
        cpu::write_cr3(before | 1 << 51),
        if cpuid::physical_bits() > 51 {
            Ok(())
        } else {
            Err(Fault::GP0)
        }
    )?;
    expect_eq!(cpu::read_cr3(), before)?;
    expect_eq!(cpu::write_cr3(before), Ok(()))
}

/// CR0[63:32] set, PG without PE, and NW without CD raise #GP(0) and change nothing.
#[case(
    spec = "SDM 3A 2.5 CR0",
    rows(
        bit_32: 1 << 32,
        bit_63: 1 << 63,
        nw_without_cd: Cr0::NW.bits(),
    )
)]
fn refused_cr0_value(bits: u64) -> Verdict {
    let before = Cr0::read();
    let spoiled = Cr0::from_bits_retain(before.bits() & !Cr0::CD.bits() | bits);
    expect_eq!(spoiled.write(), Err(Fault::GP0))?;
    expect_eq!(Cr0::read(), before)?;
    expect_eq!(before.write(), Ok(()))
}
