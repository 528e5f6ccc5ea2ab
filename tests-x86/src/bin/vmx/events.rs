//! Event injection. Spec: SDM 3C 27.2.1.3, 27.6, 28.2.4.
//!
//! An injected event is delivered through the guest's IDT as if it had just happened. When its
//! delivery causes an exit, the IDT-vectoring field must name the event, so that the host can
//! inject it again. A hypervisor that nests must carry this through two levels, and an event
//! lost or doubled is a guest hang that nobody can reproduce.

use guest_lib::arch::registers::{Cr0, Rflags};
use guest_lib::arch::vmx::nested_vm::{Entry, NestedVm, Reason};
use guest_lib::arch::vmx::vmcs::Field;
use guest_lib::arch::vmx::{self, BASIC, capability, controls};
use guest_lib::prelude::*;

const VALID: u64 = 1 << 31;
const ERROR: u64 = 1 << 11;
const HARDWARE: u64 = 3 << 8;

/// The entry-event field set to `event`, with delivery into an empty IDT and all faults exits.
fn inject(vm: &mut NestedVm, event: u64, length: u64) -> Entry {
    vm.rewind();
    vm.set(Field::GUEST_IDTR_LIMIT, 0);
    vm.set(Field::GUEST_RFLAGS, 2 | Rflags::IF.bits());
    vm.set(Field::ENTRY_EVENT, event);
    vm.set(Field::ENTRY_EVENT_ERROR, 0);
    vm.set(Field::ENTRY_INSTRUCTION_LENGTH, length);
    vm.enter()
}

/// Delivery met the empty IDT: the event was accepted.
fn accepted(entry: Entry) -> bool {
    entry.reason() == Some(Reason::EXCEPTION_OR_NMI)
}

/// An injected #GP whose delivery meets an absent gate exits with the event in IDT-vectoring.
#[case(spec = "SDM 3C 28.2.4")]
fn fault_in_delivery_names_the_injected_event(vm: &mut NestedVm) -> Verdict {
    vm.set(Field::ENTRY_EVENT, VALID | ERROR | HARDWARE | 13);
    vm.set(Field::ENTRY_EVENT_ERROR, 0x1234);
    vm.set(Field::GUEST_IDTR_LIMIT, 13 * 16 - 1);
    expect_eq!(vm.enter(), Entry::exited(Reason::EXCEPTION_OR_NMI, 0))?;
    // The bitmap takes the second #GP before the two become a double fault.
    expect_eq!(vm.get(Field::EXIT_EVENT), VALID | ERROR | HARDWARE | 13)?;
    // Its error code names gate 13 of the IDT, and an event external to the program.
    expect_eq!(vm.get(Field::EXIT_EVENT_ERROR), 13 << 3 | 2 | 1)?;
    expect_eq!(vm.get(Field::IDT_VECTORING), VALID | ERROR | HARDWARE | 13)?;
    expect_eq!(vm.get(Field::IDT_VECTORING_ERROR), 0x1234)?;
    expect_eq!(
        vm.get(Field::ENTRY_EVENT) >> 31,
        0,
        "the exit clears the valid bit"
    )
}

/// An event's kind: its field, the instruction length, the error code that must arrive.
type Kind = (u64, u64, Option<u64>);

/// Each type of event is delivered to the guest's handler, with the right RIP and error code.
#[case(
    spec = "SDM 3C 27.6.1.1",
    rows(
        external_interrupt: (VALID | 0x81 + 0x10, 0, None),
        nmi: (VALID | 2 << 8 | 2, 0, None),
        divide_error: (VALID | HARDWARE, 0, None),
        general_protection: (VALID | ERROR | HARDWARE | 13, 0, Some(0x54)),
        page_fault: (VALID | ERROR | HARDWARE | 14, 0, Some(0x15)),
        software_interrupt: (VALID | 4 << 8 | 0x92, 2, None),
        icebp: (VALID | 5 << 8 | 1, 1, None),
        int3: (VALID | 6 << 8 | 3, 1, None),
    )
)]
fn injected_event_is_delivered(vm: &mut NestedVm, row: Kind) -> Verdict {
    let (event, length, error) = row;
    vm.code(&[0x90, 0x90, 0x90]);
    let handler = fault::Handler::new(event as u8, |frame| {
        frame.r12 = frame.error;
        frame.r13 = frame.rip;
        frame.r14 += 1;
    });
    vm.set(Field::EXCEPTION_BITMAP, 0);
    vm.set(Field::GUEST_RFLAGS, 2 | Rflags::IF.bits());
    vm.set(Field::ENTRY_EVENT, event);
    vm.set(Field::ENTRY_EVENT_ERROR, error.unwrap_or(0));
    vm.set(Field::ENTRY_INSTRUCTION_LENGTH, length);
    vm.registers.r14 = 0;
    let got = vm.enter();
    drop(handler);
    expect_eq!(got, Entry::DONE)?;
    expect_eq!(vm.registers.r14, 1, "deliveries")?;
    expect_eq!(vm.registers.r12, error.unwrap_or(0), "error code")?;
    // Software events return behind their instruction, which the length describes.
    expect_eq!(vm.registers.r13, vm.start() + length, "return address")
}

