//! Generic timers: a counter, a deadline and a control register each.

use super::gic::Intid;
use super::registers::{self as r, TimerControl};
use super::{cpu, platform};
use crate::case::{Fixture, Stop, skip};

/// One of the timers of a processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// CNTV_*: at EL1 the virtual timer, at EL2 with E2H the EL2 virtual timer.
    Virtual,
    /// CNTP_*: at EL1 the physical timer, at EL2 with E2H the EL2 physical timer.
    Physical,
}

/// A timer of the processor that uses this value. As a fixture it is off at start and end.
#[derive(Clone, Copy, Debug)]
pub struct Timer(pub Kind);

impl Timer {
    /// The virtual timer.
    pub const VIRTUAL: Timer = Timer(Kind::Virtual);
    /// The physical timer.
    pub const PHYSICAL: Timer = Timer(Kind::Physical);

    /// The counter it compares with.
    pub fn count(self) -> u64 {
        match self.0 {
            Kind::Virtual => r::virtual_count(),
            Kind::Physical => r::physical_count(),
        }
    }

    /// The INTID that the device tree publishes for it. Trees of older machines leave out the EL2
    /// virtual timer; then the case is skipped.
    pub fn intid(self) -> Result<Intid, Stop> {
        let all = platform::info().timer_intids;
        let number = match (self.0, cpu::current_el()) {
            (Kind::Virtual, 2) => all[4],
            (Kind::Physical, 2) => all[3],
            (Kind::Virtual, _) => all[2],
            (Kind::Physical, _) => all[1],
        };
        match number {
            0 => skip("arm64.hyp_virtual_timer"),
            n => Ok(Intid(n)),
        }
    }

    /// CTL.
    pub fn control(self) -> TimerControl {
        cpu::isb();
        TimerControl::from_bits_retain(match self.0 {
            Kind::Virtual => r::CntvCtlEl0::read(),
            Kind::Physical => r::CntpCtlEl0::read(),
        })
    }

    /// Writes CTL.
    pub fn set_control(self, value: TimerControl) {
        match self.0 {
            Kind::Virtual => r::CntvCtlEl0::write(value.bits()),
            Kind::Physical => r::CntpCtlEl0::write(value.bits()),
        }
    }

    /// CVAL.
    pub fn deadline(self) -> u64 {
        match self.0 {
            Kind::Virtual => r::CntvCvalEl0::read(),
            Kind::Physical => r::CntpCvalEl0::read(),
        }
    }

    /// Writes CVAL.
    pub fn set_deadline(self, value: u64) {
        match self.0 {
            Kind::Virtual => r::CntvCvalEl0::write(value),
            Kind::Physical => r::CntpCvalEl0::write(value),
        }
    }

    /// TVAL, all 64 bits of the register.
    pub fn remaining(self) -> u64 {
        cpu::isb();
        match self.0 {
            Kind::Virtual => r::CntvTvalEl0::read(),
            Kind::Physical => r::CntpTvalEl0::read(),
        }
    }

    /// TVAL as the signed number that its low half is.
    pub fn remaining_signed(self) -> i32 {
        self.remaining() as i32
    }

    /// Writes TVAL.
    pub fn set_remaining(self, value: i32) {
        match self.0 {
            Kind::Virtual => r::CntvTvalEl0::write(value as u32 as u64),
            Kind::Physical => r::CntpTvalEl0::write(value as u32 as u64),
        }
    }

    /// Whether the condition is met (ISTATUS of an enabled timer).
    pub fn is_met(self) -> bool {
        self.control().contains(TimerControl::ISTATUS)
    }

    /// Turns the timer off.
    pub fn stop(self) {
        self.set_control(TimerControl::empty());
    }
}

/// Both timers of the boot processor, off at start and end.
pub struct Timers {
    /// CNTV_*.
    pub virt: Timer,
    /// CNTP_*.
    pub phys: Timer,
}

impl Fixture for Timers {
    fn fresh() -> Result<Self, Stop> {
        let all = Timers {
            virt: Timer::VIRTUAL,
            phys: Timer::PHYSICAL,
        };
        all.quiet();
        Ok(all)
    }
}

impl Timers {
    fn quiet(&self) {
        for timer in [self.virt, self.phys] {
            timer.stop();
            timer.set_deadline(!0);
        }
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        self.quiet();
    }
}
