//! The VMX-preemption timer. Spec: SDM 3C 26.5.1, 27.7.4.
//!
//! It counts down with the TSC while the guest runs, and exits when it is zero. Wide limits
//! only: how late it comes is not the architecture's business.

use guest_lib::arch::cpu;
use guest_lib::arch::vmx::controls;
use guest_lib::arch::vmx::nested_vm::{Entry, NestedVm, Reason};
use guest_lib::arch::vmx::vmcs::Field;
use guest_lib::arch::vmx::{MISC, capability};
use guest_lib::prelude::*;

const EXPIRED: Entry = Entry::exited(Reason::PREEMPTION_TIMER, 0);

/// A timer of 0 exits before the guest's first instruction.
#[case(spec = "SDM 3C 27.7.4", needs("x86.vmx.preemption_timer"))]
fn zero_exits_at_once(vm: &mut NestedVm) -> Verdict {
    vm.enable(controls::PREEMPTION_TIMER)?;
    vm.set(Field::PREEMPTION_TIMER, 0);
    expect_eq!(vm.enter(), EXPIRED)?;
    expect_eq!(vm.offset(), 0)?;
    vm.disable(controls::PREEMPTION_TIMER)?;
    expect_eq!(vm.enter(), Entry::DONE, "control off")
}

/// With an injected event, a timer of 0 exits at the handler's first instruction.
#[case(spec = "SDM 3C 27.7.4", needs("x86.vmx.preemption_timer"))]
fn zero_exits_after_an_injected_event(vm: &mut NestedVm) -> Verdict {
    vm.enable(controls::PREEMPTION_TIMER)?;
    vm.set(Field::PREEMPTION_TIMER, 0);
    vm.set(Field::ENTRY_EVENT, 0x8000_0306);
    expect_eq!(vm.enter(), EXPIRED)?;
    expect_ne!(vm.offset(), 0, "RIP is in the handler")?;
    expect_eq!(
        vm.get(Field::IDT_VECTORING) >> 31,
        0,
        "the event was delivered"
    )
}

/// The timer does not expire before its TSC ticks have passed, and does in the end.
#[case(spec = "SDM 3C 26.5.1", needs("x86.vmx.preemption_timer"))]
fn spinning_guest_is_stopped_not_too_early(vm: &mut NestedVm) -> Verdict {
    const VALUE: u64 = 10_000;
    // jmp $
    vm.code(&[0xeb, 0xfe]);
    vm.enable(controls::PREEMPTION_TIMER)?;
    vm.set(Field::PREEMPTION_TIMER, VALUE);
    let start = cpu::rdtsc();
    expect_eq!(vm.enter(), EXPIRED)?;
    let elapsed = cpu::rdtsc() - start;
    // The timer counts when a bit of the TSC changes: the first count may come at once.
    let ticks = (VALUE - 1) << (capability(MISC) & 0x1f);
    expect!(
        elapsed >= ticks,
        "{elapsed} TSC ticks for a timer of {ticks}"
    )
}

/// The timer wakes a halted guest, and the activity state says HLT.
#[case(
    spec = "SDM 3C 26.5.1",
    needs("x86.vmx.preemption_timer", "x86.vmx.activity_hlt")
)]
fn halted_guest_is_stopped(vm: &mut NestedVm) -> Verdict {
    vm.disable(controls::HLT_EXITING)?;
    vm.code(&[0xf4]);
    vm.enable(controls::PREEMPTION_TIMER)?;
    vm.set(Field::PREEMPTION_TIMER, 100_000);
    expect_eq!(vm.enter(), EXPIRED)?;
    expect_eq!(vm.get(Field::ACTIVITY), 1)?;
    expect_eq!(vm.offset(), 1)
}

/// The field keeps its value over an exit, unless the exit saves the timer.
#[case(spec = "SDM 3C 28.3.4", needs("x86.vmx.save_preemption_timer"))]
fn exit_saves_the_timer_with_its_control(vm: &mut NestedVm) -> Verdict {
    const VALUE: u64 = 0x8000_0000;
    // Long enough for the count to move: a loop of 2^20.
    let shift = capability(MISC) & 0x1f;
    expect!(shift < 20, "one count each 2^{shift} ticks")?;
    vm.code(&[0xb9, 0, 0, 0x10, 0, 0xff, 0xc9, 0x75, 0xfc]);
    vm.enable(controls::PREEMPTION_TIMER)?;
    vm.set(Field::PREEMPTION_TIMER, VALUE);
    expect_eq!(vm.enter(), Entry::DONE)?;
    expect_eq!(vm.get(Field::PREEMPTION_TIMER), VALUE, "control off")?;
    vm.enable(controls::SAVE_PREEMPTION_TIMER)?;
    expect_eq!(vm.run(), Entry::DONE)?;
    let left = vm.get(Field::PREEMPTION_TIMER);
    expect!(left < VALUE && left != 0, "left {left:#x} of {VALUE:#x}")
}
