//! The guest's clock. Spec: SDM 3B 18.17.
//!
//! Every time limit in the suite counts on it: it must run, never go back, and its frequency must
//! be known within reason.

use guest_lib::prelude::*;
use guest_lib::sync::SpinLock;

/// The time-stamp counter never goes back on one processor, and it moves.
#[case(spec = "SDM 3B 18.17 RDTSC")]
fn counter_never_goes_back() -> Verdict {
    let start = time::now();
    let mut last = start;
    for _ in 0..100_000 {
        let now = time::now();
        expect!(now >= last, "{last:#x} is followed by {now:#x}")?;
        last = now;
    }
    expect!(last > start, "the counter stands still")
}

/// A wait lasts at least as long as asked, by the counter, and a limit ends one that is in vain.
#[case(spec = "SDM 3B 18.17 RDTSC")]
fn waits_last_at_least_their_time() -> Verdict {
    for wait in [time::us(1), time::us(100), time::ms(5)] {
        let start = time::now();
        time::spin(wait);
        let elapsed = time::now() - start;
        expect!(elapsed >= time::ticks(wait), "{elapsed} ticks for {wait:?}")?;
    }
    expect!(!time::wait_until(time::ms(2), || false))?;
    expect!(time::wait_until(time::ms(0), || true))
}

/// Counters of different processors agree on order: a later look never sees an earlier time.
#[case(spec = "SDM 3B 18.17 RDTSC", needs("cpus>=2"))]
fn counters_agree_across_processors() -> Verdict {
    static LAST: SpinLock<u64> = SpinLock::new(0);
    *LAST.lock() = 0;
    let back = cpus::on_all(|_| {
        for _ in 0..2000 {
            let mut last = LAST.lock();
            let now = time::now();
            if now < *last {
                return *last - now;
            }
            *last = now;
        }
        0
    })?;
    expect!(
        back.iter().all(|&b| b == 0),
        "ticks back, by processor: {back:?}"
    )
}
