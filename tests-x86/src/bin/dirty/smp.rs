//! Several processors at once. Spec: KVM api 4.8, 4.35.
//!
//! One processor asks for the log while others write. A write may fall into this round or the next
//! one, but into one of them; and when all have stopped, the union of the rounds is what was written.

use crate::{Logged, PAGES, expect_exactly};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use guest_lib::prelude::*;
use guest_lib::service::{SLOTS, Slot, flag};

/// Writers on all processors, each on pages of its own: the log is the union.
#[case(spec = "KVM api 4.8", needs("cpus>=2", "service.dirty_log"))]
fn writes_of_all_processors_are_logged(slot: &Logged) -> Verdict {
    let slot = &slot.0;
    let n = cpus::count() as u64;
    for round in 0..3 {
        let mine = |cpu: Cpu| (0..PAGES).filter(move |p| p % (n + 1) == cpu.0 as u64);
        cpus::on_all(|cpu| mine(cpu).for_each(|p| slot.touch(p, round)))?;
        let all: Vec<u64> = cpus::all().flat_map(mine).collect();
        expect_exactly(slot, &all)?;
    }
    Ok(())
}

/// All processors write to the same pages: each page is one bit.
#[case(spec = "KVM api 4.8", needs("cpus>=2", "service.dirty_log"))]
fn contended_pages_are_logged(slot: &Logged) -> Verdict {
    let slot = &slot.0;
    for _ in 0..4 {
        cpus::on_all(|cpu| (0..64).for_each(|i| slot.store(8 * cpu.0 as u64 + 4096 * (i % 5), i)))?;
        expect_exactly(slot, &[0, 1, 2, 3, 4])?;
    }
    Ok(())
}

/// A write that began after one fetch and ended before the next is in that log.
#[case(spec = "KVM api 4.8", needs("cpus>=2", "service.dirty_log"))]
fn no_write_is_lost_while_the_log_is_fetched(slot: &Logged) -> Verdict {
    let slot = &slot.0;
    // The highest stamp whose write has ended.
    let done = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let page_of = |stamp: u64| stamp * 7 % PAGES;
    let fetch = || -> Result<Vec<(u64, u64)>, Stop> {
        let mut lost = Vec::new();
        let mut from = 1;
        for _ in 0..30 {
            let target = from + 20;
            time::wait_until(time::PATIENCE, || done.load(Ordering::SeqCst) >= target);
            let finished = done.load(Ordering::SeqCst);
            let log = slot.dirty()?;
            let named = |stamp: &u64| log.contains(&page_of(*stamp));
            let missing = (from..=finished).filter(|stamp| !named(stamp));
            lost.extend(missing.map(|stamp| (stamp, page_of(stamp))));
            // The stamp after the last finished one may be half way.
            from = done.load(Ordering::SeqCst) + 2;
        }
        Ok(lost)
    };
    let results = cpus::on_each([Cpu(0), Cpu(1)].into_iter(), |cpu| {
        if cpu == Cpu::BOOT {
            let result = fetch();
            stop.store(true, Ordering::SeqCst);
            return result;
        }
        let mut stamp = 1;
        while !stop.load(Ordering::SeqCst) {
            slot.touch(page_of(stamp), stamp);
            done.store(stamp, Ordering::SeqCst);
            stamp += 1;
        }
        Ok(Vec::new())
    })?;
    for lost in results {
        expect_eq!(lost?, Vec::new(), "(stamp, page) in no log")?;
    }
    expect!(done.load(Ordering::SeqCst) > 100, "the writer hardly ran")
}

/// Other slots come and go while a processor writes: none of its writes is lost.
#[case(spec = "KVM api 4.35", needs("cpus>=2", "service.memslot"))]
fn changing_another_slot_loses_no_write() -> Verdict {
    let slot = Slot::add(1, SLOTS, 64, 0)?;
    let stop = AtomicBool::new(false);
    let written = AtomicU64::new(0);
    let verdicts = cpus::on_each([Cpu(0), Cpu(1)].into_iter(), |cpu| {
        if cpu == Cpu(1) {
            let mut n = 0u64;
            let mut bad = None;
            while !stop.load(Ordering::SeqCst) {
                n += 1;
                slot.touch(n % 64, n);
                let back: u64 = slot.load(4096 * (n % 64));
                if back != n && bad.is_none() {
                    bad = Some((n, back));
                }
            }
            written.store(n, Ordering::SeqCst);
            return Ok(bad);
        }
        let change = || -> Result<(), Stop> {
            for _ in 0..40 {
                let other = Slot::add(2, SLOTS + 0x40_0000, 16, 0)?;
                other.touch(1, 1);
                other.set_flags(flag::LOG)?;
                drop(other);
            }
            Ok(())
        };
        let result = change();
        stop.store(true, Ordering::SeqCst);
        result.map(|()| None)
    })?;
    for verdict in verdicts {
        let bad = verdict?;
        expect_eq!(bad, None, "(written, read back)")?;
    }
    expect!(written.load(Ordering::SeqCst) > 0, "the writer did not run")
}

/// The log is switched on and off while a processor writes: its memory stays whole.
#[case(
    spec = "KVM api 4.35",
    needs("cpus>=2", "service.dirty_log", "service.memslot")
)]
fn toggling_the_log_loses_no_write(slot: &Logged) -> Verdict {
    let slot = &slot.0;
    let stop = AtomicBool::new(false);
    let verdicts = cpus::on_each([Cpu(0), Cpu(1)].into_iter(), |cpu| {
        if cpu == Cpu(1) {
            let mut n = 0u64;
            while !stop.load(Ordering::SeqCst) {
                n += 1;
                slot.touch(n % 100, n);
                if slot.load::<u64>(4096 * (n % 100)) != n {
                    return Ok(Some(n));
                }
            }
            return Ok(None);
        }
        let toggle = || -> Result<(), Stop> {
            for _ in 0..30 {
                slot.set_flags(0)?;
                slot.set_flags(flag::LOG)?;
                slot.dirty()?;
            }
            Ok(())
        };
        let result = toggle();
        stop.store(true, Ordering::SeqCst);
        result.map(|()| None)
    })?;
    for verdict in verdicts {
        expect_eq!(verdict?, None, "the write that was lost")?;
    }
    slot.dirty()?;
    slot.touch(120, 1);
    expect_exactly(slot, &[120])
}
