//! The virtual and the physical timer together. Spec: DDI0487 D12.2.
//!
//! Both belong to one processor but not to each other. Hypervisors that back one of them by the host's
//! own timer have mixed them up: one deadline fires the other's interrupt, or turning one off stops both.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use guest_lib::arch::gic::{Gic, Iar};
use guest_lib::arch::registers::{CntpctEl0, CntvctEl0, TimerControl};
use guest_lib::arch::timer::{Timer, Timers};
use guest_lib::prelude::*;

/// What each timer did: [virtual, physical].
#[derive(Default)]
struct Pair {
    taken: [AtomicU32; 2],
    when: [AtomicU64; 2],
    strange: AtomicU32,
}

fn run(gic: &Gic, pair: &Pair, body: impl FnOnce()) -> Verdict {
    let timers = [Timer::VIRTUAL, Timer::PHYSICAL];
    let intids = [timers[0].intid()?, timers[1].intid()?];
    expect_ne!(intids[0], intids[1])?;
    for intid in intids {
        gic.set_enabled(intid, true);
    }
    let seen = |iar: Iar| match intids.iter().position(|i| *i == iar.intid()) {
        Some(i) => {
            if !timers[i].is_met() {
                pair.strange.fetch_add(1, SeqCst);
            }
            pair.when[i].store(timers[i].count(), SeqCst);
            timers[i].stop();
            pair.taken[i].fetch_add(1, SeqCst);
        }
        None => {
            pair.strange.fetch_add(1, SeqCst);
        }
    };
    gic.taking(&seen, body);
    expect_eq!(
        pair.strange.load(SeqCst),
        0,
        "interrupts of a timer that has not fired"
    )
}

fn arm(timer: Timer, after: u64) -> u64 {
    let deadline = timer.count() + time::ticks(time::us(after));
    timer.set_deadline(deadline);
    timer.set_control(TimerControl::ENABLE);
    deadline
}

/// Armed together, each timer fires once, by its own INTID, not before its own deadline.
#[case(
    spec = "DDI0487 D12.2",
    rows(virt_first: (1_000, 4_000), phys_first: (4_000, 1_000), same_time: (2_000, 2_000))
)]
fn each_fires_at_its_own_deadline(gic: &mut Gic, timers: &mut Timers, us: (u64, u64)) -> Verdict {
    let pair = Pair::default();
    let mut deadlines = [0; 2];
    run(gic, &pair, || {
        deadlines = [arm(timers.virt, us.0), arm(timers.phys, us.1)];
        let done = || pair.taken.iter().all(|t| t.load(SeqCst) > 0);
        time::wait_until(time::PATIENCE, done);
        time::spin(time::us(300));
    })?;
    for (i, name) in ["virtual", "physical"].into_iter().enumerate() {
        expect_eq!(
            pair.taken[i].load(SeqCst),
            1,
            "interrupts of the {name} timer"
        )?;
        let when = pair.when[i].load(SeqCst);
        expect_eq!(when >= deadlines[i], true, "the {name} timer is not early")?;
    }
    Ok(())
}

/// Turning one timer off leaves the other armed.
#[case(spec = "DDI0487 D12.2", rows(virt_off: true, phys_off: false))]
fn stopping_one_leaves_the_other(gic: &mut Gic, timers: &mut Timers, virt_off: bool) -> Verdict {
    let pair = Pair::default();
    let (stopped, armed) = if virt_off {
        (timers.virt, timers.phys)
    } else {
        (timers.phys, timers.virt)
    };
    let mut in_time = false;
    run(gic, &pair, || {
        // A machine that is preempted here may find that both deadlines have come: then once more,
        // with more room.
        for after in [2_000, 20_000, 200_000, 2_000_000] {
            let deadline = arm(stopped, after);
            arm(armed, after);
            stopped.stop();
            in_time = stopped.count() < deadline;
            if in_time {
                break;
            }
            armed.stop();
            pair.taken.iter().for_each(|t| t.store(0, SeqCst));
        }
        let wanted = usize::from(virt_off);
        time::wait_until(time::PATIENCE, || pair.taken[wanted].load(SeqCst) > 0);
        time::spin(time::us(300));
    })?;
    expect!(
        in_time,
        "2 s go by between arming a timer and turning it off"
    )?;
    let taken = [pair.taken[0].load(SeqCst), pair.taken[1].load(SeqCst)];
    expect_eq!(
        taken,
        if virt_off { [0, 1] } else { [1, 0] },
        "interrupts [virtual, physical]"
    )
}

/// Registers of one timer do not show in the other.
#[case(spec = "DDI0487 D24.10 CNTP_CVAL_EL0")]
fn registers_are_separate(timers: &mut Timers) -> Verdict {
    timers.virt.set_deadline(0x1111_2222_3333_4444);
    timers.phys.set_deadline(0x5555_6666_7777_8888);
    timers
        .virt
        .set_control(TimerControl::ENABLE | TimerControl::IMASK);
    expect_eq!(timers.virt.deadline(), 0x1111_2222_3333_4444)?;
    expect_eq!(timers.phys.deadline(), 0x5555_6666_7777_8888)?;
    expect_eq!(
        timers.phys.control() & TimerControl::ENABLE,
        TimerControl::empty()
    )
}

/// The physical counter is ahead of the virtual one by an amount that does not change.
#[case(spec = "DDI0487 D12.2")]
fn counter_offset_is_constant() -> Verdict {
    // Each triple of reads bounds the offset; all bounds must have a value in common.
    let (mut low, mut high) = (0, u64::MAX);
    for _ in 0..2_000 {
        arch::cpu::isb();
        let before = CntpctEl0::read();
        arch::cpu::isb();
        let virt = CntvctEl0::read();
        arch::cpu::isb();
        let after = CntpctEl0::read();
        low = low.max(before.wrapping_sub(virt).min(1 << 63));
        high = high.min(after.wrapping_sub(virt));
        if before.wrapping_sub(virt) > after.wrapping_sub(virt) {
            low = 0;
        }
    }
    note!("offset between {low} and {high} ticks");
    expect_eq!(low <= high, true, "{low:#x} <= {high:#x}")
}
