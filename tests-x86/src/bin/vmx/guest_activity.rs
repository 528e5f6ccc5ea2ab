//! Non-register guest state at VM entry. Spec: SDM 3C 27.3.1.5.
//!
//! Activity, interruptibility, pending debug exceptions and the link pointer describe a guest
//! between two instructions. Combinations that no instruction leaves behind are refused.

use crate::checks::each_is_refused;
use crate::interrupts::Pending;
use guest_lib::arch::registers::Rflags;
use guest_lib::arch::vmx::controls;
use guest_lib::arch::vmx::nested_vm::{Entry, NestedVm, Reason};
use guest_lib::arch::vmx::vmcs::Field;
use guest_lib::arch::vmx::{self, MISC, capability};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// An activity state that does not exist, or is not offered, is refused.
#[case(spec = "SDM 3C 27.3.1.5")]
fn unknown_activity_is_refused(vm: &mut NestedVm) -> Verdict {
    let misc = capability(MISC);
    let mut values: Vec<u64> = vec![4, 5, 0xff, 0x100, 0x8000_0000, 0xffff_ffff];
    values.extend((1..4).filter(|state| misc >> (5 + state) & 1 == 0));
    each_is_refused(vm, Entry::BAD_GUEST, Field::ACTIVITY, &values)
}

/// Interruptibility: bits 31:5 are reserved.
#[case(spec = "SDM 3C 27.3.1.5")]
fn interruptibility_reserved_bits_are_refused(vm: &mut NestedVm) -> Verdict {
    let values: Vec<u64> = (5..32).map(|bit| 1 << bit).collect();
    each_is_refused(vm, Entry::BAD_GUEST, Field::INTERRUPTIBILITY, &values)
}

/// Blocking by STI and by MOV SS cannot both be; blocking by STI needs RFLAGS.IF.
#[case(spec = "SDM 3C 27.3.1.5")]
fn blocking_combinations_are_checked(vm: &mut NestedVm) -> Verdict {
    vm.set(Field::GUEST_RFLAGS, 2 | Rflags::IF.bits());
    each_is_refused(vm, Entry::BAD_GUEST, Field::INTERRUPTIBILITY, &[3])?;
    vm.rewind();
    vm.set(Field::INTERRUPTIBILITY, 2);
    expect_eq!(vm.enter(), Entry::DONE, "MOV SS, IF = 0")?;
    vm.rewind();
    vm.set(Field::INTERRUPTIBILITY, 1);
    expect_eq!(vm.enter(), Entry::BAD_GUEST, "STI, IF = 0")?;
    vm.set(Field::GUEST_RFLAGS, 2 | Rflags::IF.bits());
    expect_eq!(vm.enter(), Entry::DONE, "STI, IF = 1")
}

/// Blocking by SMI is refused outside SMM.
#[case(spec = "SDM 3C 27.3.1.5")]
fn blocking_by_smi_is_refused(vm: &mut NestedVm) -> Verdict {
    each_is_refused(vm, Entry::BAD_GUEST, Field::INTERRUPTIBILITY, &[4])
}

/// An event cannot be injected while its kind is blocked.
#[case(
    spec = "SDM 3C 27.3.1.5",
    rows(
        interrupt_by_sti: (0x8000_0080, 1, true),
        interrupt_by_mov_ss: (0x8000_0080, 2, true),
        nmi_by_mov_ss: (0x8000_0202, 2, false),
    )
)]
fn blocked_events_cannot_be_injected(vm: &mut NestedVm, row: (u64, u64, bool)) -> Verdict {
    let (event, blocking, interrupts) = row;
    let served = fault::Handler::new(event as u8, |frame| frame.rcx = 1);
    let flags = if interrupts { Rflags::IF.bits() } else { 0 };
    vm.set(Field::ENTRY_EVENT, event);
    vm.set(Field::INTERRUPTIBILITY, blocking);
    vm.set(Field::GUEST_RFLAGS, 2 | flags);
    expect_eq!(vm.enter(), Entry::BAD_GUEST, "blocked")?;
    vm.set(Field::INTERRUPTIBILITY, 0);
    vm.registers.rcx = 0;
    expect_eq!(vm.enter(), Entry::DONE, "not blocked")?;
    drop(served);
    expect_eq!(vm.registers.rcx, 1, "the handler's mark")
}

