//! CVAL and TVAL: one deadline, two views. Spec: DDI0487 D12.2, D24.10.
//!
//! CVAL holds 64 bits. TVAL is the low half of CVAL minus the counter, and writing it sets CVAL to the
//! counter plus the sign-extended value. A hypervisor that keeps the deadline in host time, or in
//! 32 bits, gets the far ends wrong.

use guest_lib::arch::registers::{CntpTvalEl0, CntvTvalEl0, TimerControl};
use guest_lib::arch::timer::{Kind, Timer, Timers};
use guest_lib::prelude::*;

/// An interval that the counter runs through while TVAL is read: TVAL is exact within it.
fn tval_between(timer: Timer, deadline: u64) -> (u32, u32, u32) {
    let before = deadline.wrapping_sub(timer.count()) as u32;
    let tval = timer.remaining() as u32;
    let after = deadline.wrapping_sub(timer.count()) as u32;
    (before, tval, after)
}

fn expect_tval(timer: Timer, deadline: u64) -> Verdict {
    timer.set_deadline(deadline);
    timer.set_control(TimerControl::ENABLE | TimerControl::IMASK);
    let (before, tval, after) = tval_between(timer, deadline);
    // It counts down, so it lies at most `before - after` below `before`.
    if before.wrapping_sub(tval) > before.wrapping_sub(after) {
        return fail!("TVAL {tval:#x} is not between {before:#x} and {after:#x}");
    }
    Ok(())
}

/// TVAL is the low half of the distance to the deadline, wherever that lies.
#[case(
    spec = "DDI0487 D24.10 CNTV_TVAL_EL0",
    rows(
        virt_past: (Timer::VIRTUAL, -5_000_000),
        virt_near: (Timer::VIRTUAL, 5_000_000),
        virt_beyond_31_bits: (Timer::VIRTUAL, (1 << 31) + 5_000_000),
        virt_beyond_32_bits: (Timer::VIRTUAL, (1 << 32) - 2 + 5_000_000),
        virt_far: (Timer::VIRTUAL, 1 << 60),
        phys_past: (Timer::PHYSICAL, -5_000_000),
        phys_near: (Timer::PHYSICAL, 5_000_000),
        phys_beyond_31_bits: (Timer::PHYSICAL, (1 << 31) + 5_000_000),
        phys_beyond_32_bits: (Timer::PHYSICAL, (1 << 32) - 2 + 5_000_000),
        phys_far: (Timer::PHYSICAL, 1 << 60),
    )
)]
fn tval_is_the_distance(_timers: &mut Timers, row: (Timer, i64)) -> Verdict {
    let (timer, distance) = row;
    expect_tval(timer, timer.count().wrapping_add_signed(distance))
}

/// TVAL is negative for a deadline in the past.
#[case(
    spec = "DDI0487 D24.10 CNTV_TVAL_EL0",
    rows(virt: Timer::VIRTUAL, phys: Timer::PHYSICAL)
)]
fn tval_of_a_past_deadline_is_negative(_timers: &mut Timers, timer: Timer) -> Verdict {
    timer.set_deadline(timer.count() - 1000);
    timer.set_control(TimerControl::ENABLE | TimerControl::IMASK);
    expect_eq!(timer.remaining_signed() < 0, true)?;
    timer.set_deadline(timer.count() + time::ticks(time::PATIENCE));
    expect_eq!(
        timer.remaining_signed() > 0,
        true,
        "with a deadline in the future"
    )
}

/// Writing TVAL sets CVAL to the counter plus the sign-extended value.
#[case(
    spec = "DDI0487 D24.10 CNTV_TVAL_EL0",
    rows(
        virt_zero: (Timer::VIRTUAL, 0),
        virt_minus_one: (Timer::VIRTUAL, -1),
        virt_largest: (Timer::VIRTUAL, i32::MAX),
        virt_smallest: (Timer::VIRTUAL, i32::MIN),
        phys_zero: (Timer::PHYSICAL, 0),
        phys_minus_one: (Timer::PHYSICAL, -1),
        phys_largest: (Timer::PHYSICAL, i32::MAX),
        phys_smallest: (Timer::PHYSICAL, i32::MIN),
    )
)]
fn tval_write_sets_the_deadline(_timers: &mut Timers, row: (Timer, i32)) -> Verdict {
    let (timer, value) = row;
    let before = timer.count();
    timer.set_remaining(value);
    let after = timer.count();
    let distance = timer
        .deadline()
        .wrapping_sub(before.wrapping_add_signed(value.into()));
    expect_eq!(
        distance <= after - before,
        true,
        "CVAL lies {distance:#x} too far"
    )
}

