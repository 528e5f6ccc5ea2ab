//! Events that VMRUN injects. Spec: APM 2 15.20, 15.7.2.
//!
//! EVENTINJ delivers one event through the guest's IDT before its first instruction, whatever the
//! guest's RFLAGS.IF says and whatever the host intercepts. VMRUN clears its valid bit. When the
//! delivery itself is interrupted, EXITINTINFO tells the host which event to deliver again.

use guest_lib::arch::paging::{FREE_BASE, P};
use guest_lib::arch::registers::Rflags;
use guest_lib::arch::svm::{Entry, ExitCode, NestedVm, Segment, field, intercept, l2};
use guest_lib::prelude::*;

const VALID: u64 = 1 << 31;
const WITH_ERROR: u64 = 1 << 11;
const INTERRUPT: u64 = 0;
const NMI: u64 = 2 << 8;
const EXCEPTION: u64 = 3 << 8;
const SOFTWARE: u64 = 4 << 8;

/// Counts in slot 0 and notes the interrupted RIP, RFLAGS and the error code.
fn counting(vector: u8) -> fault::Handler {
    fault::Handler::new(vector, |frame| {
        l2::count(0);
        l2::tell(1, frame.rip);
        l2::tell(2, frame.rflags);
        l2::tell(3, frame.error);
    })
}

/// The event reaches the guest's handler once, before its first instruction, and EVENTINJ.V is clear after.
#[case(
    spec = "APM 2 15.20 EVENTINJ",
    needs("x86.svm"),
    rows(
        external_interrupt: INTERRUPT | 0x64,
        external_interrupt_of_low_vector: INTERRUPT | 0x21,
        nmi: NMI | 2,
        software_interrupt: SOFTWARE | 0x65,
        exception_ud: EXCEPTION | 6,
        exception_de: EXCEPTION,
        exception_ac: EXCEPTION | WITH_ERROR | 17,
    )
)]
fn delivered(vm: &mut NestedVm, event: u64) -> Verdict {
    let _handler = counting(event as u8);
    vm.load(|| l2::tell(4, 1));
    let start = vm.rip();
    vm.vmcb.set(field::EVENT_INJ, VALID | event);
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(vm.told(0), 1, "deliveries")?;
    expect_eq!(vm.told(1), start, "interrupted RIP")?;
    expect_eq!(vm.told(2) & Rflags::IF.bits(), 0)?;
    expect_eq!(vm.told(4), 1)?;
    expect_eq!(vm.vmcb.get(field::EVENT_INJ) & VALID, 0, "EVENTINJ.V")?;
    // Nothing is left to deliver.
    vm.load(|| l2::tell(4, 2));
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(vm.told(0), 1)
}

/// Without the valid bit nothing is injected, whatever else EVENTINJ says.
#[case(spec = "APM 2 15.20 EVENTINJ", needs("x86.svm"))]
fn invalid_event_is_ignored(vm: &mut NestedVm) -> Verdict {
    for event in [
        0u64,
        0x64,
        1 << 8 | 0x64,
        7 << 8,
        EXCEPTION | 2,
        0x7fff_ffff,
    ] {
        vm.load(|| ());
        vm.vmcb.set(field::EVENT_INJ, event);
        expect_eq!(vm.enter(), Entry::VMMCALL, "{event:#x}")?;
    }
    Ok(())
}

/// The error code of EVENTINJ reaches the guest's handler.
#[case(
    spec = "APM 2 15.20 EVENTINJ",
    needs("x86.svm"),
    rows(gp: (13, 0x1234), pf: (14, 0x15), ts: (10, 0xfff8), df: (8, 0))
)]
fn error_code_is_delivered(vm: &mut NestedVm, row: (u8, u64)) -> Verdict {
    let _handler = counting(row.0);
    vm.load(|| ());
    let start = vm.rip();
    vm.vmcb.set(
        field::EVENT_INJ,
        row.1 << 32 | VALID | WITH_ERROR | EXCEPTION | u64::from(row.0),
    );
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(vm.told(0), 1, "deliveries")?;
    expect_eq!(vm.told(1), start)?;
    expect_eq!(vm.told(3), row.1, "error code")
}

/// An injected page fault shows the CR2 of the VMCB.
#[case(spec = "APM 2 15.20 EVENTINJ", needs("x86.svm"))]
fn injected_page_fault_uses_cr2_of_the_vmcb(vm: &mut NestedVm) -> Verdict {
    let _handler = fault::Handler::new(14, |_| l2::tell(0, guest_lib::arch::cpu::read_cr2()));
    vm.load(|| ());
    vm.vmcb.set(field::CR2, 0x1234_5678);
    vm.vmcb
        .set(field::EVENT_INJ, VALID | WITH_ERROR | EXCEPTION | 14);
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(vm.told(0), 0x1234_5678)
}

/// Intercepts do not see an injected event: it is delivered.
#[case(
    spec = "APM 2 15.20 EVENTINJ",
    needs("x86.svm"),
    rows(exception: EXCEPTION | 6, nmi: NMI | 2, interrupt: 0x66, software: SOFTWARE | 0x66)
)]
fn is_not_intercepted(vm: &mut NestedVm, event: u64) -> Verdict {
    let _handler = counting(event as u8);
    vm.load(|| ());
    vm.vmcb.set(field::INTERCEPT_EXCEPTION, u32::MAX);
    for bit in [
        intercept::INTR,
        intercept::NMI,
        intercept::INTN,
        intercept::VINTR,
    ] {
        vm.vmcb.intercept(bit, true);
    }
    vm.vmcb.set(field::EVENT_INJ, VALID | event);
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(vm.told(0), 1)
}

