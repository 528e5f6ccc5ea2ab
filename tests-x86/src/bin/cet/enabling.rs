//! Turning CET on: CR4.CET, the MSRs, and extended state. Spec: SDM 3A 2.5, SDM 4 2.1, SDM 1 13.
//!
//! What a hypervisor must emulate here are refusals: a reserved bit taken is CET state that the
//! processor would never hold, and that a later VM entry chokes on.

use guest_lib::arch::cet::{self, Cet};
use guest_lib::arch::code::Code;
use guest_lib::arch::registers::{Cr0, Cr4};
use guest_lib::arch::{cpu, cpuid, msr};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// CR4.CET cannot be set while CR0.WP is 0, and CR0.WP not cleared while CR4.CET is 1.
#[case(spec = "SDM 3A 2.5 CR4")]
fn cet_and_write_protection_go_together(cet: &mut Cet) -> Verdict {
    let _ = cet;
    let (cr0, cr4) = (Cr0::read(), Cr4::read());
    expect_eq!(
        cr0.difference(Cr0::WP).write(),
        Err(Fault::GP0),
        "WP cleared under CET"
    )?;
    expect_eq!(cr4.difference(Cr4::CET).write(), Ok(()))?;
    expect_eq!(
        cr0.difference(Cr0::WP).write(),
        Ok(()),
        "WP cleared without CET"
    )?;
    expect_eq!(cr4.write(), Err(Fault::GP0), "CET set without WP")?;
    expect_eq!(cr0.write(), Ok(()))?;
    expect_eq!(cr4.write(), Ok(()), "CET set with WP")
}

/// The CET MSRs keep their values while CR4.CET is cleared and set.
#[case(spec = "SDM 1 17.1", needs("x86.cet_ss"))]
fn msrs_survive_cr4_cet(cet: &mut Cet) -> Verdict {
    let _ = cet;
    let cr4 = Cr4::read();
    let values = [
        (cet::U_CET, 2u64),
        (cet::S_CET, 2),
        (cet::PL0_SSP, 0x1000),
        (cet::PL3_SSP, 0x2000),
    ];
    for (number, value) in values {
        msr::write(number, value)?;
    }
    cr4.difference(Cr4::CET).write()?;
    for (number, value) in values {
        expect_eq!(msr::read(number), Ok(value), "MSR {number:#x}, CET off")?;
    }
    cr4.write()?;
    for (number, value) in values {
        expect_eq!(
            msr::read(number),
            Ok(value),
            "MSR {number:#x}, CET on again"
        )?;
    }
    Ok(())
}

/// U_CET and S_CET: bits 9:6 are reserved.
#[case(spec = "SDM 4 2.1 IA32_U_CET", rows(u_cet: cet::U_CET, s_cet: cet::S_CET))]
fn reserved_bits_are_refused(cet: &mut Cet, row: u32) -> Verdict {
    let _ = cet;
    for bit in 6..10 {
        expect_eq!(msr::write(row, 1 << bit), Err(Fault::GP0), "bit {bit}")?;
        expect_eq!(msr::read(row), Ok(0), "unchanged")?;
    }
    expect_eq!(
        msr::write(row, cet::WR_SHSTK_EN),
        Ok(()),
        "a bit that exists"
    )
}

/// U_CET and S_CET: the tracker cannot wait and be suppressed at once.
#[case(
    spec = "SDM 4 2.1 IA32_U_CET",
    needs("x86.cet_ibt"),
    rows(u_cet: cet::U_CET, s_cet: cet::S_CET)
)]
fn suppress_excludes_waiting(cet: &mut Cet, row: u32) -> Verdict {
    let _ = cet;
    let both = cet::SUPPRESS | cet::TRACKER;
    expect_eq!(msr::write(row, both), Err(Fault::GP0), "both")?;
    expect_eq!(msr::write(row, cet::SUPPRESS), Ok(()), "suppressed")?;
    expect_eq!(msr::write(row, cet::TRACKER), Ok(()), "waiting")?;
    expect_eq!(msr::read(row), Ok(cet::TRACKER))
}

/// U_CET and S_CET: the address of the legacy bitmap must be canonical.
#[case(
    spec = "SDM 4 2.1 IA32_U_CET",
    needs("x86.cet_ibt"),
    rows(u_cet: cet::U_CET, s_cet: cet::S_CET)
)]
fn bitmap_address_must_be_canonical(cet: &mut Cet, row: u32) -> Verdict {
    let _ = cet;
    for value in [1 << 63, 0x0100_0000_0000_0000, 0x7fff_0000_0000_0000] {
        expect_eq!(msr::write(row, value), Err(Fault::GP0), "{value:#x}")?;
    }
    for value in [0x7fff_ffff_f000, 0xffff_8000_0000_0000] {
        expect_eq!(msr::write(row, value), Ok(()), "{value:#x}")?;
        expect_eq!(msr::read(row), Ok(value))?;
    }
    Ok(())
}

