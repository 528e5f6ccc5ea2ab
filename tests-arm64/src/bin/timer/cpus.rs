//! Timers of all processors at once. Spec: DDI0487 D12.2.
//!
//! Each processor has its own timers and takes their interrupts itself.

use crate::line::Line;
use core::sync::atomic::Ordering::SeqCst;
use guest_lib::arch::gic::Gic;
use guest_lib::arch::registers::TimerControl;
use guest_lib::arch::timer::Timer;
use guest_lib::prelude::*;
use guest_lib::sync::Barrier;

/// All processors arm their timers together; each takes its own interrupts, and no others.
#[case(
    spec = "DDI0487 D12.2",
    needs("cpus>=2"),
    rows(virt: Timer::VIRTUAL, phys: Timer::PHYSICAL)
)]
fn every_cpu_takes_its_own_interrupts(gic: &mut Gic, timer: Timer) -> Verdict {
    timer.intid()?;
    let gic = &*gic;
    let barrier = Barrier::new(cpus::count());
    let all = cpus::on_all(|_| {
        gic.init_cpu();
        timer.stop();
        let line = Line::new(gic, timer)?;
        barrier.wait();
        for n in 1..=3 {
            line.arm(time::us(500));
            line.open(|| time::wait_until(time::PATIENCE, || line.taken.load(SeqCst) >= n));
        }
        line.verdict(3)
    })?;
    all.into_iter().collect()
}

/// A timer of one processor interrupts only that one.
#[case(
    spec = "DDI0487 D12.2",
    needs("cpus>=2"),
    rows(virt: Timer::VIRTUAL, phys: Timer::PHYSICAL)
)]
fn one_timer_interrupts_one_cpu(gic: &mut Gic, timer: Timer) -> Verdict {
    let intid = timer.intid()?;
    let gic = &*gic;
    let last = Cpu(cpus::count() - 1);
    let fired = Barrier::new(cpus::count());
    let pending = cpus::on_all(|cpu| {
        gic.init_cpu();
        timer.stop();
        fired.wait();
        if cpu == last {
            timer.set_deadline(0);
            timer.set_control(TimerControl::ENABLE);
            time::wait_until(time::PATIENCE, || gic.is_pending(intid));
        }
        fired.wait();
        let pending = gic.is_pending(intid);
        fired.wait();
        timer.stop();
        pending
    })?;
    for (i, pending) in pending.into_iter().enumerate() {
        expect_eq!(pending, i == last.0, "pending on CPU {i}")?;
    }
    Ok(())
}
