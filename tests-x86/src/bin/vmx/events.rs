//! Event injection and its interplay with exits. Spec: SDM 3C 27.6, 28.2.4.
//!
//! An injected event is delivered through the guest's IDT as if it had just happened. When its
//! delivery causes an exit, the IDT-vectoring field must name the event, so that the host can
//! inject it again. A hypervisor that nests must carry this through two levels, and an event
//! lost or doubled is a guest hang that nobody can reproduce.

use guest_lib::arch::vmx::nested_vm::{Entry, NestedVm, Reason};
use guest_lib::arch::vmx::vmcs::Field;
use guest_lib::prelude::*;

/// An injected #GP whose delivery meets an absent gate exits with the event in IDT-vectoring.
#[case(spec = "SDM 3C 28.2.4")]
fn fault_in_delivery_names_the_injected_event(vm: &mut NestedVm) -> Verdict {
    vm.code(&[]);
    vm.set(Field::ENTRY_EVENT, 1 << 31 | 1 << 11 | 3 << 8 | 13);
    vm.set(Field::ENTRY_EVENT_ERROR, 0x1234);
    vm.set(Field::GUEST_IDTR_LIMIT, 13 * 16 - 1);
    expect_eq!(vm.enter(), Entry::exited(Reason::EXCEPTION_OR_NMI, 0))?;
    // The bitmap takes the second #GP before the two become a double fault.
    expect_eq!(vm.get(Field::EXIT_EVENT), 1 << 31 | 1 << 11 | 3 << 8 | 13)?;
    // Its error code names gate 13 of the IDT, and an event external to the program.
    expect_eq!(vm.get(Field::EXIT_EVENT_ERROR), 13 << 3 | 2 | 1)?;
    expect_eq!(
        vm.get(Field::IDT_VECTORING),
        1 << 31 | 1 << 11 | 3 << 8 | 13
    )?;
    expect_eq!(vm.get(Field::IDT_VECTORING_ERROR), 0x1234)
}
