//! Interruptions that are pending, and clocks that will raise one. Spec: SA22-7832 4, 6.
//!
//! An interruption that waits behind a mask is state like any other: it must come after the move,
//! once, to the processor it was meant for.

use guest_lib::arch::clock::{Comparator, CpuTimer};
use guest_lib::arch::interrupts::{external_code, take, wait};
use guest_lib::arch::registers::{Cr0, Psw, cr0_with};
use guest_lib::arch::sigp::{self, Answer};
use guest_lib::arch::smp;
use guest_lib::prelude::*;
use guest_lib::service::{self, Request};

/// A request that moves nothing: the control.
const STAY: Request = Request::Nonsense;

fn signalled(order: u8, code: u16, subclass: Cr0, request: Request) -> Verdict {
    let own = smp::address(smp::this());
    for request in [STAY, request] {
        expect_eq!(sigp::signal(order, own, 0), Ok(Answer::Accepted))?;
        let done = service::ask(request);
        expect_eq!(take(Psw::EXTERNAL), None, "the subclass is masked")?;
        let _subclass = cr0_with(subclass);
        let got = wait(Psw::EXTERNAL, time::PATIENCE).and_then(|i| i.external_code());
        if request != STAY {
            done?;
        }
        expect_eq!(got, Some(code), "what comes after {request}")?;
        expect_eq!(take(Psw::EXTERNAL), None, "it comes once")?;
    }
    Ok(())
}

/// An external call or emergency signal that waits behind its mask comes after the move, once.
#[case(
    spec = "SA22-7832 6 External Interruption",
    needs("service.save_restore"),
    rows(
        external_call: (sigp::EXTERNAL_CALL, external_code::EXTERNAL_CALL, Cr0::EXTERNAL_CALL),
        emergency_signal:
            (sigp::EMERGENCY_SIGNAL, external_code::EMERGENCY_SIGNAL, Cr0::EMERGENCY_SIGNAL),
    )
)]
fn saved_signal_comes_once(row: (u8, u16, Cr0)) -> Verdict {
    signalled(row.0, row.1, row.2, Request::SaveRestore)
}

/// The same when the machine moves while it runs.
#[case(
    spec = "SA22-7832 6 External Interruption",
    needs("service.migrate"),
    rows(
        external_call: (sigp::EXTERNAL_CALL, external_code::EXTERNAL_CALL, Cr0::EXTERNAL_CALL),
        emergency_signal:
            (sigp::EMERGENCY_SIGNAL, external_code::EMERGENCY_SIGNAL, Cr0::EMERGENCY_SIGNAL),
    )
)]
fn pending_signal_comes_once(row: (u8, u16, Cr0)) -> Verdict {
    signalled(row.0, row.1, row.2, Request::Migrate)
}

/// The clock comparator stays, and interrupts when the clock passes it: not before.
#[case(spec = "SA22-7832 4 Clock Comparator", needs("service.save_restore"))]
fn clock_comparator_is_not_early(comparator: &mut Comparator) -> Verdict {
    let at = time::now() + time::ticks(time::ms(1500));
    comparator.set(at)?;
    service::ask(Request::SaveRestore)?;
    expect_eq!(comparator.get()?, at)?;
    let _subclass = cr0_with(Cr0::CLOCK_COMPARATOR);
    let code = wait(Psw::EXTERNAL, time::PATIENCE).and_then(|i| i.external_code());
    expect_eq!(code, Some(external_code::CLOCK_COMPARATOR))?;
    expect!(time::now() >= at, "it interrupts before its time")
}

/// The CPU timer counts on: it does not jump up, and it interrupts when it has run out.
#[case(spec = "SA22-7832 4 CPU Timer", needs("service.save_restore"))]
fn cpu_timer_counts_on(timer: &mut CpuTimer) -> Verdict {
    for request in [STAY, Request::SaveRestore] {
        timer.set(time::ticks(time::ms(1500)) as i64)?;
        let before = timer.get()?;
        let done = service::ask(request);
        let after = timer.get()?;
        if request != STAY {
            done?;
        }
        expect!(after <= before, "{before} before, {after} after {request}")?;
        let _subclass = cr0_with(Cr0::CPU_TIMER);
        let code = wait(Psw::EXTERNAL, time::PATIENCE).and_then(|i| i.external_code());
        let now = timer.get()?;
        note!("after {request}: {before}, {after}, {now}");
        expect_eq!(
            code,
            Some(external_code::CPU_TIMER),
            "what comes after {request}"
        )?;
    }
    Ok(())
}

/// A processor that was stopped stays stopped, and can be started.
#[case(
    spec = "SA22-7832 4 SIGNAL PROCESSOR",
    needs("service.save_restore", "cpus>=2")
)]
fn stopped_processor_stays_stopped() -> Verdict {
    expect_eq!(cpus::run_on(Cpu(1), cpus::this)?, Cpu(1))?;
    cpus::park_all().map_err(|c| Failure::new(format!("{c:?} does not stop")))?;
    let stopped = || sigp::is_stopped(smp::address(1));
    expect!(stopped(), "before")?;
    service::ask(Request::SaveRestore)?;
    expect!(stopped(), "after")?;
    expect_eq!(cpus::run_on(Cpu(1), cpus::this)?, Cpu(1), "started again")?;
    expect!(!stopped(), "while it runs")
}
