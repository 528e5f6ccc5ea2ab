//! Manual protection: getting the log changes nothing, clearing it does. Spec: KVM api 7.18, 4.117.
//!
//! The guest of this mode is a migration that asks for the log, sends a page, and only then says
//! that the page may be watched again. A log that clears itself early loses the writes in between.

use crate::{PAGES, expect_exactly, expect_invalid};
use guest_lib::prelude::*;
use guest_lib::service::{LogMode, SLOTS, Slot, flag, mode};

/// A logged slot with manual protection and nothing dirty.
struct Manual {
    slot: Slot,
    _mode: LogMode,
}

impl Fixture for Manual {
    fn fresh() -> Result<Self, Stop> {
        let mode = LogMode::set(mode::MANUAL)?;
        let slot = Slot::add(1, SLOTS, PAGES, flag::LOG)?;
        clear_all(&slot)?;
        Ok(Manual { slot, _mode: mode })
    }
}

fn clear_all(slot: &Slot) -> Verdict {
    slot.clear(0, slot.pages(), &slot.dirty_bitmap()?)?;
    Ok(())
}

/// The log says the same until it is cleared.
#[case(spec = "KVM api 7.18", needs("service.dirty_log"))]
fn getting_the_log_clears_nothing(manual: &Manual) -> Verdict {
    manual.slot.touch(3, 1);
    manual.slot.touch(100, 1);
    for _ in 0..3 {
        expect_exactly(&manual.slot, &[3, 100])?;
    }
    manual.slot.touch(4, 1);
    expect_exactly(&manual.slot, &[3, 4, 100])?;
    clear_all(&manual.slot)?;
    expect_exactly(&manual.slot, &[])
}

/// A page that was cleared is watched again.
#[case(spec = "KVM api 4.117", needs("service.dirty_log"))]
fn cleared_page_is_reported_when_written_again(manual: &Manual) -> Verdict {
    for round in 0..3u64 {
        manual.slot.touch(64, round);
        expect_exactly(&manual.slot, &[64])?;
        clear_all(&manual.slot)?;
        expect_exactly(&manual.slot, &[])?;
    }
    Ok(())
}

/// Clearing a part leaves the rest dirty.
#[case(spec = "KVM api 4.117", needs("service.dirty_log"))]
fn clearing_a_part_leaves_the_rest(manual: &Manual) -> Verdict {
    let slot = &manual.slot;
    [1, 2, 65, 66, 130].iter().for_each(|&p| slot.touch(p, 1));
    // Only the second word, and only page 65 of it.
    slot.clear(64, 64, &[1 << 1])?;
    expect_exactly(slot, &[1, 2, 66, 130])?;
    // The last, partial word reaches to the end of the slot.
    slot.clear(128, PAGES - 128, &[u64::MAX])?;
    expect_exactly(slot, &[1, 2, 66])?;
    slot.touch(65, 2);
    slot.touch(130, 2);
    expect_exactly(slot, &[1, 2, 65, 66, 130])
}

/// Clearing pages that are not dirty does no harm.
#[case(spec = "KVM api 4.117", needs("service.dirty_log"))]
fn clearing_clean_pages_changes_nothing(manual: &Manual) -> Verdict {
    manual.slot.touch(10, 1);
    manual.slot.clear(64, 64, &[u64::MAX])?;
    expect_exactly(&manual.slot, &[10])?;
    manual.slot.touch(70, 1);
    expect_exactly(&manual.slot, &[10, 70])
}

/// A range that does not begin at a multiple of 64 pages is refused.
#[case(spec = "KVM api 4.117", needs("service.dirty_log"))]
fn unaligned_first_page_is_refused(manual: &Manual) -> Verdict {
    manual.slot.touch(65, 1);
    for first in [1, 32, 63, 65] {
        expect_invalid("first page", manual.slot.clear(first, 64, &[u64::MAX]))?;
    }
    expect_exactly(&manual.slot, &[65])?;
    manual.slot.clear(64, 64, &[u64::MAX])?;
    expect_exactly(&manual.slot, &[])
}

/// A length that is no multiple of 64 pages is refused, unless it reaches the slot's end.
#[case(spec = "KVM api 4.117", needs("service.dirty_log"))]
fn unaligned_length_is_refused_before_the_end(manual: &Manual) -> Verdict {
    manual.slot.touch(0, 1);
    manual.slot.touch(129, 1);
    for pages in [1, 63, 65, 127] {
        let refused = manual.slot.clear(0, pages, &[u64::MAX; 2]);
        expect_invalid("number of pages", refused)?;
    }
    expect_exactly(&manual.slot, &[0, 129])?;
    manual.slot.clear(0, PAGES, &[u64::MAX; 3])?;
    expect_exactly(&manual.slot, &[])
}

/// A range beyond the slot is refused.
#[case(spec = "KVM api 4.117", needs("service.dirty_log"))]
fn range_beyond_the_slot_is_refused(manual: &Manual) -> Verdict {
    manual.slot.touch(0, 1);
    expect_invalid(
        "192 of 131 pages",
        manual.slot.clear(0, 192, &[u64::MAX; 3]),
    )?;
    expect_invalid("from page 192", manual.slot.clear(192, 64, &[u64::MAX]))?;
    expect_exactly(&manual.slot, &[0])
}

/// With the initially-set mode a log begins with every page, and is exact once cleared.
#[case(spec = "KVM api 7.18", needs("service.dirty_log"))]
fn initially_set_log_begins_with_every_page() -> Verdict {
    let _mode = LogMode::set(mode::MANUAL | mode::INITIALLY_SET)?;
    let slot = Slot::add(1, SLOTS, PAGES, flag::LOG)?;
    expect_exactly(&slot, &(0..PAGES).collect::<Vec<_>>())?;
    // Page by page: a write after its word was cleared is seen, the others are as they were.
    slot.clear(64, 64, &[u64::MAX])?;
    slot.touch(80, 1);
    let left: Vec<u64> = (0..64).chain([80]).chain(128..PAGES).collect();
    expect_exactly(&slot, &left)?;
    clear_all(&slot)?;
    expect_exactly(&slot, &[])?;
    slot.touch(0, 1);
    expect_exactly(&slot, &[0])
}
