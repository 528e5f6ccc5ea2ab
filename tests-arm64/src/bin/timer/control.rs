//! CTL: enable, mask and status, and the level that comes out. Spec: DDI0487 D12.2, D24.10.
//!
//! The line is high exactly while the timer is enabled, not masked and its deadline has come. It is a
//! level: whatever lowers it takes a pending interrupt back. Hypervisors inject timer interrupts
//! by software and forget to take them back.

use crate::line::Line;
use guest_lib::arch::gic::Gic;
use guest_lib::arch::registers::{CntpCtlEl0, TimerControl};
use guest_lib::arch::timer::{Timer, Timers};
use guest_lib::prelude::*;

/// ISTATUS is set when the deadline comes, and not before.
#[case(
    spec = "DDI0487 D24.10 CNTV_CTL_EL0",
    rows(virt: Timer::VIRTUAL, phys: Timer::PHYSICAL)
)]
fn istatus_follows_the_deadline(_timers: &mut Timers, timer: Timer) -> Verdict {
    let deadline = timer.count() + time::ticks(time::ms(5));
    timer.set_deadline(deadline);
    timer.set_control(TimerControl::ENABLE | TimerControl::IMASK);
    loop {
        // The counter is read behind ISTATUS, so a set bit before its time shows.
        let (met, now) = (timer.is_met(), timer.count());
        if met {
            expect_eq!(
                now >= deadline,
                true,
                "the deadline has come when ISTATUS is set"
            )?;
            note!("seen {} ticks late", now - deadline);
            break;
        }
        if now > deadline + time::ticks(time::PATIENCE) {
            return fail!("ISTATUS stays clear");
        }
    }
    timer.set_deadline(timer.count() + time::ticks(time::PATIENCE));
    expect_eq!(
        timer.is_met(),
        false,
        "ISTATUS after the deadline moved away"
    )
}

/// A deadline in the future leaves the interrupt neither pending nor active.
#[case(spec = "DDI0487 D12.2", rows(virt: Timer::VIRTUAL, phys: Timer::PHYSICAL))]
fn future_deadline_is_not_pending(gic: &mut Gic, _timers: &mut Timers, timer: Timer) -> Verdict {
    let line = Line::new(gic, timer)?;
    line.arm(time::ms(10_000));
    expect_eq!(timer.is_met(), false)?;
    expect_eq!(gic.is_pending(line.intid), false, "pending")?;
    expect_eq!(gic.is_active(line.intid), false, "active")?;
    timer.set_deadline(0);
    expect_eq!(
        line.settles(true),
        true,
        "pending after the deadline moved to the past"
    )
}

/// A processor that masks interrupts has the condition set and the interrupt pending.
#[case(spec = "DDI0487 D12.2", rows(virt: Timer::VIRTUAL, phys: Timer::PHYSICAL))]
fn masked_cpu_leaves_it_pending(gic: &mut Gic, _timers: &mut Timers, timer: Timer) -> Verdict {
    let line = Line::new(gic, timer)?;
    timer.set_deadline(timer.count() - 1);
    timer.set_control(TimerControl::ENABLE);
    expect_eq!(timer.is_met(), true, "ISTATUS")?;
    expect_eq!(line.settles(true), true, "pending")?;
    line.verdict(0)?;
    line.expect(1)
}

/// A timer that is off raises nothing, however old its deadline.
#[case(spec = "DDI0487 D12.2", rows(virt: Timer::VIRTUAL, phys: Timer::PHYSICAL))]
fn disabled_timer_raises_nothing(gic: &mut Gic, _timers: &mut Timers, timer: Timer) -> Verdict {
    let line = Line::new(gic, timer)?;
    timer.set_deadline(0);
    line.open(|| time::spin(time::ms(2)));
    line.verdict(0)?;
    expect_eq!(gic.is_pending(line.intid), false)?;
    timer.set_control(TimerControl::ENABLE);
    line.expect(1)
}