/// With virtual NMIs, an NMI cannot be injected while NMIs are blocked.
#[case(spec = "SDM 3C 27.3.1.5", needs("x86.vmx.virtual_nmis"))]
fn blocked_virtual_nmi_cannot_be_injected(vm: &mut NestedVm) -> Verdict {
    vm.enable_all(&[controls::NMI_EXITING, controls::VIRTUAL_NMIS])?;
    vm.set(Field::ENTRY_EVENT, 0x8000_0202);
    each_is_refused_by_event(vm)
}

fn each_is_refused_by_event(vm: &mut NestedVm) -> Verdict {
    let served = fault::Handler::new(2, |frame| frame.rcx = 1);
    vm.set(Field::INTERRUPTIBILITY, 8);
    expect_eq!(vm.enter(), Entry::BAD_GUEST, "blocked by NMI")?;
    vm.set(Field::INTERRUPTIBILITY, 0);
    vm.registers.rcx = 0;
    expect_eq!(vm.enter(), Entry::DONE, "not blocked")?;
    drop(served);
    expect_eq!(vm.registers.rcx, 1, "the handler's mark")
}

/// A state other than active is refused while MOV SS or STI blocks events.
#[case(spec = "SDM 3C 27.3.1.5", needs("x86.vmx.activity_hlt"))]
fn blocking_needs_an_active_guest(vm: &mut NestedVm) -> Verdict {
    vm.enable(controls::EXTERNAL_INTERRUPT_EXITING)?;
    let _pending = Pending::new(0x67)?;
    vm.set(Field::GUEST_RFLAGS, 2 | Rflags::IF.bits());
    vm.set(Field::ACTIVITY, 1);
    for blocking in [1, 2] {
        vm.set(Field::INTERRUPTIBILITY, blocking);
        expect_eq!(vm.enter(), Entry::BAD_GUEST, "blocking {blocking}")?;
    }
    vm.set(Field::INTERRUPTIBILITY, 0);
    expect_eq!(
        vm.enter(),
        Entry::exited(Reason::EXTERNAL_INTERRUPT, 0),
        "no blocking"
    )
}

/// HLT is refused for a guest above privilege level 0.
#[case(spec = "SDM 3C 27.3.1.5", needs("x86.vmx.activity_hlt"))]
fn hlt_needs_privilege_level_zero(vm: &mut NestedVm) -> Verdict {
    use guest_lib::arch::vmx::vmcs::Segment;
    vm.enable(controls::EXTERNAL_INTERRUPT_EXITING)?;
    let _pending = Pending::new(0x68)?;
    vm.set(Field::GUEST_RFLAGS, 2 | Rflags::IF.bits());
    vm.set(Field::ACTIVITY, 1);
    let window = Entry::exited(Reason::EXTERNAL_INTERRUPT, 0);
    expect_eq!(vm.enter(), window, "level 0")?;
    vm.set(Field::ACTIVITY, 1);
    vm.set_segment(Segment::Cs, 0x23, 0, 0xffff_ffff, 0xa0fb);
    vm.set_segment(Segment::Ss, 0x1b, 0, 0xffff_ffff, 0xc0f3);
    expect_eq!(vm.enter(), Entry::BAD_GUEST, "level 3")?;
    vm.set(Field::ACTIVITY, 0);
    expect_eq!(vm.enter(), window, "level 3, active")
}

