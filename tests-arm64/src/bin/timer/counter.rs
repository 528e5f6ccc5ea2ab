//! The counters. Spec: DDI0487 D12.1, D12.2.
//!
//! A counter never goes back, not even from one processor to another, and its frequency is what
//! CNTFRQ_EL0 says. A guest derives all its time from that.

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use guest_lib::arch::registers::{CntfrqEl0, physical_count, virtual_count};
use guest_lib::prelude::*;

/// The frequency is not zero, at least 1 MHz as Armv8.0 asks, and the same on every processor.
#[case(spec = "DDI0487 D12.1 CNTFRQ_EL0")]
fn frequency_is_the_same_everywhere() -> Verdict {
    let here = CntfrqEl0::read();
    note!("{here} Hz");
    expect_eq!((1_000_000..=1 << 32).contains(&here), true, "{here} Hz")?;
    for (i, there) in cpus::on_all(|_| CntfrqEl0::read())?.into_iter().enumerate() {
        expect_eq!(there, here, "on CPU {i}")?;
    }
    Ok(())
}

/// A counter moves on and never goes back.
#[case(spec = "DDI0487 D12.2", rows(virt: virtual_count, phys: physical_count))]
fn counter_never_goes_back(read: fn() -> u64) -> Verdict {
    let start = read();
    let mut last = start;
    for _ in 0..5_000 {
        let now = read();
        if now < last {
            return fail!("the counter went back by {}", last - now);
        }
        last = now;
    }
    expect_ne!(last, start)
}

/// A processor that learns of another's count finds its own not behind it.
#[case(
    spec = "DDI0487 D12.1",
    needs("cpus>=2"),
    rows(virt: virtual_count, phys: physical_count)
)]
fn counter_is_the_same_on_all_cpus(read: fn() -> u64) -> Verdict {
    let newest = AtomicU64::new(0);
    let behind = cpus::on_all(|_| {
        let mut behind = 0;
        for _ in 0..500 {
            let seen = newest.load(SeqCst);
            let now = read();
            behind = behind.max(seen.saturating_sub(now));
            newest.fetch_max(now, SeqCst);
        }
        behind
    })?;
    for (i, ticks) in behind.into_iter().enumerate() {
        expect_eq!(ticks, 0, "ticks that CPU {i} is behind")?;
    }
    Ok(())
}

/// Both counters run at the same rate.
#[case(spec = "DDI0487 D12.2")]
fn counters_have_one_rate() -> Verdict {
    // The physical interval encloses the virtual one. They differ by the time between two reads, which
    // a loaded host may stretch, so one try of many has to fit closely.
    let fits = time::wait_until(time::PATIENCE, || {
        let outer = (physical_count(), virtual_count());
        time::spin(time::us(500));
        let inner = (virtual_count(), physical_count());
        let (virt, phys) = (inner.0 - outer.1, inner.1 - outer.0);
        virt <= phys && phys - virt <= virt / 8
    });
    expect_eq!(
        fits,
        true,
        "an interval of both counters that differs by at most an eighth"
    )
}
