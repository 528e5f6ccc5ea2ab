//! External call, emergency signal and its conditional form: delivered once, by the right mask,
//! with the sender's address, also into the wait state.
//!
//! Spec: SA22-7832 4 External Call, Emergency Signal, 6 External Interruption.

use crate::target::{OTHER, Other};
use core::sync::atomic::{AtomicBool, Ordering};
use guest_lib::arch::interrupts::{Interruption, enabled_wait, external_code, take, wait};
use guest_lib::arch::registers::{Cr0, Psw, cr0_with};
use guest_lib::arch::sigp::{self, Answer, status};
use guest_lib::arch::smp;
use guest_lib::prelude::*;

#[derive(Clone, Copy)]
struct Call {
    order: u8,
    mask: Cr0,
    code: u16,
}

const EXTERNAL: Call = Call {
    order: sigp::EXTERNAL_CALL,
    mask: Cr0::EXTERNAL_CALL,
    code: external_code::EXTERNAL_CALL,
};
const EMERGENCY: Call = Call {
    order: sigp::EMERGENCY_SIGNAL,
    mask: Cr0::EMERGENCY_SIGNAL,
    code: external_code::EMERGENCY_SIGNAL,
};

/// Accepted by a target in the wait state, among others.
const CONDITIONAL: Call = Call {
    order: sigp::CONDITIONAL_EMERGENCY_SIGNAL,
    mask: Cr0::EMERGENCY_SIGNAL,
    code: external_code::EMERGENCY_SIGNAL,
};

fn is_from_boot(what: Option<Interruption>, expected: u16) -> bool {
    matches!(what, Some(Interruption::External { code, cpu, .. })
        if code == expected && cpu == smp::address(0))
}

/// The target gets the interruption once, with the sender's address.
#[case(spec = "SA22-7832 4 External Call", needs("cpus>=2"), rows(
    external_call: EXTERNAL, emergency_signal: EMERGENCY,
))]
fn call_is_delivered_once(other: &mut Other, call: Call) -> Verdict {
    let job = cpus::spawn_on(OTHER, move || {
        let _subclass = cr0_with(call.mask);
        (wait(Psw::EXTERNAL, time::PATIENCE), take(Psw::EXTERNAL))
    })?;
    expect_eq!(other.order(call.order, 0), Answer::Accepted)?;
    let (first, second) = job.join_within(2 * time::PATIENCE)?;
    expect!(is_from_boot(first, call.code), "{first:?}")?;
    expect_eq!(second, None)
}

/// A target in the wait state is woken.
#[case(spec = "SA22-7832 4 External Call", needs("cpus>=2"), rows(
    external_call: EXTERNAL, emergency_signal: EMERGENCY, conditional: CONDITIONAL,
))]
fn call_ends_the_wait_state(other: &mut Other, call: Call) -> Verdict {
    static WAITING: AtomicBool = AtomicBool::new(false);
    WAITING.store(false, Ordering::Release);
    let job = cpus::spawn_on(OTHER, move || {
        let _subclass = cr0_with(call.mask);
        WAITING.store(true, Ordering::Release);
        enabled_wait(Psw::EXTERNAL)
    })?;
    expect!(
        time::wait_until(time::PATIENCE, || WAITING.load(Ordering::Acquire)),
        "it waits"
    )?;
    expect_eq!(other.order(call.order, 0), Answer::Accepted)?;
    let got = job.join_within(time::PATIENCE)?;
    expect!(is_from_boot(got, call.code), "{got:?}")
}

/// A second external call while one is pending is refused with its status; after the first was
/// taken there is room again.
#[case(spec = "SA22-7832 4 External Call", needs("cpus>=2"))]
fn second_external_call_is_refused(other: &mut Other) -> Verdict {
    expect_eq!(other.order(sigp::EXTERNAL_CALL, 0), Answer::Accepted)?;
    let refused = other.order(sigp::EXTERNAL_CALL, 0);
    expect_eq!(refused, Answer::Status(status::EXTERNAL_CALL_PENDING))?;
    let taken = cpus::run_on(OTHER, || {
        let _subclass = cr0_with(Cr0::EXTERNAL_CALL);
        wait(Psw::EXTERNAL, time::PATIENCE)
    })?;
    expect!(
        is_from_boot(taken, external_code::EXTERNAL_CALL),
        "{taken:?}"
    )?;
    expect_eq!(other.order(sigp::EXTERNAL_CALL, 0), Answer::Accepted)
}

/// SENSE reports a pending external call.
#[case(spec = "SA22-7832 4 Sense", needs("cpus>=2"))]
fn sense_reports_a_pending_external_call(other: &mut Other) -> Verdict {
    expect_eq!(other.order(sigp::SENSE, 0), Answer::Accepted)?;
    other.order(sigp::EXTERNAL_CALL, 0);
    expect_eq!(
        other.order(sigp::SENSE, 0),
        Answer::Status(status::EXTERNAL_CALL_PENDING)
    )
}

/// An emergency signal from the same processor is pending once, however often it is sent.
#[case(spec = "SA22-7832 4 Emergency Signal", needs("cpus>=2"))]
fn repeated_emergency_signals_are_one(other: &mut Other) -> Verdict {
    for _ in 0..3 {
        expect_eq!(other.order(sigp::EMERGENCY_SIGNAL, 0), Answer::Accepted)?;
    }
    let (first, second) = cpus::run_on(OTHER, || {
        let _subclass = cr0_with(Cr0::EMERGENCY_SIGNAL);
        (wait(Psw::EXTERNAL, time::PATIENCE), take(Psw::EXTERNAL))
    })?;
    expect!(
        is_from_boot(first, external_code::EMERGENCY_SIGNAL),
        "{first:?}"
    )?;
    expect_eq!(second, None)
}

/// A conditional emergency signal interrupts a target that is disabled for external
/// interruptions, because it may need it.
#[case(spec = "SA22-7832 4 Conditional Emergency Signal", needs("cpus>=2"))]
fn conditional_emergency_signal_is_delivered(other: &mut Other) -> Verdict {
    expect_eq!(
        other.order(sigp::CONDITIONAL_EMERGENCY_SIGNAL, 0),
        Answer::Accepted
    )?;
    let got = cpus::run_on(OTHER, || {
        let _subclass = cr0_with(Cr0::EMERGENCY_SIGNAL);
        wait(Psw::EXTERNAL, time::PATIENCE)
    })?;
    expect!(
        is_from_boot(got, external_code::EMERGENCY_SIGNAL),
        "{got:?}"
    )
}

/// A call to one processor does not show on another one.
#[case(spec = "SA22-7832 4 External Call", needs("cpus>=2"))]
fn call_reaches_its_target_only(other: &mut Other) -> Verdict {
    other.order(sigp::EXTERNAL_CALL, 0);
    other.order(sigp::EMERGENCY_SIGNAL, 0);
    let _subclasses = cr0_with(Cr0::EXTERNAL_CALL | Cr0::EMERGENCY_SIGNAL);
    expect_eq!(take(Psw::EXTERNAL), None, "here")?;
    let there = cpus::run_on(OTHER, || {
        let _subclasses = cr0_with(Cr0::EXTERNAL_CALL | Cr0::EMERGENCY_SIGNAL);
        (
            wait(Psw::EXTERNAL, time::PATIENCE),
            wait(Psw::EXTERNAL, time::PATIENCE),
        )
    })?;
    expect!(there.0.is_some() && there.1.is_some(), "{there:?}")
}
