//! The capability MSRs agree with the manual and with each other. Spec: SDM 3C Appendix A.
//!
//! A hypervisor builds them by hand from what it can nest. A host believes them: an impossible
//! set makes it refuse to start, or set a bit that the entry then refuses.

use guest_lib::arch::registers::{Cr0, Cr4};
use guest_lib::arch::vmx::controls::{self, allowed};
use guest_lib::arch::vmx::vmcs::Field;
use guest_lib::arch::vmx::{self, capability};
use guest_lib::arch::{cpuid, msr};
use guest_lib::prelude::*;

/// IA32_VMX_BASIC: revision bit 31 is 0, the region fits a page, the memory type is known.
#[case(spec = "SDM 3C A.1 IA32_VMX_BASIC", needs("x86.vmx"))]
fn basic_is_sound() -> Verdict {
    let basic = msr::read(vmx::BASIC)?;
    expect_eq!(basic >> 31 & 1, 0, "bit 31")?;
    let size = basic >> 32 & 0x1fff;
    expect!((1..=4096).contains(&size), "region size {size:#x}")?;
    let memory_type = basic >> 50 & 0xf;
    expect!(matches!(memory_type, 0 | 6), "memory type {memory_type}")?;
    expect_eq!(basic >> 48 & 1, 0, "32-bit addresses on a 64-bit processor")?;
    expect_eq!(basic & (7 << 45 | 0x1f << 59), 0, "reserved bits")
}

/// Capability MSRs are read-only.
#[case(
    spec = "SDM 3C A.1",
    needs("x86.vmx"),
    rows(basic: vmx::BASIC, misc: vmx::MISC, cr0_fixed0: vmx::CR0_FIXED0, vmcs_enum: vmx::VMCS_ENUM)
)]
fn capability_msrs_are_read_only(row: u32) -> Verdict {
    let value = msr::read(row)?;
    expect_eq!(msr::write(row, value), Err(Fault::GP0))?;
    expect_eq!(msr::read(row), Ok(value))
}

/// A bit that must be 1 may be 1, in the plain and in the TRUE form, and TRUE asks for no more.
#[case(
    spec = "SDM 3C A.2",
    needs("x86.vmx"),
    rows(
        pin: (0x481, 0x48d, 0x16),
        primary: (0x482, 0x48e, 0x0401_e172),
        exit: (0x483, 0x48f, 0x0003_6dff),
        entry: (0x484, 0x490, 0x0000_11ff),
    )
)]
fn required_controls_are_allowed(row: (u32, u32, u64)) -> Verdict {
    let (plain, exact, default1) = row;
    let plain = msr::read(plain)?;
    expect_eq!(
        plain & !(plain >> 32) & 0xffff_ffff,
        0,
        "must be 1, may not be 1"
    )?;
    expect_eq!(plain & default1, default1, "default1 bits must be 1")?;
    expect_eq!(plain >> 32 & default1, default1, "default1 bits may be 1")?;
    if !controls::has_true() {
        return expect_eq!(
            msr::read(exact),
            Err(Fault::GP0),
            "TRUE form without BASIC[55]"
        );
    }
    let exact = msr::read(exact)?;
    expect_eq!(exact >> 32, plain >> 32, "TRUE form: may be 1")?;
    expect_eq!(
        exact & !plain & 0xffff_ffff,
        0,
        "TRUE form: must be 1 beyond the plain form"
    )
}

/// No secondary control must be 1.
#[case(spec = "SDM 3C A.3.3", needs("x86.vmx.secondary_controls"))]
fn secondary_controls_may_be_clear() -> Verdict {
    expect_eq!(msr::read(0x48b)? & 0xffff_ffff, 0)
}

/// Controls that build on others are offered together with them.
#[case(
    spec = "SDM 3C 27.2.1.1",
    needs("x86.vmx"),
    rows(
        unrestricted_guest: (controls::UNRESTRICTED_GUEST, controls::EPT),
        virtual_nmis: (controls::VIRTUAL_NMIS, controls::NMI_EXITING),
        virtual_interrupts: (controls::VIRTUAL_INTERRUPTS, controls::TPR_SHADOW),
        apic_registers: (controls::APIC_REGISTERS, controls::TPR_SHADOW),
        x2apic_mode: (controls::X2APIC_MODE, controls::TPR_SHADOW),
        posted_interrupts: (controls::POSTED_INTERRUPTS, controls::VIRTUAL_INTERRUPTS),
        pml: (controls::PML, controls::EPT),
        virtualization_exceptions: (controls::VIRTUALIZATION_EXCEPTIONS, controls::EPT),
        save_preemption_timer: (controls::SAVE_PREEMPTION_TIMER, controls::PREEMPTION_TIMER),
    )
)]
fn dependent_controls_are_offered_together(row: (controls::Control, controls::Control)) -> Verdict {
    let (control, base) = row;
    expect!(
        !control.is_offered() || base.is_offered(),
        "{control:?} without {base:?}"
    )?;
    // The set must be offered in one field value at least.
    expect!(
        allowed(Field::PIN_CONTROLS).1 & 9 == 9,
        "interrupt and NMI exiting"
    )
}

