//! Another processor as a fixture: stopped or running a loop of the case's choice, and back in the
//! runtime's hands afterwards.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use guest_lib::arch::lowcore::offset;
use guest_lib::arch::sigp::{self, Answer};
use guest_lib::arch::smp;
use guest_lib::prelude::*;

/// The second processor.
pub const OTHER: Cpu = Cpu(1);

static STOP: AtomicBool = AtomicBool::new(false);
static BEATS: AtomicU64 = AtomicU64::new(0);

/// A CPU address that no processor has.
pub fn absent() -> u16 {
    smp::absent_address()
}

/// The second processor, started and idle in the runtime's loop. Whatever a case does to it, it
/// starts afresh for the next one.
pub struct Other;

impl Other {
    /// Its CPU address.
    pub fn address(&self) -> u16 {
        smp::address(OTHER.0)
    }

    /// An order to it, repeated while it is busy.
    pub fn order(&self, order: u8, parameter: u64) -> Answer {
        sigp::until_accepted(order, self.address(), parameter)
    }

    /// Absolute address of its prefix area.
    pub fn prefix(&self) -> u64 {
        smp::prefix_of(OTHER.0)
    }

    /// Whether it is stopped, by SENSE.
    pub fn is_stopped(&self) -> bool {
        sigp::is_stopped(self.address())
    }

    /// Stops it and waits until it is.
    pub fn stop(&self) -> Verdict {
        expect_eq!(self.order(sigp::STOP, 0), Answer::Accepted)?;
        expect!(
            time::wait_until(time::PATIENCE, || self.is_stopped()),
            "it stops"
        )
    }

    /// Has it count in a loop until it is told to end.
    pub fn beat(&self) -> Result<Beating, Stop> {
        STOP.store(false, Ordering::Release);
        let job = cpus::spawn_on(OTHER, || {
            while !STOP.load(Ordering::Acquire) {
                BEATS.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        let beating = Beating(Some(job));
        expect!(beating.advances(), "it runs")?;
        Ok(beating)
    }
}

/// A loop on the other processor.
pub struct Beating(Option<cpus::Job<()>>);

impl Beating {
    /// Whether the loop goes on.
    pub fn advances(&self) -> bool {
        let before = BEATS.load(Ordering::Relaxed);
        time::wait_until(time::PATIENCE, || BEATS.load(Ordering::Relaxed) != before)
    }

    /// Whether the loop stands still for a while.
    pub fn stands(&self) -> bool {
        let before = BEATS.load(Ordering::Relaxed);
        time::spin(time::ms(2));
        BEATS.load(Ordering::Relaxed) == before
    }

    /// Ends the loop in good order.
    pub fn end(mut self) -> Verdict {
        STOP.store(true, Ordering::Release);
        match self.0.take() {
            Some(job) => job.join_within(time::PATIENCE),
            None => Ok(()),
        }
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        STOP.store(true, Ordering::Release);
    }
}

impl Fixture for Other {
    fn fresh() -> Result<Self, Stop> {
        cpus::start(OTHER)?;
        Ok(Other)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // Whatever state it is in, a reset stops it, and the runtime starts it anew.
        self.order(sigp::INITIAL_CPU_RESET, 0);
        cpus::forget(OTHER);
        // Interruptions that the case left behind must not reach the next one.
        let _ = guest_lib::arch::lowcore::read64(offset::RESTART_NEW);
    }
}
