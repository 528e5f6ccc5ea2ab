//! Event injection and its interplay with exits. Spec: SDM 3C 27.6, 28.2.4.
//!
//! An injected event is delivered through the guest's IDT as if it had just happened. When its
//! delivery causes an exit, the IDT-vectoring field must name the event, so that the host can
//! inject it again. A hypervisor that nests must carry this through two levels, and an event
//! lost or doubled is a guest hang that nobody can reproduce.

use guest_lib::arch::vmx::controls;
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
    // #GP while a #GP is delivered is a double fault, which the bitmap intercepts.
    expect_eq!(vm.get(Field::EXIT_EVENT), 1 << 31 | 1 << 11 | 3 << 8 | 8)?;
    expect_eq!(
        vm.get(Field::IDT_VECTORING),
        1 << 31 | 1 << 11 | 3 << 8 | 13
    )?;
    expect_eq!(vm.get(Field::IDT_VECTORING_ERROR), 0x1234)
}

/// A write to a page absent from EPT exits with its access bits.
#[case(spec = "SDM 3C 28.2.1")]
fn ept_violation(vm: &mut NestedVm) -> Verdict {
    let page = guest_lib::memory::Frames::new(1);
    let gpa = page.address();
    vm.enable_ept()?;
    vm.ept().set(gpa, 1, 0);
    // mov [rsi], al
    vm.code(&[0x88, 0x06]);
    vm.registers.rsi = gpa + 5;
    expect_eq!(vm.enter(), Entry::exited(Reason::EPT_VIOLATION, 0x182))?;
    expect_eq!(vm.get(Field::GUEST_PHYSICAL_ADDRESS), gpa + 5)?;
    vm.ept().set(gpa, 1, gpa | 0x37);
    vm.invalidate_ept()?;
    expect_eq!(vm.enter(), Entry::DONE)
}

/// entry failure
#[case(spec = "SDM 3C 27.3.1.1")]
fn entry_failure(vm: &mut NestedVm) -> Verdict {
    expect_eq!(vm.run(), Entry::DONE)?;
    vm.closure(|| {
        if fault::catch(arch::cpu::ud2) == Err(Fault::UD) {
            7
        } else {
            8
        }
    });
    vm.set(Field::EXCEPTION_BITMAP, 0);
    expect_eq!(vm.run(), Entry::DONE)?;
    expect_eq!(vm.registers.rax, 7)?;
    vm.set(Field::GUEST_SYSENTER_EIP, 1 << 62);
    expect_eq!(vm.run(), Entry::BAD_GUEST)?;
    vm.set(Field::GUEST_SYSENTER_EIP, 0);
    vm.set(Field::HOST_SYSENTER_EIP, 1 << 62);
    expect_eq!(vm.run(), Entry::BAD_HOST)?;
    vm.set(Field::HOST_SYSENTER_EIP, 0);
    vm.force(controls::TSC_OFFSETTING);
    expect_eq!(vm.run(), Entry::DONE)
}

/// real
#[case(spec = "SDM 3C 26.6")]
fn modes(vm: &mut NestedVm) -> Verdict {
    vm.real_mode()?;
    expect_eq!(vm.run(), Entry::DONE)?;
    Ok(())
}
/// flat
#[case(spec = "SDM 3C 26.6")]
fn flat(vm: &mut NestedVm) -> Verdict {
    vm.unpaged_32()?;
    expect_eq!(vm.run(), Entry::DONE)
}