/// An injected exception is not subject to the exception bitmap.
#[case(spec = "SDM 3C 27.6.1.2")]
fn injected_event_ignores_the_exception_bitmap(vm: &mut NestedVm) -> Verdict {
    let handler = fault::Handler::new(6, |frame| frame.r12 = 6);
    vm.set(Field::EXCEPTION_BITMAP, 0xffff_ffff);
    vm.set(Field::ENTRY_EVENT, VALID | HARDWARE | 6);
    vm.registers.r12 = 0;
    let got = vm.enter();
    drop(handler);
    expect_eq!(got, Entry::DONE)?;
    expect_eq!(vm.registers.r12, 6)
}

/// A refused entry leaves the event in place.
#[case(spec = "SDM 3C 27.8")]
fn failed_entry_keeps_the_event(vm: &mut NestedVm) -> Verdict {
    let event = VALID | HARDWARE | 6;
    vm.set(Field::ENTRY_EVENT, event);
    vm.set(Field::GUEST_RFLAGS, 0);
    expect_eq!(vm.enter(), Entry::BAD_GUEST)?;
    expect_eq!(vm.get(Field::ENTRY_EVENT), event)?;
    expect!(accepted(inject(vm, event, 0)), "mended")
}

/// Types 1 and 7 (without a monitor trap flag) are refused.
#[case(spec = "SDM 3C 27.2.1.3")]
fn event_type_is_checked(vm: &mut NestedVm) -> Verdict {
    expect_eq!(
        inject(vm, VALID | 1 << 8 | 0x30, 0),
        Entry::BAD_CONTROLS,
        "type 1"
    )?;
    for vector in [1, 2, 0xff] {
        let got = inject(vm, VALID | 7 << 8 | vector, 0);
        expect_eq!(got, Entry::BAD_CONTROLS, "type 7, vector {vector}")?;
    }
    expect!(accepted(inject(vm, VALID | 0x30, 0)), "type 0")
}

/// An NMI has vector 2, a hardware exception a vector below 32.
#[case(spec = "SDM 3C 27.2.1.3")]
fn event_vector_fits_its_type(vm: &mut NestedVm) -> Verdict {
    for vector in [0, 1, 3, 18, 0x82] {
        let got = inject(vm, VALID | 2 << 8 | vector, 0);
        expect_eq!(got, Entry::BAD_CONTROLS, "NMI, vector {vector}")?;
    }
    expect!(accepted(inject(vm, VALID | 2 << 8 | 2, 0)), "NMI, vector 2")?;
    for vector in [32, 33, 0x80, 0xff] {
        let got = inject(vm, VALID | HARDWARE | vector, 0);
        expect_eq!(got, Entry::BAD_CONTROLS, "exception, vector {vector}")?;
    }
    expect!(
        accepted(inject(vm, VALID | HARDWARE | 6, 0)),
        "exception, vector 6"
    )
}

/// Bits 30:12 of the event are reserved.
#[case(spec = "SDM 3C 27.2.1.3")]
fn event_reserved_bits_are_refused(vm: &mut NestedVm) -> Verdict {
    // Bit 13 belongs to nested exceptions of newer processors.
    for bit in (12..31).filter(|&bit| bit != 13) {
        let got = inject(vm, VALID | HARDWARE | 6 | 1 << bit, 0);
        expect_eq!(got, Entry::BAD_CONTROLS, "bit {bit}")?;
    }
    expect!(accepted(inject(vm, VALID | HARDWARE | 6, 0)), "no such bit")
}

