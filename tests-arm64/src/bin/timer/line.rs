//! A timer's interrupt line, as the GIC and this processor see it.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use guest_lib::arch::gic::{Gic, Iar, Intid};
use guest_lib::arch::registers::TimerControl;
use guest_lib::arch::timer::Timer;
use guest_lib::prelude::*;

/// A timer whose interrupt is enabled in the GIC. The handler stops the timer and counts.
pub struct Line<'a> {
    pub gic: &'a Gic,
    pub timer: Timer,
    pub intid: Intid,
    /// Interrupts with the timer's INTID.
    pub taken: AtomicU32,
    /// Interrupts with another one.
    pub strange: AtomicU32,
    /// The counter in the last handler.
    pub when: AtomicU64,
    /// Interrupts for which ISTATUS was not what counter and deadline say.
    pub inconsistent: AtomicU32,
}

impl<'a> Line<'a> {
    /// Enables the interrupt of `timer` for this processor.
    pub fn new(gic: &'a Gic, timer: Timer) -> Result<Self, Stop> {
        let intid = timer.intid()?;
        gic.set_enabled(intid, true);
        Ok(Line {
            gic,
            timer,
            intid,
            taken: AtomicU32::new(0),
            strange: AtomicU32::new(0),
            when: AtomicU64::new(0),
            inconsistent: AtomicU32::new(0),
        })
    }

    /// Runs `body` with IRQs open.
    pub fn open<T>(&self, body: impl FnOnce() -> T) -> T {
        let seen = |iar: Iar| {
            if iar.intid() != self.intid {
                self.strange.fetch_add(1, SeqCst);
                return;
            }
            let (now, met) = (self.timer.count(), self.timer.is_met());
            if met != (now >= self.timer.deadline()) {
                self.inconsistent.fetch_add(1, SeqCst);
            }
            self.timer.stop();
            self.when.store(now, SeqCst);
            self.taken.fetch_add(1, SeqCst);
        };
        self.gic.taking(&seen, body)
    }

    /// Waits with IRQs open until `n` interrupts have been taken, then a little longer for one too
    /// many, and checks the number.
    pub fn expect(&self, n: u32) -> Verdict {
        self.open(|| {
            time::wait_until(time::PATIENCE, || self.taken.load(SeqCst) >= n);
            time::spin(time::us(300));
        });
        self.verdict(n)
    }

    /// Checks that `n` interrupts have been taken, all of them right.
    pub fn verdict(&self, n: u32) -> Verdict {
        expect_eq!(
            self.taken.load(SeqCst),
            n,
            "interrupts with INTID {}",
            self.intid.0
        )?;
        expect_eq!(
            self.strange.load(SeqCst),
            0,
            "interrupts with another INTID"
        )?;
        expect_eq!(
            self.inconsistent.load(SeqCst),
            0,
            "handlers that saw a wrong ISTATUS"
        )
    }

    /// Arms the timer `after` from now, and returns the deadline.
    pub fn arm(&self, after: time::Duration) -> u64 {
        let deadline = self.timer.count() + time::ticks(after);
        self.timer.set_deadline(deadline);
        self.timer.set_control(TimerControl::ENABLE);
        deadline
    }

    /// Waits until the GIC shows the interrupt as `pending`, and says whether it does.
    pub fn settles(&self, pending: bool) -> bool {
        time::wait_until(time::PATIENCE, || {
            self.gic.is_pending(self.intid) == pending
        })
    }
}
