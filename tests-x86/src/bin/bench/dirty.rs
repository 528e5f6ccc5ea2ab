//! First writes to pages that the host watches. Spec: KVM api 4.8, 4.117, 7.18, 8.29.

use crate::Bench;
use guest_lib::prelude::*;
use guest_lib::protocol::bench::Kind;
use guest_lib::service::{LogMode, Rings, Slot, flag, mode};

/// Entries of a ring that KVM keeps free, and more: no processor is to stop for a full ring.
const SPARE: u64 = 1024;

/// The log names every page of the slot, or none.
fn expect_named(slot: &Slot, all: bool) -> Verdict {
    let bitmap = slot.dirty_bitmap()?;
    let named: u64 = bitmap.iter().map(|w| u64::from(w.count_ones())).sum();
    let expected = if all { slot.pages() } else { 0 };
    expect_eq!(named, expected, "pages in the log")?;
    // Without a bit beyond the end, as many bits as pages are all pages.
    let rest = slot.pages() % 64;
    let beyond = match bitmap.last() {
        Some(last) if rest != 0 => last >> rest,
        _ => 0,
    };
    expect_eq!(beyond, 0, "bits beyond the slot's end")
}

/// Every page that is written for the first time after the log was fetched is in the next log.
#[case(
    spec = "KVM api 4.8",
    needs("cpus>=2", "service.dirty_log"),
    rows(one_cpu: 1, two_cpus: 2)
)]
fn bitmap_names_every_first_write(cpus: usize) -> Verdict {
    let bench = Bench::of(Kind::Bitmap, cpus)?;
    let slot = bench.slot(flag::LOG)?;
    bench.warm_up(&slot)?;
    expect_named(&slot, true)?;
    for round in bench.rounds() {
        expect_named(&slot, false)?;
        bench.round(&slot, round, false)?;
        expect_named(&slot, true)?;
    }
    Ok(())
}

/// The same where clearing the log is a step of its own.
#[case(
    spec = "KVM api 7.18",
    needs("cpus>=2", "service.dirty_log"),
    rows(one_cpu: 1, two_cpus: 2)
)]
fn cleared_bitmap_names_every_first_write(cpus: usize) -> Verdict {
    let _mode = LogMode::set(mode::MANUAL)?;
    let bench = Bench::of(Kind::Manual, cpus)?;
    let slot = bench.slot(flag::LOG)?;
    bench.warm_up(&slot)?;
    expect_named(&slot, true)?;
    for round in bench.rounds() {
        // The second time: getting the log must not have cleared it.
        expect_named(&slot, true)?;
        slot.clear(0, slot.pages(), &slot.dirty_bitmap()?)?;
        expect_named(&slot, false)?;
        bench.round(&slot, round, false)?;
        expect_named(&slot, true)?;
    }
    Ok(())
}

/// Every page that is written for the first time after the rings were reset is in a ring.
#[case(
    spec = "KVM api 8.29",
    needs("cpus>=2", "service.dirty_ring"),
    rows(one_cpu: 1, two_cpus: 2)
)]
fn ring_names_every_first_write(cpus: usize) -> Verdict {
    let bench = Bench::of(Kind::Ring, cpus)?;
    let rings = Rings::with((bench.pages() + SPARE).next_power_of_two())?;
    let slot = bench.slot(flag::LOG)?;
    bench.warm_up(&slot)?;
    expect_eq!(named(&rings, &slot)?, bench.pages(), "pages in the rings")?;
    for round in bench.rounds() {
        expect_eq!(named(&rings, &slot)?, 0, "pages in the rings")?;
        bench.round(&slot, round, false)?;
        expect_eq!(named(&rings, &slot)?, bench.pages(), "pages in the rings")?;
    }
    expect_eq!(rings.full_exits()?, 0, "stops for a full ring")
}

/// How many pages of the slot the rings name.
fn named(rings: &Rings, slot: &Slot) -> Result<u64, Stop> {
    let mut seen = vec![false; slot.pages() as usize];
    loop {
        let (entries, _) = rings.harvest()?;
        if entries.is_empty() {
            return Ok(seen.iter().filter(|seen| **seen).count() as u64);
        }
        for (number, page) in entries {
            expect!(
                number == slot.number() && page < slot.pages(),
                "an entry names slot {number}, page {page}"
            )?;
            seen[page as usize] = true;
        }
    }
}
