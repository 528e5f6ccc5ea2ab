//! Dirty rings. Spec: KVM api 8.29.
//!
//! Each processor has a ring of its own; a page goes in when it becomes dirty and is watched again
//! only after the host has reset its entry. A ring that is full stops its processor: the kernel may
//! neither overwrite an entry nor let the guest write unseen.

use crate::PAGES;
use guest_lib::prelude::*;
use guest_lib::service::{Rings, SLOTS, ServiceError, Slot, flag};

/// Entries of a ring in these cases.
const ENTRIES: u64 = 1024;

struct Ringed {
    slot: Slot,
    rings: Rings,
}

impl Fixture for Ringed {
    fn fresh() -> Result<Self, Stop> {
        let rings = Rings::with(ENTRIES)?;
        let slot = Slot::add(1, SLOTS, PAGES, flag::LOG)?;
        rings.harvest()?;
        Ok(Ringed { slot, rings })
    }
}

impl Ringed {
    /// The pages in the rings, sorted, each once; every entry must be of our slot.
    fn pages(&self) -> Result<Vec<u64>, Stop> {
        let (entries, _) = self.rings.harvest()?;
        for (slot, page) in &entries {
            expect!(
                *slot == self.slot.number() && *page < self.slot.pages(),
                "an entry names slot {slot}, page {page}"
            )?;
        }
        let mut pages: Vec<u64> = entries.into_iter().map(|(_, page)| page).collect();
        pages.sort_unstable();
        pages.dedup();
        Ok(pages)
    }
}

/// The rings hold exactly the written pages.
#[case(spec = "KVM api 8.29", needs("service.dirty_ring"))]
fn rings_hold_exactly_the_written_pages(ringed: &Ringed) -> Verdict {
    expect_eq!(ringed.pages()?, Vec::new())?;
    let written = [0, 5, 64, PAGES - 1];
    written.iter().for_each(|&p| ringed.slot.touch(p, p));
    expect_eq!(ringed.pages()?, written)?;
    expect_eq!(ringed.pages()?, Vec::new())
}

/// A page that was reset is caught again.
#[case(spec = "KVM api 8.29", needs("service.dirty_ring"))]
fn page_is_caught_again_after_its_reset(ringed: &Ringed) -> Verdict {
    for round in 0..4u64 {
        ringed.slot.touch(9, round);
        ringed.slot.touch(90 + round, round);
        expect_eq!(ringed.pages()?, [9, 90 + round])?;
    }
    Ok(())
}

/// The kernel resets as many entries as were harvested.
#[case(spec = "KVM api 8.29", needs("service.dirty_ring"))]
fn reset_count_is_the_harvested_count(ringed: &Ringed) -> Verdict {
    (0..20).for_each(|p| ringed.slot.touch(3 * p, p));
    let (entries, reset) = ringed.rings.harvest()?;
    expect!(
        entries.len() >= 20,
        "{} entries for 20 pages",
        entries.len()
    )?;
    expect_eq!(reset, entries.len() as u64)
}

/// A ring that fills up stops the processor until there is room, and no page is missing.
#[case(spec = "KVM api 8.29", needs("service.dirty_ring"))]
fn full_ring_stops_the_processor() -> Verdict {
    let rings = Rings::with(ENTRIES)?;
    let pages = 3 * ENTRIES;
    let slot = Slot::add(1, SLOTS, pages, flag::LOG)?;
    rings.harvest()?;
    expect_eq!(rings.full_exits()?, 0)?;
    (0..pages).for_each(|p| slot.touch(p, p));
    let (entries, _) = rings.harvest()?;
    let mut seen: Vec<u64> = entries.into_iter().map(|(_, page)| page).collect();
    seen.sort_unstable();
    seen.dedup();
    expect_eq!(seen.len() as u64, pages, "pages in the rings")?;
    expect!(
        rings.full_exits()? >= 2,
        "{pages} pages went through a ring of {ENTRIES} with {} stops",
        rings.full_exits()?
    )
}

/// Each processor's writes are caught.
#[case(spec = "KVM api 8.29", needs("cpus>=2", "service.dirty_ring"))]
fn writes_of_all_processors_are_caught(ringed: &Ringed) -> Verdict {
    let slot = &ringed.slot;
    let n = cpus::count() as u64;
    cpus::on_all(|cpu| (0..10).for_each(|i| slot.touch(i * n + cpu.0 as u64, i)))?;
    expect_eq!(ringed.pages()?, (0..10 * n).collect::<Vec<_>>())
}

/// A ring whose length is no power of two is refused, and the machine goes on without it.
#[case(spec = "KVM api 8.29", needs("service.dirty_ring"))]
fn ring_length_must_be_a_power_of_two() -> Verdict {
    for entries in [1000, 1025, 3] {
        let refused = Rings::with(entries).map(|_| ());
        expect_eq!(refused, Err(ServiceError::INVALID), "{entries} entries")?;
    }
    let slot = Slot::add(1, SLOTS, PAGES, flag::LOG)?;
    slot.dirty()?;
    slot.touch(1, 1);
    crate::expect_exactly(&slot, &[1])
}

/// With rings there is no bitmap to get.
#[case(spec = "KVM api 8.29", needs("service.dirty_ring"))]
fn ring_excludes_the_bitmap(ringed: &Ringed) -> Verdict {
    ringed.slot.touch(1, 1);
    expect_eq!(ringed.slot.dirty(), Err(ServiceError::NO_SUCH))?;
    expect_eq!(ringed.pages()?, [1])
}