/// TVAL ignores the upper half of what is written, and its upper half reads as zero.
#[case(
    spec = "DDI0487 D24.10 CNTV_TVAL_EL0",
    rows(virt: Timer::VIRTUAL, phys: Timer::PHYSICAL)
)]
fn tval_has_32_bits(_timers: &mut Timers, timer: Timer) -> Verdict {
    timer.set_control(TimerControl::ENABLE | TimerControl::IMASK);
    let before = timer.count();
    match timer.0 {
        Kind::Virtual => CntvTvalEl0::write(0x1234_5678_0000_1000),
        Kind::Physical => CntpTvalEl0::write(0x1234_5678_0000_1000),
    }
    let after = timer.count();
    let distance = timer.deadline() - before;
    expect_eq!(
        (0x1000..=0x1000 + after - before).contains(&distance),
        true,
        "{distance:#x}"
    )?;
    timer.set_deadline(0);
    expect_eq!(timer.remaining() >> 32, 0, "upper half of TVAL")
}

/// TVAL counts down through zero.
#[case(
    spec = "DDI0487 D24.10 CNTV_TVAL_EL0",
    rows(virt: Timer::VIRTUAL, phys: Timer::PHYSICAL)
)]
fn tval_counts_down_through_zero(_timers: &mut Timers, timer: Timer) -> Verdict {
    timer.set_deadline(timer.count() + time::ticks(time::ms(1)));
    timer.set_control(TimerControl::ENABLE | TimerControl::IMASK);
    let mut last = timer.remaining_signed();
    let rose = time::wait_until(time::PATIENCE, || {
        let now = timer.remaining_signed();
        let rose = now > last;
        last = now;
        rose || now < 0
    });
    expect_eq!(rose, true, "TVAL gets below zero")?;
    expect_eq!(last < 0, true, "TVAL never rises: {last}")
}

/// CVAL keeps all of its 64 bits.
#[case(
    spec = "DDI0487 D24.10 CNTV_CVAL_EL0",
    rows(virt: Timer::VIRTUAL, phys: Timer::PHYSICAL)
)]
fn cval_keeps_64_bits(_timers: &mut Timers, timer: Timer) -> Verdict {
    for value in [
        0,
        1,
        0xffff_ffff,
        1 << 32,
        0x8000_0000_0000_0000,
        !0,
        0x0123_4567_89ab_cdef,
    ] {
        timer.set_deadline(value);
        expect_eq!(timer.deadline(), value)?;
    }
    Ok(())
}

/// The comparison is unsigned: deadline 0 has come, the largest deadline has not.
#[case(spec = "DDI0487 D12.2", rows(virt: Timer::VIRTUAL, phys: Timer::PHYSICAL))]
fn comparison_is_unsigned(_timers: &mut Timers, timer: Timer) -> Verdict {
    timer.set_control(TimerControl::ENABLE | TimerControl::IMASK);
    let half = 1 << 63;
    for (deadline, met) in [
        (0, true),
        (!0, false),
        (1, true),
        (half, false),
        (half | 1, false),
    ] {
        timer.set_deadline(deadline);
        expect_eq!(timer.is_met(), met, "ISTATUS with CVAL {deadline:#x}")?;
    }
    Ok(())
}

/// Runs through deadlines and returns the first sample that `wrong` finds wrong: (counter before,
/// ISTATUS, counter after, deadline).
fn wrong_sample(
    timer: Timer,
    wrong: fn(u64, bool, u64, u64) -> bool,
) -> Option<(u64, bool, u64, u64)> {
    timer.set_control(TimerControl::ENABLE | TimerControl::IMASK);
    for _ in 0..600 {
        let deadline = timer.count() + time::ticks(time::us(50));
        timer.set_deadline(deadline);
        loop {
            let before = timer.count();
            let met = timer.is_met();
            let after = timer.count();
            if wrong(before, met, after, deadline) {
                return Some((before, met, after, deadline));
            }
            if before >= deadline {
                break;
            }
        }
    }
    None
}

/// ISTATUS is never set before the counter reaches the deadline.
#[case(spec = "DDI0487 D12.2", rows(virt: Timer::VIRTUAL, phys: Timer::PHYSICAL))]
fn istatus_is_never_early(_timers: &mut Timers, timer: Timer) -> Verdict {
    let early = |_, met, after, deadline| met && after < deadline;
    expect_eq!(
        wrong_sample(timer, early),
        None,
        "(before, ISTATUS, after, CVAL)"
    )
}

/// ISTATUS is set as soon as the counter has reached the deadline.
#[case(spec = "DDI0487 D12.2", rows(virt: Timer::VIRTUAL, phys: Timer::PHYSICAL))]
fn istatus_is_never_late(_timers: &mut Timers, timer: Timer) -> Verdict {
    let late = |before, met: bool, _, deadline| !met && before >= deadline;
    expect_eq!(
        wrong_sample(timer, late),
        None,
        "(before, ISTATUS, after, CVAL)"
    )
}