/// PLn_SSP: a multiple of 4, and canonical.
#[case(
    spec = "SDM 4 2.1 IA32_PL0_SSP",
    needs("x86.cet_ss"),
    rows(pl0: cet::PL0_SSP, pl1: cet::PL0_SSP + 1, pl2: cet::PL0_SSP + 2, pl3: cet::PL3_SSP)
)]
fn ssp_msr_is_checked(cet: &mut Cet, row: u32) -> Verdict {
    let _ = cet;
    for value in [1, 2, 3, 0x1001, 1 << 63, 0x0100_0000_0000_0000] {
        expect_eq!(msr::write(row, value), Err(Fault::GP0), "{value:#x}")?;
    }
    for value in [4, 0x1000, 0x7fff_ffff_fffc, 0xffff_8000_0000_0000] {
        expect_eq!(msr::write(row, value), Ok(()), "{value:#x}")?;
        expect_eq!(msr::read(row), Ok(value))?;
    }
    Ok(())
}

/// INTERRUPT_SSP_TABLE_ADDR: canonical, of any alignment.
#[case(spec = "SDM 4 2.1 IA32_INTERRUPT_SSP_TABLE_ADDR", needs("x86.cet_ss"))]
fn ssp_table_address_must_be_canonical(cet: &mut Cet) -> Verdict {
    let _ = cet;
    for value in [1 << 63, 0x0100_0000_0000_0000] {
        expect_eq!(
            msr::write(cet::SSP_TABLE, value),
            Err(Fault::GP0),
            "{value:#x}"
        )?;
    }
    for value in [0x1000, 0x1001, 0xffff_8000_0000_0007] {
        expect_eq!(msr::write(cet::SSP_TABLE, value), Ok(()), "{value:#x}")?;
        expect_eq!(msr::read(cet::SSP_TABLE), Ok(value))?;
    }
    Ok(())
}

/// The CET MSRs are out of reach at privilege level 3.
#[case(spec = "SDM 2B 4.3 RDMSR")]
fn msrs_are_privileged(cet: &mut Cet) -> Verdict {
    let _ = cet;
    // mov ecx, edi; rdmsr
    let code = Code::new(&[0x89, 0xf9, 0x0f, 0x32]);
    expect_eq!(code.run_user(u64::from(cet::U_CET), 0), Err(Fault::GP0))?;
    expect_eq!(code.run(u64::from(cet::U_CET), 0), Ok(0))
}

/// Puts CR4, XCR0-related state and IA32_XSS back.
struct Xss(u64, u64);

impl Xss {
    fn new() -> Result<Self, Stop> {
        let cr4 = cpu::read_cr4();
        cpu::write_cr4(cr4 | Cr4::OSXSAVE.bits())?;
        Ok(Xss(cr4, msr::read(cet::XSS)?))
    }
}

impl Drop for Xss {
    fn drop(&mut self) {
        // Both values were in force before.
        let _ = msr::write(cet::XSS, self.1);
        let _ = cpu::write_cr4(self.0);
    }
}

const CET_U: u64 = 1 << 11;
const CET_S: u64 = 1 << 12;

/// IA32_XSS takes the CET components exactly when CPUID lists them.
#[case(
    spec = "SDM 1 13.3 IA32_XSS",
    needs("x86.xsaves"),
    rows(cet_u: CET_U, cet_s: CET_S, beyond: 1 << 62)
)]
fn xss_follows_cpuid(cet: &mut Cet, row: u64) -> Verdict {
    let _ = cet;
    let _xss = Xss::new()?;
    let leaf = cpuid::query(0xd, 1);
    let listed = (u64::from(leaf.edx) << 32 | u64::from(leaf.ecx)) & row != 0;
    let expected = if listed { Ok(()) } else { Err(Fault::GP0) };
    expect_eq!(msr::write(cet::XSS, row), expected)
}

/// CPUID describes the CET components: 16 and 24 bytes, supervisor state.
#[case(
    spec = "SDM 1 13.2",
    needs("x86.xsaves"),
    rows(cet_u: (11, 16), cet_s: (12, 24))
)]
fn components_are_described(cet: &mut Cet, row: (u32, u32)) -> Verdict {
    let _ = cet;
    let (number, size) = row;
    listed(1 << number)?;
    let leaf = cpuid::query(0xd, number);
    expect_eq!(leaf.eax, size, "size")?;
    expect_eq!(leaf.ebx, 0, "no offset in the standard format")?;
    expect_eq!(leaf.ecx & 1, 1, "in IA32_XSS")
}

/// The size of the XSAVES area grows with the component in IA32_XSS.
#[case(
    spec = "SDM 1 13.2",
    needs("x86.xsaves"),
    rows(cet_u: (CET_U, 16), cet_s: (CET_S, 24))
)]
fn xsaves_size_follows_xss(cet: &mut Cet, row: (u64, u32)) -> Verdict {
    let _ = cet;
    let _xss = Xss::new()?;
    listed(row.0)?;
    msr::write(cet::XSS, 0)?;
    let without = cpuid::query(0xd, 1).ebx;
    msr::write(cet::XSS, row.0)?;
    expect_eq!(cpuid::query(0xd, 1).ebx, without + row.1)
}