/// Only hardware exceptions may deliver an error code.
#[case(
    spec = "SDM 3C 27.2.1.3",
    rows(
        external_interrupt: (0x30, 0), nmi: (2 << 8 | 2, 0), software_interrupt: (4 << 8 | 0x30, 2),
        privileged_software_exception: (5 << 8 | 1, 1), software_exception: (6 << 8 | 3, 1),
    )
)]
fn error_code_belongs_to_hardware_exceptions(vm: &mut NestedVm, row: (u64, u64)) -> Verdict {
    let (event, length) = row;
    expect_eq!(
        inject(vm, VALID | ERROR | event, length),
        Entry::BAD_CONTROLS
    )?;
    expect!(
        accepted(inject(vm, VALID | event, length)),
        "without an error code"
    )
}

/// The error code is there exactly for the vectors that have one.
#[case(spec = "SDM 3C 27.2.1.3")]
fn error_code_fits_the_vector(vm: &mut NestedVm) -> Verdict {
    // With BASIC[56] the processor does not check.
    let checked = capability(BASIC) >> 56 & 1 == 0;
    for vector in 0..32u64 {
        // Vector 21 is checked by CPUs with CET only, 2 is no exception.
        if matches!(vector, 2 | 21) {
            continue;
        }
        let has_error = matches!(vector, 8 | 10..=14 | 17);
        for given in [false, true] {
            let event = VALID | HARDWARE | vector | if given { ERROR } else { 0 };
            let got = inject(vm, event, 0);
            let refused = checked && given != has_error;
            let right = if refused {
                got == Entry::BAD_CONTROLS
            } else {
                got != Entry::BAD_CONTROLS
            };
            expect!(right, "vector {vector}, error code {given}: {got:?}")?;
        }
    }
    Ok(())
}

/// In real-address mode no exception has an error code.
#[case(spec = "SDM 3C 27.2.1.3", needs("x86.vmx.unrestricted_guest"))]
fn error_code_needs_protected_mode(vm: &mut NestedVm) -> Verdict {
    vm.real_mode()?;
    vm.set(Field::ENTRY_EVENT, VALID | ERROR | HARDWARE | 13);
    expect_eq!(vm.enter(), Entry::BAD_CONTROLS, "CR0.PE = 0")?;
    vm.set_bits(Field::GUEST_CR0, Cr0::PE.bits());
    expect_ne!(vm.enter(), Entry::BAD_CONTROLS, "CR0.PE = 1")
}

/// Bits 31:16 of the error code are reserved.
#[case(spec = "SDM 3C 27.2.1.3")]
fn error_code_upper_half_is_refused(vm: &mut NestedVm) -> Verdict {
    vm.set(Field::ENTRY_EVENT, VALID | ERROR | HARDWARE | 13);
    vm.set(Field::GUEST_IDTR_LIMIT, 0);
    for bit in 16..32 {
        vm.set(Field::ENTRY_EVENT_ERROR, 1 << bit);
        expect_eq!(vm.enter(), Entry::BAD_CONTROLS, "bit {bit}")?;
    }
    vm.set(Field::ENTRY_EVENT_ERROR, 0x7fff);
    expect!(accepted(vm.enter()), "bits 14:0")
}

/// A software event has an instruction length of 1 to 15, or 0 where offered.
#[case(
    spec = "SDM 3C 27.2.1.3",
    rows(software_interrupt: 4 << 8 | 0x30, privileged: 5 << 8 | 1, software_exception: 6 << 8 | 3)
)]
fn instruction_length_is_checked(vm: &mut NestedVm, row: u64) -> Verdict {
    for length in [16, 17, 0x100, 0xffff_ffff] {
        let got = inject(vm, VALID | row, length);
        expect_eq!(got, Entry::BAD_CONTROLS, "length {length:#x}")?;
    }
    for length in [1, 2, 15] {
        let got = inject(vm, VALID | row, length);
        expect!(accepted(got), "length {length}: {got:?}")?;
    }
    let zero = capability(vmx::MISC) >> 30 & 1 != 0;
    let got = inject(vm, VALID | row, 0);
    expect_eq!(got != Entry::BAD_CONTROLS, zero, "length 0: {got:?}")
}

