//! The clock comparator and the CPU timer as fixtures: quiet again when dropped.

use super::cpu;
use super::fault::Fault;
use crate::case::{Fixture, Stop};
use crate::memory::Frames;

/// The clock comparator of the processor that runs the case.
pub struct Comparator(Frames);

impl Comparator {
    /// Sets it, in TOD-clock units.
    pub fn set(&mut self, value: u64) -> Result<(), Fault> {
        self.0.write(0, value);
        cpu::set_clock_comparator(self.0.address())
    }

    /// Reads it.
    pub fn get(&self) -> Result<u64, Fault> {
        cpu::store_clock_comparator(self.0.address() + 8)?;
        Ok(self.0.read(8))
    }
}

impl Fixture for Comparator {
    fn fresh() -> Result<Self, Stop> {
        let mut comparator = Comparator(Frames::new(1));
        comparator.set(u64::MAX)?;
        Ok(comparator)
    }
}

impl Drop for Comparator {
    fn drop(&mut self) {
        // Supervisor state and an aligned operand: there is nothing to refuse.
        let _ = self.set(u64::MAX);
    }
}

/// The CPU timer of the processor that runs the case.
pub struct CpuTimer(Frames);

impl CpuTimer {
    /// Sets it, in units of 2 to the -12 microseconds.
    pub fn set(&mut self, value: i64) -> Result<(), Fault> {
        self.0.write(0, value);
        cpu::set_cpu_timer(self.0.address())
    }

    /// Reads it.
    pub fn get(&self) -> Result<i64, Fault> {
        cpu::store_cpu_timer(self.0.address() + 8)?;
        Ok(self.0.read(8))
    }
}

impl Fixture for CpuTimer {
    fn fresh() -> Result<Self, Stop> {
        let mut timer = CpuTimer(Frames::new(1));
        timer.set(i64::MAX)?;
        Ok(timer)
    }
}

impl Drop for CpuTimer {
    fn drop(&mut self) {
        // As for the comparator.
        let _ = self.set(i64::MAX);
    }
}

/// The TOD clock: when dropped, it shows the time it would have had.
pub struct TodClock {
    operand: Frames,
    /// What was added to the clock, modulo 2 to the 64.
    moved: core::cell::Cell<u64>,
}

impl TodClock {
    /// SET CLOCK: the condition code.
    pub fn set(&self, value: u64) -> Result<u8, Fault> {
        self.operand.write(0, value);
        let before = super::time::ticks();
        let cc = cpu::set_clock(self.operand.address())?;
        self.moved
            .set(self.moved.get().wrapping_add(value.wrapping_sub(before)));
        Ok(cc)
    }
}

impl Fixture for TodClock {
    fn fresh() -> Result<Self, Stop> {
        Ok(TodClock {
            operand: Frames::new(1),
            moved: core::cell::Cell::new(0),
        })
    }
}

impl Drop for TodClock {
    fn drop(&mut self) {
        if self.moved.get() != 0 {
            self.operand
                .write(0, super::time::ticks().wrapping_sub(self.moved.get()));
            // Aligned, in supervisor state.
            let _ = cpu::set_clock(self.operand.address());
        }
    }
}
