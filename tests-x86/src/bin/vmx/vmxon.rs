//! Entering and leaving VMX operation. Spec: SDM 3C 24.7, 24.8, 31.3 VMXON, VMXOFF.
//!
//! VMXON is guarded three times: by the feature-control MSR, by CR4.VMXE, and by the values that
//! CR0 and CR4 must hold. Its operand is then checked in an order that decides between a fault
//! and VMfailInvalid. A hypervisor emulates all of it, because its guest's VMXON never reaches
//! the real processor.

use guest_lib::arch::code::Code;
use guest_lib::arch::registers::{Cr0, Cr4};
use guest_lib::arch::vmx::instructions::*;
use guest_lib::arch::vmx::{self, ReadyForVmxon, VmxOperation};
use guest_lib::arch::{cpu, msr};
use guest_lib::prelude::*;

/// VMXON with a good region succeeds, and VMXOFF ends what it began.
#[case(spec = "SDM 3C 31.3 VMXON")]
fn vmxon_begins_and_vmxoff_ends(ready: &mut ReadyForVmxon) -> Verdict {
    for _ in 0..2 {
        expect_eq!(vmxon(ready.region.address()), Ok(()))?;
        expect_eq!(vmptrst(), Ok(u64::MAX))?;
        expect_eq!(vmxoff(), Ok(()))?;
    }
    Ok(())
}

/// VMXON without CR4.VMXE is #UD.
#[case(spec = "SDM 3C 31.3 VMXON")]
fn vmxon_needs_vmxe(ready: &mut ReadyForVmxon) -> Verdict {
    Cr4::read().difference(Cr4::VMXE).write()?;
    let region = ready.region.address();
    expect_eq!(vmxon(region), Err(VmFail::Fault(Fault::UD)))?;
    (Cr4::read() | Cr4::VMXE).write()?;
    expect_eq!(vmxon(region), Ok(()))
}

/// VMXON at privilege level 3 is #GP(0) with CR4.VMXE, and #UD without.
#[case(spec = "SDM 3C 31.3 VMXON")]
fn vmxon_is_privileged(ready: &mut ReadyForVmxon) -> Verdict {
    // vmxon [rdi]
    let code = Code::new(&[0xf3, 0x0f, 0xc7, 0x37]);
    let pointer = guest_lib::memory::Frames::new(1);
    pointer.write(0, ready.region.address());
    expect_eq!(code.run_user(pointer.address(), 0), Err(Fault::GP0))?;
    Cr4::read().difference(Cr4::VMXE).write()?;
    expect_eq!(code.run_user(pointer.address(), 0), Err(Fault::UD))?;
    (Cr4::read() | Cr4::VMXE).write()?;
    expect!(code.run(pointer.address(), 0).is_ok(), "VMXON at level 0")
}

/// VMXON is #GP(0) while CR0 lacks a bit that VMX operation fixes to 1.
#[case(spec = "SDM 3C 24.8")]
fn vmxon_needs_the_fixed_bits_of_cr0(ready: &mut ReadyForVmxon) -> Verdict {
    let region = ready.region.address();
    let fixed = Cr0::from_bits_retain(vmx::capability(vmx::CR0_FIXED0));
    if !fixed.contains(Cr0::NE) {
        return fail!("VMX operation without CR0.NE fixed to 1: {fixed:?}");
    }
    // PE and PG stay: the payload lives on them.
    Cr0::read().difference(Cr0::NE).write()?;
    expect_eq!(vmxon(region), Err(VmFail::Fault(Fault::GP0)))?;
    (Cr0::read() | Cr0::NE).write()?;
    expect_eq!(vmxon(region), Ok(()))
}

