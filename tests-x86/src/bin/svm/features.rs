//! Optional features, each behind its CPUID bit. Spec: APM 2 15.8, 15.14.4, 15.23, 15.7.1.
//!
//! Next RIP, LBR virtualization and the PAUSE filter came later, one by one. A hypervisor that
//! announces one must do all of it.

use guest_lib::arch::msr;
use guest_lib::arch::svm::{Entry, ExitCode, NestedVm, Segment, field, intercept, l2};
use guest_lib::prelude::*;

const LBR: u64 = 1;

/// An intercepted instruction saves the address of the next one.
#[case(
    spec = "APM 2 15.7.1 nRIP",
    needs("x86.svm.nrips"),
    rows(
        cpuid: (intercept::CPUID, ExitCode::CPUID, &[0x0f, 0xa2]),
        prefixed_cpuid: (intercept::CPUID, ExitCode::CPUID, &[0x66, 0x48, 0x0f, 0xa2]),
        rdtsc: (intercept::RDTSC, ExitCode::RDTSC, &[0x0f, 0x31]),
        pause: (intercept::PAUSE, ExitCode::PAUSE, &[0xf3, 0x90]),
        hlt: (intercept::HLT, ExitCode::HLT, &[0xf4]),
        vmmcall: (intercept::VMMCALL, ExitCode::VMMCALL, &[0x0f, 0x01, 0xd9]),
        invlpg: (intercept::INVLPG, ExitCode::INVLPG, &[0x0f, 0x01, 0x3c, 0x25, 0, 0, 0, 0]),
        wbinvd: (intercept::WBINVD, ExitCode::WBINVD, &[0x0f, 0x09]),
        rdmsr: (intercept::MSR, ExitCode::MSR, &[0x0f, 0x32]),
    )
)]
fn next_rip(vm: &mut NestedVm, row: (u32, ExitCode, &'static [u8])) -> Verdict {
    vm.vmcb.intercept(row.0, true);
    vm.msrpm().bytes_mut().fill(0xff);
    let start = vm.load_bytes(row.2);
    vm.vmcb.set(field::NRIP, 0);
    expect_eq!(vm.enter(), Entry::Exited(row.1))?;
    expect_eq!(vm.vmcb.get(field::NRIP), start + row.2.len() as u64, "nRIP")
}

/// A software interrupt injected with nRIP returns there.
#[case(spec = "APM 2 15.20 EVENTINJ", needs("x86.svm.nrips"))]
fn injected_software_interrupt_returns_to_next_rip(vm: &mut NestedVm) -> Verdict {
    let _handler = fault::Handler::new(0x6a, |frame| {
        l2::count(0);
        l2::tell(1, frame.rip);
    });
    // int 6ah; int 6ah: the first is skipped by nRIP.
    let start = vm.load_bytes(&[0xcd, 0x6a, 0x90]);
    vm.vmcb.set(field::NRIP, start + 2);
    vm.vmcb.set(field::EVENT_INJ, 1 << 31 | 4 << 8 | 0x6a);
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(vm.told(1), start + 2, "return address")?;
    expect_eq!(vm.told(0), 1, "deliveries")
}

/// With LBR virtualization the guest's DebugCtl is its own, loaded from the VMCB and saved there.
#[case(
    spec = "APM 2 15.23.1 LBR_VIRTUALIZATION_ENABLE",
    needs("x86.svm.lbrv")
)]
fn debugctl_is_virtual_with_lbrv(vm: &mut NestedVm) -> Verdict {
    let before = msr::read(msr::DEBUGCTL)?;
    vm.vmcb.update(field::VIRT_EXT, |old| old | LBR);
    vm.vmcb.set(field::DBGCTL, 0);
    let entry = vm.run(|| {
        l2::tell(0, 1 + msr::read(msr::DEBUGCTL).unwrap_or(u64::MAX - 1));
        l2::tell(1, u64::from(msr::write(msr::DEBUGCTL, LBR).is_ok()));
    });
    let host = msr::read(msr::DEBUGCTL)?;
    msr::write(msr::DEBUGCTL, before)?;
    expect_eq!(entry, Entry::VMMCALL)?;
    expect_eq!(
        (vm.told(0), vm.told(1)),
        (1, 1),
        "the guest's DebugCtl plus 1, and its write"
    )?;
    expect_eq!(
        vm.vmcb.get(field::DBGCTL) & LBR,
        LBR,
        "DebugCtl in the VMCB"
    )?;
    expect_eq!(host, before, "DebugCtl in the host")
}

/// Without LBR virtualization there is one DebugCtl: what the guest writes, the host reads.
#[case(
    spec = "APM 2 15.23.1 LBR_VIRTUALIZATION_ENABLE",
    needs("x86.svm.lbrv")
)]
fn debugctl_is_shared_without_lbrv(vm: &mut NestedVm) -> Verdict {
    let before = msr::read(msr::DEBUGCTL)?;
    vm.vmcb.update(field::VIRT_EXT, |old| old & !LBR);
    vm.vmcb.set(field::DBGCTL, 0);
    let entry = vm.run(|| l2::tell(1, u64::from(msr::write(msr::DEBUGCTL, LBR).is_ok())));
    let host = msr::read(msr::DEBUGCTL)?;
    msr::write(msr::DEBUGCTL, before)?;
    expect_eq!(entry, Entry::VMMCALL)?;
    expect_eq!(vm.told(1), 1)?;
    expect_eq!(host & LBR, LBR, "DebugCtl in the host")
}

/// The PAUSE filter lets as many PAUSEs pass as it counts, and then exits.
#[case(spec = "APM 2 15.14.4 PAUSE", needs("x86.svm.pause_filter"))]
fn pause_filter_counts(vm: &mut NestedVm) -> Verdict {
    vm.vmcb.intercept(intercept::PAUSE, true);
    let ten = [0xf3, 0x90].repeat(10);
    for (count, expected) in [
        (0u16, Entry::Exited(ExitCode::PAUSE)),
        (9, Entry::Exited(ExitCode::PAUSE)),
        (20, Entry::VMMCALL),
    ] {
        vm.vmcb.set(field::PAUSE_COUNT, count);
        vm.load_bytes(&ten);
        expect_eq!(vm.enter(), expected, "count {count}, ten PAUSEs")?;
    }
    vm.vmcb.intercept(intercept::PAUSE, false);
    vm.vmcb.set(field::PAUSE_COUNT, 0);
    vm.load_bytes(&ten);
    expect_eq!(vm.enter(), Entry::VMMCALL, "not intercepted")
}

/// Features that are absent leave their fields alone: nRIP, DebugCtl and the filter count are not used.
#[case(spec = "APM 2 15.5.1 VMRUN", needs("x86.svm"))]
fn unknown_controls_do_not_stop_the_guest(vm: &mut NestedVm) -> Verdict {
    vm.vmcb.set(field::NRIP, 0xdead_beef);
    vm.vmcb.set(field::PAUSE_COUNT, 7);
    vm.vmcb.set(field::PAUSE_THRESHOLD, 7);
    vm.vmcb.set(field::EXIT_INFO_1, u64::MAX);
    vm.vmcb.set(field::EXIT_INFO_2, u64::MAX);
    vm.vmcb.set(Segment::GDTR.attributes(), 0xffff);
    vm.vmcb.set(Segment::GDTR.selector(), 0xffff);
    expect_eq!(vm.run(|| l2::tell(0, 1)), Entry::VMMCALL)?;
    expect_eq!(vm.told(0), 1)
}