/// IA32_VMX_MISC: EFER.LMA is saved with unrestricted guests; CR3 targets and reserved bits.
#[case(spec = "SDM 3C A.6 IA32_VMX_MISC", needs("x86.vmx"))]
fn misc_is_sound() -> Verdict {
    let misc = msr::read(vmx::MISC)?;
    if controls::UNRESTRICTED_GUEST.is_offered() {
        expect_eq!(misc >> 5 & 1, 1, "bit 5 with unrestricted guests")?;
    }
    expect!(
        misc >> 16 & 0x1ff <= 256,
        "{} CR3 targets",
        misc >> 16 & 0x1ff
    )?;
    expect_eq!(misc & (0x1f << 9 | 1 << 31), 0, "reserved bits")
}

/// CR0 and CR4: what must be 1 may be 1, and the current values satisfy both.
#[case(spec = "SDM 3C A.7", needs("x86.vmx"))]
fn fixed_bits_are_sound() -> Verdict {
    for (fixed0, fixed1, name) in [
        (vmx::CR0_FIXED0, vmx::CR0_FIXED1, "CR0"),
        (vmx::CR4_FIXED0, vmx::CR4_FIXED1, "CR4"),
    ] {
        let (zero, one) = (msr::read(fixed0)?, msr::read(fixed1)?);
        expect_eq!(zero & !one, 0, "{name}: must be 1, may not be 1")?;
    }
    let cr0 = Cr0::PE | Cr0::NE | Cr0::PG;
    expect_eq!(
        capability(vmx::CR0_FIXED0) & cr0.bits(),
        cr0.bits(),
        "CR0 fixed to 1"
    )?;
    expect_eq!(
        capability(vmx::CR4_FIXED0) & Cr4::VMXE.bits(),
        Cr4::VMXE.bits(),
        "CR4.VMXE"
    )?;
    expect_eq!(
        Cr0::read().bits() & !capability(vmx::CR0_FIXED1),
        0,
        "CR0 now"
    )?;
    expect_eq!(
        Cr4::read().bits() & !capability(vmx::CR4_FIXED1),
        0,
        "CR4 now"
    )
}

/// IA32_VMX_CR4_FIXED1 allows exactly features that CPUID announces.
#[case(
    spec = "SDM 3C A.8 IA32_VMX_CR4_FIXED1",
    needs("x86.vmx"),
    rows(
        pcide: (Cr4::PCIDE, 1, 2, 17),
        smep: (Cr4::SMEP, 7, 1, 7),
        smap: (Cr4::SMAP, 7, 1, 20),
        fsgsbase: (Cr4::FSGSBASE, 7, 1, 0),
        umip: (Cr4::UMIP, 7, 2, 2),
        osxsave: (Cr4::OSXSAVE, 1, 2, 26),
        pke: (Cr4::PKE, 7, 2, 3),
        la57: (Cr4::LA57, 7, 2, 16),
    )
)]
fn cr4_bits_follow_cpuid(row: (Cr4, u32, u32, u32)) -> Verdict {
    let (bit, leaf, register, number) = row;
    let leaf = cpuid::query(leaf, 0);
    let announced = [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx][register as usize] >> number & 1 != 0;
    let allowed = capability(vmx::CR4_FIXED1) & bit.bits() != 0;
    expect_eq!(allowed, announced, "{bit:?} in CR4_FIXED1")
}

/// IA32_VMX_EPT_VPID_CAP: each INVEPT and INVVPID type comes with its instruction.
#[case(spec = "SDM 3C A.10 IA32_VMX_EPT_VPID_CAP", needs("x86.vmx.ept"))]
fn ept_and_vpid_capabilities_are_sound() -> Verdict {
    let cap = msr::read(vmx::EPT_VPID_CAP)?;
    let bit = |n: u32| cap >> n & 1 != 0;
    expect!(bit(6), "page-walk length 4")?;
    expect!(bit(8) || bit(14), "a memory type for the tables")?;
    expect!(
        bit(20) || !(bit(25) || bit(26)),
        "INVEPT types without INVEPT"
    )?;
    expect!(!bit(20) || bit(25) || bit(26), "INVEPT without a type")?;
    expect!(
        bit(32) || cap >> 40 & 0xf == 0,
        "INVVPID types without INVVPID"
    )?;
    expect!(!bit(32) || cap >> 40 & 0xf != 0, "INVVPID without a type")?;
    expect_eq!(
        cap & (0x3e | 0x3 << 10 | 0x3 << 12 | 1 << 15),
        0,
        "reserved bits"
    )
}