/// An invalid event field is not looked at.
#[case(spec = "SDM 3C 27.2.1.3")]
fn event_without_valid_bit_is_ignored(vm: &mut NestedVm) -> Verdict {
    vm.set(Field::ENTRY_EVENT, 0x7fff_ffff);
    vm.set(Field::ENTRY_INSTRUCTION_LENGTH, 0xff);
    expect_eq!(vm.enter(), Entry::DONE)
}

/// A pending-MTF event exits before the guest's first instruction, without the control.
#[case(spec = "SDM 3C 27.6.2", needs("x86.vmx.monitor_trap_flag"))]
fn injected_mtf_exits_at_once(vm: &mut NestedVm) -> Verdict {
    vm.set(Field::ENTRY_EVENT, VALID | 7 << 8);
    expect_eq!(vm.enter(), Entry::exited(Reason::MONITOR_TRAP, 0))?;
    expect_eq!(vm.offset(), 0)?;
    expect_eq!(vm.enter(), Entry::DONE, "once")
}

/// The monitor trap flag exits after one instruction.
#[case(spec = "SDM 3C 26.5.2", needs("x86.vmx.monitor_trap_flag"))]
fn mtf_exits_after_one_instruction(vm: &mut NestedVm) -> Verdict {
    vm.code(&[0x90, 0x90, 0x90]);
    vm.enable(controls::MONITOR_TRAP)?;
    for offset in 1..=3 {
        expect_eq!(
            vm.enter(),
            Entry::exited(Reason::MONITOR_TRAP, 0),
            "step {offset}"
        )?;
        expect_eq!(vm.offset(), offset)?;
    }
    vm.disable(controls::MONITOR_TRAP)?;
    expect_eq!(vm.enter(), Entry::DONE)
}

/// With an injected event the monitor trap flag exits at the handler's first instruction.
#[case(spec = "SDM 3C 26.5.2", needs("x86.vmx.monitor_trap_flag"))]
fn mtf_exits_after_an_injected_event(vm: &mut NestedVm) -> Verdict {
    // Delivered, and not stopped, the event must not end the payload.
    let handler = fault::Handler::new(6, |frame| frame.r12 = 6);
    vm.enable(controls::MONITOR_TRAP)?;
    vm.set(Field::ENTRY_EVENT, VALID | HARDWARE | 6);
    let got = vm.enter();
    drop(handler);
    expect_eq!(got, Entry::exited(Reason::MONITOR_TRAP, 0))?;
    let at_start = vm.offset() == 0;
    expect!(!at_start, "RIP is in the handler")?;
    expect_eq!(
        vm.get(Field::IDT_VECTORING) >> 31,
        0,
        "the event was delivered"
    )
}

/// A single step that exits reports BS in the qualification, and does not touch DR6.
#[case(spec = "SDM 3C 28.2.1")]
fn single_step_exit_reports_bs(vm: &mut NestedVm) -> Verdict {
    vm.code(&[0x90]);
    guest_lib::arch::cpu::write_dr6(0xffff_0ff0)?;
    vm.set(Field::GUEST_RFLAGS, 2 | Rflags::TF.bits());
    let step = Entry::exited(Reason::EXCEPTION_OR_NMI, 1 << 14);
    expect_eq!(vm.enter(), step)?;
    expect_eq!(vm.get(Field::EXIT_EVENT), VALID | HARDWARE | 1)?;
    expect_eq!(vm.offset(), 1)?;
    expect_eq!(guest_lib::arch::cpu::read_dr6() & 0xf00f, 0, "DR6")?;
    expect_eq!(vm.get(Field::PENDING_DEBUG), 0)
}

/// A pending debug exception is delivered before the guest's first instruction.
#[case(spec = "SDM 3C 27.7.3")]
fn pending_debug_exception_comes_first(vm: &mut NestedVm) -> Verdict {
    vm.code(&[0x90]);
    // BS; breakpoint 0 with the enabled-breakpoint bit.
    for (pending, expected) in [(1u64 << 14, 1u64 << 14), (1 << 12 | 1, 1)] {
        vm.rewind();
        vm.set(Field::GUEST_RFLAGS, 2 | Rflags::TF.bits());
        vm.set(Field::PENDING_DEBUG, pending);
        let step = Entry::exited(Reason::EXCEPTION_OR_NMI, expected);
        expect_eq!(vm.enter(), step, "pending {pending:#x}")?;
        expect_eq!(vm.offset(), 0, "pending {pending:#x}")?;
    }
    Ok(())
}