/// A fault while an injected event is delivered leaves the event in EXITINTINFO, and it can be injected again.
#[case(
    spec = "APM 2 15.7.2 EXITINTINFO",
    needs("x86.svm"),
    rows(
        external_interrupt: INTERRUPT | 0x67,
        nmi: NMI | 2,
        exception: EXCEPTION | 6,
        software_interrupt: SOFTWARE | 0x67,
        with_error_code: EXCEPTION | WITH_ERROR | 17 | 0x55 << 32,
    )
)]
fn interrupted_delivery_is_reported(vm: &mut NestedVm, event: u64) -> Verdict {
    let _handler = counting(event as u8);
    vm.load(|| ());
    let (start, stack) = (vm.rip(), vm.vmcb.get(field::RSP));
    let idt = vm.vmcb.get(Segment::IDTR.base());
    vm.vmcb.intercept_exception(14, true);
    vm.vmcb.set(Segment::IDTR.base(), FREE_BASE);
    vm.vmcb.set(field::EVENT_INJ, VALID | event);
    expect_eq!(vm.enter(), Entry::Exited(ExitCode::exception(14)))?;
    expect_eq!(
        vm.info2() & !0xf,
        FREE_BASE + 16 * (event & 0xff),
        "EXITINFO2: the gate"
    )?;
    let kept = VALID
        | WITH_ERROR
        | 0x7ff
        | if event & WITH_ERROR != 0 {
            0xffff_ffff << 32
        } else {
            0
        };
    expect_eq!(vm.int_info() & kept, VALID | event, "EXITINTINFO")?;
    expect_eq!(vm.rip(), start)?;
    expect_eq!(vm.vmcb.get(field::RSP), stack)?;
    expect_eq!(vm.told(0), 0)?;

    vm.vmcb.set(Segment::IDTR.base(), idt);
    vm.vmcb.set(field::EVENT_INJ, vm.int_info());
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(vm.told(0), 1)
}

/// A nested page fault while the guest's own exception is delivered leaves that exception in EXITINTINFO.
#[case(spec = "APM 2 15.7.2 EXITINTINFO", needs("x86.svm.npt"))]
fn nested_fault_during_delivery_is_reported(vm: &mut NestedVm) -> Verdict {
    vm.nest_paging();
    vm.load(l2::ud2);
    let idt = vm.vmcb.get(Segment::IDTR.base());
    vm.npt().update(idt, 1, |entry| entry & !P);
    expect_eq!(vm.enter(), Entry::Exited(ExitCode::NPF))?;
    expect_eq!(vm.info2() & !0xf, idt + 16 * 6)?;
    expect_eq!(
        vm.int_info() & 0xffff_ffff,
        VALID | EXCEPTION | 6,
        "EXITINTINFO"
    )?;

    // Mended, and the event delivered by hand.
    vm.npt().update(idt, 1, |entry| entry | P);
    vm.vmcb.set(field::EVENT_INJ, vm.int_info());
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(vm.fault(), Some(Fault::UD))
}

/// An intercepted page fault while the guest's own INT n is delivered reports a software interrupt.
#[case(spec = "APM 2 15.7.2 EXITINTINFO", needs("x86.svm"))]
fn interrupted_int_n_is_reported(vm: &mut NestedVm) -> Verdict {
    let start = vm.load_bytes(&[0x90, 0xcd, 0x68]);
    vm.vmcb.intercept_exception(14, true);
    vm.vmcb.set(Segment::IDTR.base(), FREE_BASE);
    expect_eq!(vm.enter(), Entry::Exited(ExitCode::exception(14)))?;
    expect_eq!(
        vm.int_info() & (VALID | 0x7ff),
        VALID | SOFTWARE | 0x68,
        "EXITINTINFO"
    )?;
    expect_eq!(vm.rip(), start + 1, "RIP: INT n has not completed")
}

/// An ordinary exit has no event in EXITINTINFO, also right after one that had.
#[case(spec = "APM 2 15.7.2 EXITINTINFO", needs("x86.svm"))]
fn ordinary_exit_reports_no_event(vm: &mut NestedVm) -> Verdict {
    vm.vmcb.set(field::EXIT_INT_INFO, VALID | EXCEPTION | 6);
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(vm.int_info() & VALID, 0)
}

/// An event is injected into a guest in an interrupt shadow too.
#[case(spec = "APM 2 15.20 EVENTINJ", needs("x86.svm"))]
fn interrupt_shadow_does_not_stop_injection(vm: &mut NestedVm) -> Verdict {
    let _handler = counting(0x69);
    vm.load(|| ());
    vm.vmcb.set(field::INT_STATE, 1);
    vm.vmcb.set(field::EVENT_INJ, VALID | 0x69);
    expect_eq!(vm.enter(), Entry::VMMCALL)?;
    expect_eq!(vm.told(0), 1)
}
