//! Locks and barriers for a handful of processors.

use crate::arch;
use crate::time;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A lock that spins. Not for interrupt handlers.
pub struct SpinLock<T> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through a guard, and there is one guard at a time.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    /// An open lock around `value`.
    pub const fn new(value: T) -> Self {
        SpinLock {
            held: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// Waits for the lock.
    pub fn lock(&self) -> Guard<'_, T> {
        while !self.try_take() {
            arch::cpu::relax();
        }
        Guard { lock: self }
    }

    /// Waits for the lock, and takes it by force after about a second: only for the console.
    pub(crate) fn lock_or_force(&self) -> Guard<'_, T> {
        for _ in 0..20_000_000u32 {
            if self.try_take() {
                break;
            }
            arch::cpu::relax();
        }
        self.held.store(true, Ordering::Relaxed);
        Guard { lock: self }
    }

    fn try_take(&self) -> bool {
        self.held
            .compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }
}

/// Opens its lock when dropped.
pub struct Guard<'a, T> {
    lock: &'a SpinLock<T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.lock.held.store(false, Ordering::Release);
    }
}

/// A meeting point for `n` processors, again and again.
pub struct Barrier {
    n: usize,
    arrived: AtomicUsize,
    round: AtomicUsize,
}

impl Barrier {
    /// A barrier for `n` processors.
    pub const fn new(n: usize) -> Self {
        Barrier {
            n,
            arrived: AtomicUsize::new(0),
            round: AtomicUsize::new(0),
        }
    }

    /// Waits until all have come.
    pub fn wait(&self) {
        let round = self.round.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.n {
            self.arrived.store(0, Ordering::Release);
            self.round.store(round.wrapping_add(1), Ordering::Release);
        } else {
            while self.round.load(Ordering::Acquire) == round {
                arch::cpu::relax();
            }
        }
    }
}

/// Spins until `condition` holds, at most `limit`; says whether it came to hold.
pub fn wait_for(limit: time::Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = time::Deadline::after(limit);
    loop {
        if condition() {
            return true;
        }
        if deadline.passed() {
            return condition();
        }
        arch::cpu::relax();
    }
}