/// In VMX operation, CR0.NE, CR0.PG and CR4.VMXE cannot be cleared.
#[case(
    spec = "SDM 3C 24.8",
    rows(
        cr0_ne: (0, Cr0::NE.bits()),
        cr0_pg: (0, Cr0::PG.bits()),
        cr4_vmxe: (4, Cr4::VMXE.bits()),
    )
)]
fn fixed_bits_hold_in_vmx_operation(vmx: &mut VmxOperation, row: (u32, u64)) -> Verdict {
    let _ = vmx;
    let (register, bit) = row;
    if register == 0 {
        let before = cpu::read_cr0();
        expect_eq!(cpu::write_cr0(before & !bit), Err(Fault::GP0))?;
        expect_eq!(cpu::read_cr0(), before)?;
        expect_eq!(cpu::write_cr0(before ^ Cr0::TS.bits()), Ok(()))?;
        expect_eq!(cpu::write_cr0(before), Ok(()))
    } else {
        let before = cpu::read_cr4();
        expect_eq!(cpu::write_cr4(before & !bit), Err(Fault::GP0))?;
        expect_eq!(cpu::read_cr4(), before)?;
        expect_eq!(cpu::write_cr4(before ^ Cr4::TSD.bits()), Ok(()))?;
        expect_eq!(cpu::write_cr4(before), Ok(()))
    }
}

/// VMXON fails without a VMCS when its region is misaligned or beyond the physical address width.
#[case(
    spec = "SDM 3C 31.3 VMXON",
    rows(
        bit_0: 1 << 0,
        bit_11: 1 << 11,
        beyond_the_width: vmx::address_limit(),
        bit_63: 1 << 63,
    )
)]
fn vmxon_checks_the_address(ready: &mut ReadyForVmxon, row: u64) -> Verdict {
    let region = ready.region.address();
    expect_eq!(vmxon(region | row), Err(VmFail::Invalid))?;
    expect_eq!(vmxon(region), Ok(()))
}

/// VMXON fails when the region does not start with the revision identifier, bit 31 clear.
#[case(spec = "SDM 3C 25.11.5", rows(bit_0: 1, bit_30: 1 << 30, bit_31: 1 << 31))]
fn vmxon_checks_the_revision(ready: &mut ReadyForVmxon, row: u32) -> Verdict {
    ready.region.write(0, vmx::revision() ^ row);
    expect_eq!(vmxon(ready.region.address()), Err(VmFail::Invalid))?;
    ready.region.write(0, vmx::revision());
    expect_eq!(vmxon(ready.region.address()), Ok(()))
}

/// A second VMXON fails: with number 15 when a VMCS is current, without a number otherwise.
#[case(spec = "SDM 3C 31.4")]
fn vmxon_fails_in_vmx_operation(vmx: &mut VmxOperation) -> Verdict {
    let region = vmx.region.address();
    expect_eq!(vmxon(region), Err(VmFail::Invalid))?;
    let _vmcs = vmx.current_vmcs()?;
    expect_eq!(vmxon(region), Err(VmFail::Valid(15)))?;
    expect_eq!(vmxon(1), Err(VmFail::Valid(15)), "no look at the operand")
}

/// Outside VMX operation every other VMX instruction is #UD.
#[case(
    spec = "SDM 3C 31.3",
    rows(
        vmcall: &[0x0f, 0x01, 0xc1],
        vmlaunch: &[0x0f, 0x01, 0xc2],
        vmresume: &[0x0f, 0x01, 0xc3],
        vmxoff: &[0x0f, 0x01, 0xc4],
        vmptrld: &[0x0f, 0xc7, 0x37],
        vmptrst: &[0x0f, 0xc7, 0x3f],
        vmclear: &[0x66, 0x0f, 0xc7, 0x37],
        vmread: &[0x0f, 0x78, 0xf0],
        vmwrite: &[0x0f, 0x79, 0xf0],
        invept: &[0x66, 0x0f, 0x38, 0x80, 0x37],
        invvpid: &[0x66, 0x0f, 0x38, 0x81, 0x37],
    )
)]
fn other_instructions_need_vmx_operation(ready: &mut ReadyForVmxon, row: &[u8]) -> Verdict {
    let code = Code::new(row);
    let pointer = guest_lib::memory::Frames::new(1);
    expect_eq!(
        code.run(pointer.address(), 0),
        Err(Fault::UD),
        "before VMXON"
    )?;
    vmxon(ready.region.address())?;
    vmxoff()?;
    expect_eq!(
        code.run(pointer.address(), 0),
        Err(Fault::UD),
        "after VMXOFF"
    )
}

