//! Interruptions: masked they wait, enabled they come, once each. Spec: SA22-7832 6.
//!
//! A window that lets two through, or a record left over from the window before, would hide a
//! hypervisor that delivers twice or not at all.

use core::sync::atomic::{AtomicU32, Ordering};
use guest_lib::arch::interrupts::{
    self, Class, Context, Handler, Interruption, external_code, take, wait,
};
use guest_lib::arch::registers::{Cr0, Psw, cr0_with};
use guest_lib::arch::sigp::{self, Answer};
use guest_lib::arch::{clock, sclp, smp};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// An external call to this processor stays pending while its subclass is masked, comes when both
/// masks allow it, and comes once.
#[case(spec = "SA22-7832 6 External Call")]
fn external_call_waits_for_both_masks() -> Verdict {
    let own = smp::address(smp::this());
    expect_eq!(
        sigp::signal(sigp::EXTERNAL_CALL, own, 0),
        Ok(Answer::Accepted)
    )?;
    expect_eq!(take(Psw::EXTERNAL), None, "the subclass is masked")?;
    let _subclass = cr0_with(Cr0::EXTERNAL_CALL);
    expect_eq!(take(Psw::IO), None, "the class is masked")?;
    let expected = Interruption::External {
        code: external_code::EXTERNAL_CALL,
        cpu: own,
        parameter: 0,
    };
    let got = wait(Psw::EXTERNAL, time::PATIENCE);
    let same = matches!(got, Some(Interruption::External { code, cpu, .. })
        if code == external_code::EXTERNAL_CALL && cpu == own);
    expect!(same, "expected {expected:?}, got {got:?}")?;
    expect_eq!(take(Psw::EXTERNAL), None, "it came once")
}

/// Two kinds of pending external interruptions come one for each window.
#[case(spec = "SA22-7832 6 External Interruption")]
fn one_interruption_comes_through_a_window() -> Verdict {
    let own = smp::address(smp::this());
    let _subclasses = cr0_with(Cr0::EXTERNAL_CALL | Cr0::EMERGENCY_SIGNAL);
    sigp::signal(sigp::EXTERNAL_CALL, own, 0)?;
    sigp::signal(sigp::EMERGENCY_SIGNAL, own, 0)?;
    let mut codes = [
        wait(Psw::EXTERNAL, time::PATIENCE),
        wait(Psw::EXTERNAL, time::PATIENCE),
    ]
    .map(|i| i.and_then(|i| i.external_code()).unwrap_or(0));
    codes.sort_unstable();
    expect_eq!(
        codes,
        [
            external_code::EMERGENCY_SIGNAL,
            external_code::EXTERNAL_CALL
        ]
    )?;
    expect_eq!(take(Psw::EXTERNAL), None)
}

static HANDLED: AtomicU32 = AtomicU32::new(0);

fn count(context: &mut Context, what: Interruption) {
    HANDLED.fetch_add(
        u32::from(what.external_code().unwrap_or(0)),
        Ordering::Relaxed,
    );
    context.registers[0] = 0;
}

/// An installed handler runs instead of the record, and only while it is installed.
#[case(spec = "SA22-7832 6 External Interruption")]
fn handlers_run_while_installed() -> Verdict {
    HANDLED.store(0, Ordering::Relaxed);
    let own = smp::address(smp::this());
    let _subclass = cr0_with(Cr0::EMERGENCY_SIGNAL);
    {
        let _handler = Handler::install(Class::External, count);
        sigp::signal(sigp::EMERGENCY_SIGNAL, own, 0)?;
        let handled = || {
            let _ = take(Psw::EXTERNAL);
            HANDLED.load(Ordering::Relaxed) == external_code::EMERGENCY_SIGNAL.into()
        };
        expect!(
            time::wait_until(time::PATIENCE, handled),
            "the handler runs"
        )?;
    }
    sigp::signal(sigp::EMERGENCY_SIGNAL, own, 0)?;
    let record = wait(Psw::EXTERNAL, time::PATIENCE).and_then(|i| i.external_code());
    expect_eq!(record, Some(external_code::EMERGENCY_SIGNAL))
}

/// The clock comparator interrupts when the clock passes it, not before.
#[case(spec = "SA22-7832 4 Clock Comparator")]
fn clock_comparator_interrupts_when_passed(comparator: &mut clock::Comparator) -> Verdict {
    let _subclass = cr0_with(Cr0::CLOCK_COMPARATOR);
    comparator.set(u64::MAX)?;
    expect_eq!(take(Psw::EXTERNAL), None, "far in the future")?;
    let at = time::now() + time::ticks(time::ms(1));
    comparator.set(at)?;
    let code = wait(Psw::EXTERNAL, time::PATIENCE).and_then(|i| i.external_code());
    expect_eq!(code, Some(external_code::CLOCK_COMPARATOR))?;
    expect!(time::now() >= at, "not before its time")
}

/// The CPU timer interrupts when it is negative, not while it is positive.
#[case(spec = "SA22-7832 4 CPU Timer")]
fn cpu_timer_interrupts_when_negative(timer: &mut clock::CpuTimer) -> Verdict {
    let _subclass = cr0_with(Cr0::CPU_TIMER);
    timer.set(i64::MAX)?;
    expect_eq!(take(Psw::EXTERNAL), None, "years to go")?;
    timer.set(time::ticks(time::ms(1)) as i64)?;
    let code = wait(Psw::EXTERNAL, time::PATIENCE).and_then(|i| i.external_code());
    expect_eq!(code, Some(external_code::CPU_TIMER))?;
    timer.set(i64::MAX)?;
    expect_eq!(take(Psw::EXTERNAL), None, "positive again")
}

/// The wait state ends with an interruption.
#[case(spec = "SA22-7832 4 Stopped, Operating, Load, and Check-Stop States")]
fn interruption_ends_the_wait_state(comparator: &mut clock::Comparator) -> Verdict {
    let _subclass = cr0_with(Cr0::CLOCK_COMPARATOR);
    comparator.set(time::now() + time::ticks(time::ms(2)))?;
    let code = interrupts::enabled_wait(Psw::EXTERNAL).and_then(|i| i.external_code());
    expect_eq!(code, Some(external_code::CLOCK_COMPARATOR))
}

/// A completed service call interrupts with the address of its SCCB.
#[case(spec = "SA22-7832 6 Service Signal")]
fn service_signal_names_the_sccb() -> Verdict {
    let mut sccb = Frames::new(1);
    sccb.bytes_mut()[1] = 8;
    let _subclass = cr0_with(Cr0::SERVICE_SIGNAL);
    expect_eq!(sclp::service_call(0xdead_0001, sccb.address()), Ok(0))?;
    match wait(Psw::EXTERNAL, time::PATIENCE) {
        Some(Interruption::External {
            code, parameter, ..
        }) => {
            expect_eq!(code, external_code::SERVICE_SIGNAL)?;
            expect_eq!(u64::from(parameter & !7), sccb.address())
        }
        other => fail!("no service signal: {other:?}"),
    }
}

/// The console's own service signals are taken by the console.
#[case(spec = "SA22-7832 6 Service Signal")]
fn console_leaves_no_service_signal() -> Verdict {
    guest_lib::line!("# the console says this");
    let _subclass = cr0_with(Cr0::SERVICE_SIGNAL);
    expect_eq!(take(Psw::EXTERNAL), None)
}
