//! Problem state: entered, left, and refused what it must not do.
//!
//! Spec: SA22-7832 4 Program-Status Word, 6 Privileged-Operation Exception. A hypervisor that
//! intercepts control instructions has to check the problem-state bit itself.

use guest_lib::arch::cpu;
use guest_lib::arch::interrupts::{Interruption, supervisor_call};
use guest_lib::arch::registers::{Psw, psw_mask};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// EXTRACT PSW shows the problem-state bit inside, and not before or after.
#[case(spec = "SA22-7832 4 Program-Status Word")]
fn problem_state_is_entered_and_left() -> Verdict {
    let inside = fault::catch_user(psw_mask)?;
    expect_eq!(inside & Psw::PROBLEM.bits(), Psw::PROBLEM.bits())?;
    expect_eq!(psw_mask() & Psw::PROBLEM.bits(), 0)
}

/// A privileged instruction is refused in problem state and does nothing; in supervisor state it
/// works.
#[case(spec = "SA22-7832 6 Privileged-Operation Exception")]
fn privileged_instruction_is_refused_in_problem_state() -> Verdict {
    let page = Frames::new(1);
    page.write(0, u64::MAX);
    let refused = fault::catch_user(|| cpu::store_cpu_id(page.address()))?;
    expect_eq!(refused, Err(Fault::PRIVILEGED_OPERATION))?;
    expect_eq!(page.read::<u64>(0), u64::MAX)?;
    expect_eq!(cpu::store_cpu_id(page.address()), Ok(()))?;
    expect_ne!(page.read::<u64>(0), u64::MAX)
}

/// Ordinary work runs in problem state: memory is allocated, a closure's result comes back.
#[case(spec = "SA22-7832 4 Program-Status Word")]
fn problem_state_computes() -> Verdict {
    let text = fault::catch_user(|| format!("{}", 6 * 7))?;
    expect_eq!(text, "42")
}

/// SUPERVISOR CALL interrupts with its number.
#[case(spec = "SA22-7832 6 Supervisor-Call Interruption")]
fn supervisor_call_carries_its_number() -> Verdict {
    expect_eq!(
        supervisor_call::<0x42>(),
        Some(Interruption::SupervisorCall(0x42))
    )?;
    expect_eq!(
        supervisor_call::<0>(),
        Some(Interruption::SupervisorCall(0))
    )
}
