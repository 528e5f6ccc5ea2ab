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