/// A component: its bit, and the MSRs in the order of its image.
type Component = (u64, &'static [u32]);

/// Skips where CPUID does not list the component for IA32_XSS.
fn listed(bit: u64) -> Result<(), Stop> {
    let need = match bit {
        CET_U => "x86.xsaves_cet_u",
        _ => "x86.xsaves_cet_s",
    };
    match guest_lib::runner::is_met(need) {
        true => Ok(()),
        false => skip(need),
    }
}

const USER: Component = (CET_U, &[cet::U_CET, cet::PL3_SSP]);
const SUPERVISOR: Component = (CET_S, &[cet::PL0_SSP, cet::PL0_SSP + 1, cet::PL0_SSP + 2]);

/// xsaves [rdi] and xrstors [rdi], with ESI as the low half of the mask
const XSAVES: &[u8] = &[0x89, 0xf0, 0x31, 0xd2, 0x48, 0x0f, 0xc7, 0x2f];
const XRSTORS: &[u8] = &[0x89, 0xf0, 0x31, 0xd2, 0x48, 0x0f, 0xc7, 0x1f];

/// XSAVES stores a CET component in its compacted place, and XRSTORS loads it.
#[case(
    spec = "SDM 1 13.11 XSAVES",
    needs("x86.xsaves", "x86.cet_ss"),
    rows(cet_u: USER, cet_s: SUPERVISOR)
)]
fn xsaves_carries_the_component(cet: &mut Cet, row: Component) -> Verdict {
    let _ = cet;
    let _xss = Xss::new()?;
    let (bit, numbers) = row;
    listed(bit)?;
    msr::write(cet::XSS, bit)?;
    let area = Frames::new(1);
    let (save, restore) = (Code::new(XSAVES), Code::new(XRSTORS));
    let value = |i: usize| 0x1000 * (i as u64 + 2) + if numbers[i] == cet::U_CET { 2 } else { 0 };
    for (i, &number) in numbers.iter().enumerate() {
        msr::write(number, value(i))?;
    }
    save.run(area.address(), bit)?;
    expect_eq!(area.read::<u64>(512) & bit, bit, "XSTATE_BV")?;
    expect_eq!(area.read::<u64>(520), 1 << 63 | bit, "XCOMP_BV")?;
    for (i, &number) in numbers.iter().enumerate() {
        expect_eq!(
            area.read::<u64>(576 + 8 * i),
            value(i),
            "image of MSR {number:#x}"
        )?;
        msr::write(number, 0)?;
    }
    restore.run(area.address(), bit)?;
    for (i, &number) in numbers.iter().enumerate() {
        expect_eq!(
            msr::read(number),
            Ok(value(i)),
            "MSR {number:#x} after XRSTORS"
        )?;
    }
    // Not in XSTATE_BV: the component goes to its initial state.
    area.write(512, 0u64);
    restore.run(area.address(), bit)?;
    for &number in numbers {
        expect_eq!(msr::read(number), Ok(0), "MSR {number:#x}, initial")?;
    }
    Ok(())
}

/// XRSTORS refuses an image that WRMSR would refuse.
#[case(
    spec = "SDM 1 13.12 XRSTORS",
    needs("x86.xsaves", "x86.cet_ss"),
    rows(
        reserved_bit: (USER, 0, 1 << 6),
        bitmap_address: (USER, 0, 1 << 63),
        user_ssp_alignment: (USER, 1, 1),
        user_ssp_address: (USER, 1, 1 << 63),
        supervisor_ssp_alignment: (SUPERVISOR, 0, 2),
        supervisor_ssp_address: (SUPERVISOR, 2, 1 << 63),
    )
)]
fn xrstors_checks_the_image(cet: &mut Cet, row: (Component, usize, u64)) -> Verdict {
    let _ = cet;
    let _xss = Xss::new()?;
    let ((bit, _), place, value) = row;
    listed(bit)?;
    msr::write(cet::XSS, bit)?;
    let area = Frames::new(1);
    area.write(512, bit);
    area.write(520, 1u64 << 63 | bit);
    let restore = Code::new(XRSTORS);
    expect_eq!(
        restore.run(area.address(), bit).map(|_| ()),
        Ok(()),
        "all zero"
    )?;
    area.write(576 + 8 * place, value);
    expect_eq!(
        restore.run(area.address(), bit).map(|_| ()),
        Err(Fault::GP0),
        "spoiled"
    )?;
    area.write(576 + 8 * place, 0u64);
    expect_eq!(
        restore.run(area.address(), bit).map(|_| ()),
        Ok(()),
        "mended"
    )
}