/// An event that a state does not take cannot be injected into it.
#[case(
    spec = "SDM 3C 27.3.1.5",
    rows(
        hlt_software_interrupt: (1, 0x8000_0480, "x86.vmx.activity_hlt"),
        hlt_general_protection: (1, 0x8000_0b0d, "x86.vmx.activity_hlt"),
        shutdown_interrupt: (2, 0x8000_0080, "x86.vmx.activity_shutdown"),
        shutdown_debug_exception: (2, 0x8000_0301, "x86.vmx.activity_shutdown"),
        sipi_nmi: (3, 0x8000_0202, "x86.vmx.activity_sipi"),
        sipi_interrupt: (3, 0x8000_0080, "x86.vmx.activity_sipi"),
    )
)]
fn activity_limits_injected_events(vm: &mut NestedVm, row: (u64, u64, &'static str)) -> Verdict {
    let (activity, event, need) = row;
    if !guest_lib::runner::is_met(need) {
        return skip(need);
    }
    vm.set(Field::GUEST_RFLAGS, 2 | Rflags::IF.bits());
    vm.set(Field::ENTRY_INSTRUCTION_LENGTH, 2);
    vm.set(Field::ENTRY_EVENT, event);
    vm.set(Field::ACTIVITY, activity);
    // Delivery would meet an empty IDT, and exit.
    vm.set(Field::GUEST_IDTR_LIMIT, 0);
    expect_eq!(vm.enter(), Entry::BAD_GUEST, "activity {activity}")?;
    vm.set(Field::ENTRY_EVENT, event);
    vm.set(Field::ACTIVITY, 0);
    expect_eq!(
        vm.enter().reason(),
        Some(Reason::EXCEPTION_OR_NMI),
        "active"
    )?;
    expect_eq!(
        vm.get(Field::IDT_VECTORING) & 0x8000_07ff,
        event & 0x8000_07ff
    )
}

/// Pending debug exceptions: bits 11:4, 13, 15 and 63:17 are reserved.
#[case(spec = "SDM 3C 27.3.1.5")]
fn pending_debug_reserved_bits_are_refused(vm: &mut NestedVm) -> Verdict {
    // Bit 11 is for bus locks and bit 16 for RTM where those exist.
    let values: Vec<u64> = (4..11)
        .chain([13, 15])
        .chain(17..64)
        .map(|bit| 1u64 << bit)
        .collect();
    each_is_refused(vm, Entry::BAD_GUEST, Field::PENDING_DEBUG, &values)
}

/// Pending BS agrees with RFLAGS.TF and DEBUGCTL.BTF while MOV SS blocks or the guest halts.
#[case(spec = "SDM 3C 27.3.1.5")]
fn pending_single_step_agrees_with_tf(vm: &mut NestedVm) -> Verdict {
    vm.set(Field::INTERRUPTIBILITY, 2);
    vm.set(Field::PENDING_DEBUG, 1 << 14);
    expect_eq!(vm.enter(), Entry::BAD_GUEST, "BS without TF")?;
    vm.set(Field::PENDING_DEBUG, 0);
    vm.set(Field::GUEST_RFLAGS, 2 | Rflags::TF.bits());
    expect_eq!(vm.enter(), Entry::BAD_GUEST, "TF without BS")?;
    vm.set(Field::GUEST_DEBUGCTL, 2);
    expect_eq!(vm.enter().reason().is_some(), true, "TF and BTF without BS")?;
    vm.rewind();
    vm.set(Field::GUEST_DEBUGCTL, 0);
    expect_eq!(vm.enter(), Entry::DONE)
}

/// The link pointer is all ones, or an aligned address within the width; qualification 4.
#[case(spec = "SDM 3C 27.3.1.5")]
fn link_pointer_address_is_checked(vm: &mut NestedVm) -> Verdict {
    let page = Frames::new(1);
    let refused = Entry::failed(Reason::GUEST_STATE, 4);
    for value in [
        page.address() | 1,
        page.address() | 0x800,
        page.address() | vmx::address_limit(),
        page.address() | 1 << 63,
    ] {
        vm.set(Field::LINK_POINTER, value);
        expect_eq!(vm.enter(), refused, "{value:#x}")?;
    }
    vm.set(Field::LINK_POINTER, u64::MAX);
    expect_eq!(vm.enter(), Entry::DONE)
}

/// The linked VMCS has the right revision, and is a shadow exactly with VMCS shadowing.
#[case(spec = "SDM 3C 27.3.1.5")]
fn link_pointer_revision_is_checked(vm: &mut NestedVm) -> Verdict {
    let linked = Frames::new(1);
    let refused = Entry::failed(Reason::GUEST_STATE, 4);
    vm.set(Field::LINK_POINTER, linked.address());
    linked.write(0, vmx::revision() ^ 1);
    expect_eq!(vm.enter(), refused, "another revision")?;
    linked.write(0, vmx::revision() | 1 << 31);
    expect_eq!(vm.enter(), refused, "a shadow without VMCS shadowing")?;
    linked.write(0, vmx::revision());
    expect_eq!(vm.enter(), Entry::DONE, "an ordinary VMCS")
}
