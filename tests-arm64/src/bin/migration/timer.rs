//! Generic timers. Spec: DDI0487 D12.
//!
//! A deadline is a value of the counter, so it means the same time on whatever host: the timer may
//! neither be early nor forgotten.

use guest_lib::arch::gic::Gicv3;
use guest_lib::arch::registers::TimerControl;
use guest_lib::arch::timer::{Timer, Timers};
use guest_lib::prelude::*;
use guest_lib::service::{self, Request};

fn armed(gic: &Gicv3, timer: Timer, request: Request) -> Verdict {
    let intid = timer.intid()?;
    gic.set_enabled(intid, true);
    let deadline = timer.count() + time::ticks(time::ms(500));
    timer.set_deadline(deadline);
    timer.set_control(TimerControl::ENABLE);
    expect!(gic.acknowledge().is_spurious(), "it fires when it is armed")?;
    service::ask(request)?;
    expect_eq!(timer.deadline(), deadline, "CVAL")?;
    let mut taken = gic.acknowledge();
    let came = time::wait_until(time::PATIENCE, || {
        if taken.is_spurious() {
            taken = gic.acknowledge();
        }
        !taken.is_spurious()
    });
    let now = timer.count();
    timer.stop();
    expect!(came, "no interrupt comes")?;
    gic.end(taken);
    expect_eq!(taken.intid(), intid)?;
    expect!(
        now >= deadline,
        "it fired at {now:#x}, before {deadline:#x}"
    )?;
    expect!(gic.acknowledge().is_spurious(), "a second time")
}

/// A timer that was armed before the move fires after it: once, and not before its deadline.
#[case(
    spec = "DDI0487 D12.2",
    needs("service.migrate"),
    rows(virtual_timer: Timer::VIRTUAL, physical_timer: Timer::PHYSICAL)
)]
fn armed_timer_fires_once_and_not_early(
    gic: &mut Gicv3,
    _timers: &mut Timers,
    timer: Timer,
) -> Verdict {
    armed(gic, timer, Request::Migrate)
}

/// The same in a machine that was saved and restored.
#[case(
    spec = "DDI0487 D12.2",
    needs("service.save_restore"),
    rows(virtual_timer: Timer::VIRTUAL, physical_timer: Timer::PHYSICAL)
)]
fn saved_timer_fires_once_and_not_early(
    gic: &mut Gicv3,
    _timers: &mut Timers,
    timer: Timer,
) -> Verdict {
    armed(gic, timer, Request::SaveRestore)
}

/// Timers keep their control bits and deadlines, on each processor its own.
#[case(spec = "DDI0487 D12.2", needs("service.migrate"))]
fn timer_registers_stay(_timers: &mut Timers) -> Verdict {
    let both = [Timer::VIRTUAL, Timer::PHYSICAL];
    let all = || both.map(|t| (t.control().bits(), t.deadline()));
    let before = cpus::on_all(|cpu| {
        for (i, timer) in both.into_iter().enumerate() {
            timer.set_deadline(0x7fff_0000_0000_0000 + 16 * cpu.0 as u64 + i as u64);
            timer.set_control(TimerControl::ENABLE | TimerControl::IMASK);
        }
        all()
    })?;
    let moved = service::ask(Request::Migrate);
    let after = cpus::on_all(|_| {
        let after = all();
        both.into_iter().for_each(Timer::stop);
        after
    })?;
    moved?;
    expect_eq!(
        after,
        before,
        "CTL and CVAL, virtual and physical, of each processor"
    )?;
    expect_eq!(after[0][0].0, 3, "control")
}
