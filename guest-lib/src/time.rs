//! The guest's own clock: TSC, generic counter, TOD clock.

use crate::arch;
pub use core::time::Duration;

/// Ticks of the guest's clock, from [`arch::time::ticks`].
pub fn now() -> u64 {
    arch::time::ticks()
}

/// `duration` in ticks.
pub fn ticks(duration: Duration) -> u64 {
    (duration.as_nanos() * u128::from(arch::time::ticks_per_second()) / 1_000_000_000) as u64
}

/// The time `ticks` take.
pub fn duration(ticks: u64) -> Duration {
    let ns = u128::from(ticks) * 1_000_000_000 / u128::from(arch::time::ticks_per_second());
    Duration::from_nanos(ns as u64)
}

/// `n` milliseconds.
pub const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// `n` microseconds.
pub const fn us(n: u64) -> Duration {
    Duration::from_micros(n)
}

/// How long a case waits for something that must happen: wide, because machines are noisy
/// and emulators slow; the runner's own limit is wider still.
pub const PATIENCE: Duration = ms(10_000);

/// A moment on the guest's clock.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    start: u64,
    length: u64,
}

impl Deadline {
    /// `limit` from now.
    pub fn after(limit: Duration) -> Self {
        Deadline {
            start: now(),
            length: ticks(limit),
        }
    }

    /// Whether it lies in the past.
    pub fn passed(&self) -> bool {
        now().wrapping_sub(self.start) >= self.length
    }
}

/// Spins for `time`.
pub fn spin(time: Duration) {
    crate::sync::wait_for(time, || false);
}

/// Spins until `condition` holds, at most `limit`; says whether it came to hold.
pub fn wait_until(limit: Duration, condition: impl FnMut() -> bool) -> bool {
    crate::sync::wait_for(limit, condition)
}
