//! One deadline, one interrupt. Spec: DDI0487 D12.2.
//!
//! Reprogramming, masking and far deadlines are where hypervisors lose an interrupt, deliver it twice
//! or deliver it at the time of the former deadline.

use crate::line::Line;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use guest_lib::arch::gic::{Gic, Iar};
use guest_lib::arch::registers::TimerControl;
use guest_lib::arch::timer::{Timer, Timers};
use guest_lib::prelude::*;

/// A deadline that has come raises one interrupt, with the INTID of the device tree.
#[case(spec = "DDI0487 D12.2", rows(virt: Timer::VIRTUAL, phys: Timer::PHYSICAL))]
fn past_deadline_interrupts(gic: &mut Gic, _timers: &mut Timers, timer: Timer) -> Verdict {
    let line = Line::new(gic, timer)?;
    timer.set_deadline(timer.count() - time::ticks(time::us(10)));
    timer.set_control(TimerControl::ENABLE);
    line.expect(1)
}

/// A deadline at the lowest values fires at once.
#[case(
    spec = "DDI0487 D12.2",
    rows(
        virt_cval_0: (Timer::VIRTUAL, None),
        virt_tval_0: (Timer::VIRTUAL, Some(0)),
        virt_tval_negative: (Timer::VIRTUAL, Some(-1_000_000)),
        phys_cval_0: (Timer::PHYSICAL, None),
        phys_tval_0: (Timer::PHYSICAL, Some(0)),
        phys_tval_negative: (Timer::PHYSICAL, Some(-1_000_000)),
    )
)]
fn edge_deadline_fires_at_once(
    gic: &mut Gic,
    _timers: &mut Timers,
    row: (Timer, Option<i32>),
) -> Verdict {
    let (timer, tval) = row;
    let line = Line::new(gic, timer)?;
    match tval {
        None => timer.set_deadline(0),
        Some(value) => {
            // A counter that has not come as far as the value is negative would wrap the deadline.
            expect_eq!(
                timer.count() > u64::from(value.unsigned_abs()),
                true,
                "counter"
            )?;
            timer.set_remaining(value);
        }
    }
    timer.set_control(TimerControl::ENABLE);
    line.expect(1)
}

/// TVAL and WFI: the processor wakes up and takes the interrupt, not before its time.
#[case(spec = "DDI0487 D12.2", rows(virt: Timer::VIRTUAL, phys: Timer::PHYSICAL))]
fn tval_wakes_wfi(gic: &mut Gic, _timers: &mut Timers, timer: Timer) -> Verdict {
    let line = Line::new(gic, timer)?;
    let start = timer.count();
    let interval = time::ticks(time::ms(5)) as i32;
    timer.set_remaining(interval);
    timer.set_control(TimerControl::ENABLE);
    line.open(|| {
        arch::interrupts::wfi_until(|| line.taken.load(SeqCst) != 0);
    });
    line.verdict(1)?;
    let passed = line.when.load(SeqCst) - start;
    expect_eq!(
        passed >= interval as u64,
        true,
        "after {passed} of {interval} ticks"
    )?;
    timer.set_control(TimerControl::ENABLE | TimerControl::IMASK);
    expect_eq!(
        timer.remaining_signed() <= 0,
        true,
        "TVAL after the deadline"
    )
}

/// WFI with interrupts masked ends when the interrupt is pending, and does not take it.
#[case(spec = "DDI0487 D1.7 WFI", rows(virt: Timer::VIRTUAL, phys: Timer::PHYSICAL))]
fn masked_wfi_ends_and_takes_nothing(gic: &mut Gic, _timers: &mut Timers, timer: Timer) -> Verdict {
    let line = Line::new(gic, timer)?;
    line.arm(time::ms(3));
    while !timer.is_met() {
        arch::cpu::wfi();
    }
    line.verdict(0)?;
    line.expect(1)
}