/// Turning the timer off takes a pending interrupt back.
#[case(spec = "DDI0487 D12.2", rows(virt: Timer::VIRTUAL, phys: Timer::PHYSICAL))]
fn disabling_takes_the_interrupt_back(
    gic: &mut Gic,
    _timers: &mut Timers,
    timer: Timer,
) -> Verdict {
    let line = Line::new(gic, timer)?;
    timer.set_deadline(0);
    timer.set_control(TimerControl::ENABLE);
    expect_eq!(line.settles(true), true, "pending while enabled")?;
    timer.stop();
    expect_eq!(line.settles(false), true, "not pending when off")?;
    line.open(|| time::spin(time::ms(1)));
    line.verdict(0)
}

/// Moving the deadline into the future takes a pending interrupt back.
#[case(spec = "DDI0487 D12.2", rows(virt: Timer::VIRTUAL, phys: Timer::PHYSICAL))]
fn later_deadline_takes_the_interrupt_back(
    gic: &mut Gic,
    _timers: &mut Timers,
    timer: Timer,
) -> Verdict {
    let line = Line::new(gic, timer)?;
    timer.set_deadline(0);
    timer.set_control(TimerControl::ENABLE);
    expect_eq!(line.settles(true), true, "pending")?;
    timer.set_deadline(!0);
    expect_eq!(
        line.settles(false),
        true,
        "not pending with a later deadline"
    )?;
    line.open(|| time::spin(time::ms(1)));
    line.verdict(0)
}

/// IMASK lowers the line and leaves ISTATUS; clearing it raises the line again.
#[case(
    spec = "DDI0487 D24.10 CNTV_CTL_EL0",
    rows(virt: Timer::VIRTUAL, phys: Timer::PHYSICAL)
)]
fn imask_lowers_the_line(gic: &mut Gic, _timers: &mut Timers, timer: Timer) -> Verdict {
    let line = Line::new(gic, timer)?;
    timer.set_deadline(0);
    timer.set_control(TimerControl::ENABLE | TimerControl::IMASK);
    expect_eq!(timer.is_met(), true, "ISTATUS with IMASK")?;
    expect_eq!(line.settles(false), true, "not pending with IMASK")?;
    timer.set_control(TimerControl::ENABLE);
    expect_eq!(line.settles(true), true, "pending without IMASK")?;
    timer.set_control(TimerControl::ENABLE | TimerControl::IMASK);
    expect_eq!(line.settles(false), true, "not pending with IMASK again")
}

/// ENABLE and IMASK read back as written; ISTATUS cannot be written.
#[case(
    spec = "DDI0487 D24.10 CNTV_CTL_EL0",
    rows(virt: Timer::VIRTUAL, phys: Timer::PHYSICAL)
)]
fn control_keeps_its_two_bits(_timers: &mut Timers, timer: Timer) -> Verdict {
    timer.set_deadline(!0);
    for bits in [1, 3, 1, 2, 0] {
        timer.set_control(TimerControl::from_bits_retain(bits));
        // ISTATUS of a timer that is off is unknown.
        let known = if bits & 1 != 0 { !0 } else { !4 };
        expect_eq!(timer.control().bits() & 7 & known, bits)?;
    }
    timer.set_control(TimerControl::ENABLE | TimerControl::ISTATUS);
    expect_eq!(
        timer.is_met(),
        false,
        "ISTATUS after an attempt to write it"
    )
}

/// The physical timer's control register can be read.
#[case(spec = "DDI0487 D24.10 CNTP_CTL_EL0")]
fn physical_timer_is_accessible(_timers: &mut Timers) -> Verdict {
    let value = fault::catch(CntpCtlEl0::read)?;
    expect_eq!(value & !4, 0, "a timer that is off")
}

/// The GIC's enable bit gates the interrupt, and the line waits behind it.
#[case(spec = "DDI0487 D12.2", rows(virt: Timer::VIRTUAL, phys: Timer::PHYSICAL))]
fn gic_enable_gates_delivery(gic: &mut Gic, _timers: &mut Timers, timer: Timer) -> Verdict {
    let line = Line::new(gic, timer)?;
    gic.set_enabled(line.intid, false);
    expect_eq!(gic.is_enabled(line.intid), false)?;
    timer.set_deadline(0);
    timer.set_control(TimerControl::ENABLE);
    line.open(|| time::spin(time::ms(1)));
    line.verdict(0)?;
    expect_eq!(
        gic.is_pending(line.intid),
        true,
        "pending while not enabled"
    )?;
    gic.set_enabled(line.intid, true);
    line.expect(1)
}