/// In VMX operation, VMX instructions at privilege level 3 are #GP(0).
#[case(
    spec = "SDM 3C 31.3",
    rows(
        vmlaunch: &[0x0f, 0x01, 0xc2],
        vmresume: &[0x0f, 0x01, 0xc3],
        vmxoff: &[0x0f, 0x01, 0xc4],
        vmptrld: &[0x0f, 0xc7, 0x37],
        vmptrst: &[0x0f, 0xc7, 0x3f],
        vmclear: &[0x66, 0x0f, 0xc7, 0x37],
        vmread: &[0x0f, 0x78, 0xf0],
        vmwrite: &[0x0f, 0x79, 0xf0],
        vmxon: &[0xf3, 0x0f, 0xc7, 0x37],
    )
)]
fn instructions_are_privileged(vmx: &mut VmxOperation, row: &[u8]) -> Verdict {
    let code = Code::new(row);
    let vmcs = vmx.current_vmcs()?;
    let pointer = guest_lib::memory::Frames::new(1);
    pointer.write(0, vmcs.address());
    expect_eq!(code.run_user(pointer.address(), 0), Err(Fault::GP0))?;
    expect_eq!(vmptrst(), Ok(vmcs.address()))
}

/// VMCALL in root operation fails with number 1: there is no dual-monitor treatment here.
#[case(spec = "SDM 3C 31.4 VMCALL")]
fn vmcall_in_root_operation_fails(vmx: &mut VmxOperation) -> Verdict {
    expect_eq!(vmcall(), Err(VmFail::Invalid), "without a VMCS")?;
    let _vmcs = vmx.current_vmcs()?;
    expect_eq!(vmcall(), Err(VmFail::Valid(1)), "with a VMCS")
}

/// VMXON needs the lock bit and bit 2 of the feature-control MSR, which the lock makes final.
///
/// The lock lasts until reset, so this uses the last processor, which no other case locks.
#[case(spec = "SDM 3C 24.7 IA32_FEATURE_CONTROL", needs("x86.vmx", "cpus>=3"))]
fn feature_control_guards_vmxon() -> Verdict {
    let last = Cpu(cpus::count() - 1);
    let seen = cpus::run_on(last, || {
        if msr::read(msr::FEATURE_CONTROL)? & 1 != 0 {
            return Ok(None);
        }
        let region = vmx::region(vmx::revision());
        let old = cpu::read_cr4();
        cpu::write_cr4(old | Cr4::VMXE.bits())?;
        let mut seen = Vec::new();
        for value in [0, 4, 5] {
            let written = msr::write(msr::FEATURE_CONTROL, value);
            seen.push((written, vmxon(region.address())));
        }
        let _ = vmxoff();
        seen.push((msr::write(msr::FEATURE_CONTROL, 5), Ok(())));
        cpu::write_cr4(old)?;
        Ok::<_, Fault>(Some(seen))
    })??;
    let Some(seen) = seen else {
        return skip("x86.vmx.feature_control_unlocked");
    };
    let refused = (Ok(()), Err(VmFail::Fault(Fault::GP0)));
    expect_eq!(seen[0], refused, "unlocked, 0")?;
    expect_eq!(seen[1], refused, "bit 2 without the lock")?;
    expect_eq!(seen[2], (Ok(()), Ok(())), "bit 2 and the lock")?;
    expect_eq!(seen[3].0, Err(Fault::GP0), "WRMSR after the lock")
}
