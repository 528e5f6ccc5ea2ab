//! Getting the log. Spec: KVM api 4.8.
//!
//! Each call returns the pages dirtied since the call before, and without manual protection it
//! clears what it returns. Both halves are easy to get wrong at once: clear before the copy and a
//! write in between is lost; forget to protect again and the next write is never seen.

use crate::{Logged, PAGES, expect_exactly};
use guest_lib::prelude::*;
use guest_lib::service::{SLOTS, Slot, flag};

/// Exactly the written pages are reported.
#[case(spec = "KVM api 4.8", needs("service.dirty_log"))]
fn log_names_exactly_the_written_pages(slot: &Logged) -> Verdict {
    expect_exactly(&slot.0, &[])?;
    let written = [0, 1, 63, 64, 65, 100, PAGES - 1];
    written.iter().for_each(|&p| slot.0.touch(p, p));
    expect_exactly(&slot.0, &written)
}

/// A second call without a write in between reports nothing, and a page written again is back.
#[case(spec = "KVM api 4.8", needs("service.dirty_log"))]
fn getting_the_log_clears_it(slot: &Logged) -> Verdict {
    for round in 0..3u64 {
        slot.0.touch(7, round);
        slot.0.touch(70 + round, round);
        expect_exactly(&slot.0, &[7, 70 + round])?;
        expect_exactly(&slot.0, &[])?;
    }
    Ok(())
}

/// Reading and executing a page do not make it dirty.
#[case(spec = "KVM api 4.8", needs("service.dirty_log"))]
fn reads_leave_pages_clean(slot: &Logged) -> Verdict {
    slot.0.store(5 * 4096, 0xc3u8);
    slot.0.dirty()?;
    for page in 0..PAGES {
        let _: u64 = slot.0.load(4096 * page + 8);
    }
    guest_lib::arch::cpu::call(slot.0.address() + 5 * 4096)?;
    expect_exactly(&slot.0, &[])?;
    slot.0.touch(5, 1);
    expect_exactly(&slot.0, &[5])
}

/// A write of the value that is there already is a write.
#[case(spec = "KVM api 4.8", needs("service.dirty_log"))]
fn silent_store_makes_a_page_dirty(slot: &Logged) -> Verdict {
    slot.0.touch(9, 0x1234);
    slot.0.dirty()?;
    slot.0.touch(9, 0x1234);
    expect_exactly(&slot.0, &[9])
}

/// Many writes to one page are one bit.
#[case(spec = "KVM api 4.8", needs("service.dirty_log"))]
fn page_is_reported_once_per_call(slot: &Logged) -> Verdict {
    for i in 0..512 {
        slot.0.store(3 * 4096 + 8 * i, i);
    }
    expect_exactly(&slot.0, &[3])?;
    expect_exactly(&slot.0, &[])
}

/// No bit beyond the last page is set, whatever the length of the slot.
#[case(
    spec = "KVM api 4.8",
    needs("service.dirty_log"),
    rows(one_page: 1, below_a_word: 63, a_word: 64, above_a_word: 65, three_more: 515)
)]
fn bitmap_ends_with_the_slot(pages: u64) -> Verdict {
    let slot = Slot::add(1, SLOTS, pages, flag::LOG)?;
    slot.dirty()?;
    slot.touch(0, 1);
    slot.touch(pages - 1, 1);
    let mut written = vec![0, pages - 1];
    written.dedup();
    expect_exactly(&slot, &written)?;
    (0..pages).for_each(|p| slot.touch(p, 2));
    expect_exactly(&slot, &(0..pages).collect::<Vec<_>>())
}

/// Pages at every place of the bitmap are reported one by one.
#[case(spec = "KVM api 4.8", needs("service.dirty_log"))]
fn every_page_has_its_own_bit(slot: &Logged) -> Verdict {
    for page in 0..PAGES {
        slot.0.touch(page, page);
        expect_exactly(&slot.0, &[page])?;
    }
    Ok(())
}

/// Two slots have logs of their own.
#[case(spec = "KVM api 4.8", needs("service.dirty_log"))]
fn slots_do_not_share_their_logs(slot: &Logged) -> Verdict {
    let other = Slot::add(2, SLOTS + 4096 * PAGES, 64, flag::LOG)?;
    other.dirty()?;
    slot.0.touch(PAGES - 1, 1);
    expect_exactly(&other, &[])?;
    other.touch(0, 1);
    expect_exactly(&slot.0, &[PAGES - 1])?;
    expect_exactly(&other, &[0])
}

/// A slot without the flag has no log, and asking for it is refused.
#[case(spec = "KVM api 4.8", needs("service.dirty_log"))]
fn unlogged_slot_has_no_log() -> Verdict {
    let slot = Slot::add(1, SLOTS, 64, 0)?;
    slot.touch(1, 1);
    let refused = slot
        .dirty()
        .map_err(|e| matches!(e, guest_lib::service::ServiceError::Refused(_)));
    expect_eq!(refused, Err(true), "asking for the log of an unlogged slot")?;
    slot.set_flags(flag::LOG)?;
    slot.dirty()?;
    slot.touch(2, 1);
    expect_exactly(&slot, &[2])
}
