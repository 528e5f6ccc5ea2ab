//! MSR intercepts. Spec: APM 2 15.11.
//!
//! The MSR permission map holds two bits, read and write, for each of three ranges of 8192 MSRs.
//! What lies outside them always exits while the intercept is on. EXITINFO1 tells RDMSR from WRMSR.

use guest_lib::arch::msr;
use guest_lib::arch::svm::{Entry, ExitCode, NestedVm, field, intercept};
use guest_lib::prelude::*;

const RDMSR: &[u8] = &[0x0f, 0x32];
const WRMSR: &[u8] = &[0x0f, 0x30];

/// Executes RDMSR or WRMSR with `number`; its own #GP would exit as one.
fn access(vm: &mut NestedVm, bytes: &[u8], number: u32) -> Entry {
    vm.vmcb.intercept_exception(13, true);
    vm.load_bytes(bytes);
    vm.gprs.rcx = u64::from(number);
    vm.enter()
}

/// The first and last MSR of each range exit by their own two bits.
#[case(
    spec = "APM 2 15.11",
    needs("x86.svm"),
    rows(
        first_of_range_1: 0,
        last_of_range_1: 0x1fff,
        first_of_range_2: 0xc000_0000,
        last_of_range_2: 0xc000_1fff,
        first_of_range_3: 0xc001_0000,
        last_of_range_3: 0xc001_1fff,
        middle_of_range_1: 0x277,
        middle_of_range_2: 0xc000_0103,
        middle_of_range_3: 0xc001_0117,
    )
)]
fn map_bits(vm: &mut NestedVm, number: u32) -> Verdict {
    vm.vmcb.intercept(intercept::MSR, true);
    vm.trap_msr(number, true, false);
    expect_eq!(
        access(vm, RDMSR, number),
        Entry::Exited(ExitCode::MSR),
        "read"
    )?;
    expect_eq!(vm.info1(), 0, "EXITINFO1 of a read")?;
    vm.trap_msr(number, false, true);
    expect_eq!(
        access(vm, WRMSR, number),
        Entry::Exited(ExitCode::MSR),
        "write"
    )?;
    expect_eq!(vm.info1(), 1, "EXITINFO1 of a write")?;

    // All bits but the read bit: the read reaches the register, or its #GP.
    vm.msrpm().bytes_mut().fill(0xff);
    vm.trap_msr(number, false, true);
    expect_ne!(
        access(vm, RDMSR, number),
        Entry::Exited(ExitCode::MSR),
        "read with its bit clear"
    )
}

/// An MSR outside the three ranges exits whatever the map says.
#[case(spec = "APM 2 15.11", needs("x86.svm"))]
fn numbers_outside_the_ranges_always_exit(vm: &mut NestedVm) -> Verdict {
    vm.vmcb.intercept(intercept::MSR, true);
    for number in [
        0x2000,
        0xbfff_ffff,
        0xc000_2000,
        0xc000_ffff,
        0xc001_2000,
        0xffff_ffff,
        0x8000_0000,
    ] {
        expect_eq!(
            access(vm, RDMSR, number),
            Entry::Exited(ExitCode::MSR),
            "read of {number:#x}"
        )?;
        expect_eq!(vm.info1(), 0)?;
        expect_eq!(
            access(vm, WRMSR, number),
            Entry::Exited(ExitCode::MSR),
            "write of {number:#x}"
        )?;
        expect_eq!(vm.info1(), 1)?;
    }
    Ok(())
}

/// With the MSR intercept clear the map is not looked at.
#[case(spec = "APM 2 15.11", needs("x86.svm"))]
fn map_counts_only_with_the_intercept(vm: &mut NestedVm) -> Verdict {
    vm.msrpm().bytes_mut().fill(0xff);
    expect_eq!(access(vm, RDMSR, msr::EFER), Entry::VMMCALL)?;
    vm.vmcb.intercept(intercept::MSR, true);
    expect_eq!(access(vm, RDMSR, msr::EFER), Entry::Exited(ExitCode::MSR))
}

/// A read that is let through returns the guest's value of the register.
#[case(spec = "APM 2 15.11", needs("x86.svm"))]
fn untrapped_read_returns_the_guests_value(vm: &mut NestedVm) -> Verdict {
    vm.vmcb.intercept(intercept::MSR, true);
    vm.vmcb.set(field::LSTAR, 0x1234_5678);
    expect_eq!(access(vm, RDMSR, msr::LSTAR), Entry::VMMCALL)?;
    expect_eq!(vm.vmcb.get(field::RAX), 0x1234_5678)?;
    expect_eq!(vm.gprs.rdx, 0)
}

/// An intercepted RDMSR leaves RAX and RDX alone; an intercepted WRMSR leaves the register alone.
#[case(spec = "APM 2 15.11", needs("x86.svm"))]
fn intercepted_access_changes_nothing(vm: &mut NestedVm) -> Verdict {
    vm.vmcb.intercept(intercept::MSR, true);
    vm.trap_msr(msr::LSTAR, true, true);
    vm.vmcb.set(field::LSTAR, 0x1234_5678);
    for bytes in [RDMSR, WRMSR] {
        vm.load_bytes(bytes);
        vm.gprs.rcx = u64::from(msr::LSTAR);
        vm.gprs.rdx = 0x77;
        vm.vmcb.set(field::RAX, 0x1_0000_0088);
        expect_eq!(vm.enter(), Entry::Exited(ExitCode::MSR))?;
        expect_eq!(vm.vmcb.get(field::RAX), 0x1_0000_0088)?;
        expect_eq!(vm.gprs.rdx, 0x77)?;
        expect_eq!(vm.resume_after(2), Entry::VMMCALL)?;
        expect_eq!(vm.vmcb.get(field::LSTAR), 0x1234_5678)?;
    }
    Ok(())
}

/// Only the low half of RCX selects the MSR.
#[case(spec = "APM 2 15.11", needs("x86.svm"))]
fn upper_half_of_rcx_is_ignored(vm: &mut NestedVm) -> Verdict {
    vm.vmcb.intercept(intercept::MSR, true);
    vm.load_bytes(RDMSR);
    vm.gprs.rcx = 0xdead_0000_0000_0000 | u64::from(msr::EFER);
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    vm.trap_msr(msr::EFER, true, false);
    vm.load_bytes(RDMSR);
    vm.gprs.rcx = 0xdead_0000_0000_0000 | u64::from(msr::EFER);
    expect_eq!(vm.enter(), Entry::Exited(ExitCode::MSR))
}