/// A deadline further than 32 bits away does not fire early.
#[case(
    spec = "DDI0487 D12.2",
    rows(
        virt_31_bits: (Timer::VIRTUAL, 1 << 31),
        virt_32_bits: (Timer::VIRTUAL, 1 << 32),
        virt_40_bits: (Timer::VIRTUAL, 1 << 40),
        virt_56_bits: (Timer::VIRTUAL, 1 << 56),
        virt_63_bits: (Timer::VIRTUAL, 1 << 63),
        phys_31_bits: (Timer::PHYSICAL, 1 << 31),
        phys_32_bits: (Timer::PHYSICAL, 1 << 32),
        phys_40_bits: (Timer::PHYSICAL, 1 << 40),
        phys_56_bits: (Timer::PHYSICAL, 1 << 56),
        phys_63_bits: (Timer::PHYSICAL, 1 << 63),
    )
)]
fn far_deadline_does_not_fire_early(
    gic: &mut Gic,
    _timers: &mut Timers,
    row: (Timer, u64),
) -> Verdict {
    let (timer, distance) = row;
    let line = Line::new(gic, timer)?;
    timer.set_deadline(timer.count().wrapping_add(distance));
    timer.set_control(TimerControl::ENABLE);
    line.open(|| time::spin(time::ms(2)));
    line.verdict(0)?;
    expect_eq!(timer.is_met(), false)?;
    line.arm(time::ms(1));
    line.expect(1)
}

/// A deadline that is moved before it comes fires once, at its new time.
#[case(
    spec = "DDI0487 D12.2",
    rows(
        virt_earlier: (Timer::VIRTUAL, 8_000, 1),
        virt_later: (Timer::VIRTUAL, 1, 4),
        phys_earlier: (Timer::PHYSICAL, 8_000, 1),
        phys_later: (Timer::PHYSICAL, 1, 4),
    )
)]
fn moved_deadline_fires_once(
    gic: &mut Gic,
    _timers: &mut Timers,
    row: (Timer, u64, u64),
) -> Verdict {
    let (timer, first, second) = row;
    let line = Line::new(gic, timer)?;
    line.arm(time::ms(first));
    let deadline = line.arm(time::ms(second));
    line.expect(1)?;
    let when = line.when.load(SeqCst);
    expect_eq!(when >= deadline, true, "not before the new deadline")?;
    expect_eq!(
        when < deadline + time::ticks(time::ms(6_000)),
        true,
        "not at the old deadline"
    )
}

/// Ten deadlines in a row fire ten times.
#[case(spec = "DDI0487 D12.2", rows(virt: Timer::VIRTUAL, phys: Timer::PHYSICAL))]
fn repeated_deadlines_fire_each_time(gic: &mut Gic, _timers: &mut Timers, timer: Timer) -> Verdict {
    let line = Line::new(gic, timer)?;
    line.open(|| {
        for n in 1..=10 {
            let deadline = line.arm(time::us(300));
            time::wait_until(time::PATIENCE, || line.taken.load(SeqCst) >= n);
            if line.when.load(SeqCst) < deadline {
                line.strange.fetch_add(1, SeqCst);
            }
        }
    });
    line.verdict(10)
}

/// IMASK holds an interrupt back as long as it is set; clearing it late gives exactly one.
#[case(
    spec = "DDI0487 D24.10 CNTV_CTL_EL0",
    rows(virt: Timer::VIRTUAL, phys: Timer::PHYSICAL)
)]
fn imask_holds_the_interrupt_back(gic: &mut Gic, _timers: &mut Timers, timer: Timer) -> Verdict {
    let line = Line::new(gic, timer)?;
    timer.set_deadline(timer.count());
    timer.set_control(TimerControl::ENABLE | TimerControl::IMASK);
    line.open(|| time::spin(time::ms(4)));
    line.verdict(0)?;
    timer.set_control(TimerControl::ENABLE);
    line.expect(1)
}

/// The line is a level: a handler that leaves it high is entered again after its end of interrupt.
#[case(spec = "DDI0487 D12.2", rows(virt: Timer::VIRTUAL, phys: Timer::PHYSICAL))]
fn unserved_level_interrupts_again(gic: &mut Gic, _timers: &mut Timers, timer: Timer) -> Verdict {
    let intid = timer.intid()?;
    gic.set_enabled(intid, true);
    let taken = AtomicU32::new(0);
    timer.set_deadline(0);
    timer.set_control(TimerControl::ENABLE);
    let seen = |iar: Iar| {
        if iar.intid() == intid && taken.fetch_add(1, SeqCst) == 4 {
            timer.stop();
        }
    };
    gic.taking(&seen, || {
        time::wait_until(time::PATIENCE, || taken.load(SeqCst) >= 5);
        time::spin(time::us(300));
    });
    expect_eq!(taken.load(SeqCst), 5)
}
