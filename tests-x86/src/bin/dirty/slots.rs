//! Memory slots that change while the guest lives in them. Spec: KVM api 4.35.
//!
//! Moving a slot, changing its flags and taking another one away all rebuild the tables behind a
//! guest's memory. What must survive: contents, and every write the log had not yet reported.

use crate::{Logged, PAGES, expect_exactly};
use guest_lib::prelude::*;
use guest_lib::service::{SLOTS, Slot, flag};

/// Switching the log on keeps the contents and reports what is written from then on.
#[case(spec = "KVM api 4.35", needs("service.dirty_log", "service.memslot"))]
fn switching_the_log_on_keeps_the_contents() -> Verdict {
    let slot = Slot::add(1, SLOTS, PAGES, 0)?;
    (0..PAGES).for_each(|p| slot.touch(p, p * 3 + 1));
    slot.set_flags(flag::LOG)?;
    slot.touch(11, 7);
    expect_exactly(&slot, &[11])?;
    for page in (0..PAGES).filter(|&p| p != 11) {
        expect_eq!(slot.load::<u64>(4096 * page), page * 3 + 1, "page {page}")?;
    }
    Ok(())
}

/// Switched off and on again, the log forgets what was written in between.
#[case(spec = "KVM api 4.35", needs("service.dirty_log", "service.memslot"))]
fn switching_the_log_off_ends_it(slot: &Logged) -> Verdict {
    slot.0.touch(1, 1);
    slot.0.set_flags(0)?;
    expect!(slot.0.dirty().is_err(), "a slot without a log gives one")?;
    slot.0.touch(2, 1);
    slot.0.set_flags(flag::LOG)?;
    slot.0.touch(3, 1);
    let log = slot.0.dirty()?;
    expect!(
        log.contains(&3),
        "page 3 was written while the log was on: {log:?}"
    )?;
    expect!(
        !log.contains(&2),
        "page 2 was written while the log was off"
    )?;
    expect_exactly(&slot.0, &[])?;
    expect_eq!(slot.0.load::<u64>(2 * 4096), 1)
}

/// A slot moves with its contents, and the old place is empty.
#[case(spec = "KVM api 4.35", needs("service.memslot"))]
fn moved_slot_keeps_its_contents() -> Verdict {
    let mut slot = Slot::add(1, SLOTS, PAGES, 0)?;
    (0..PAGES).for_each(|p| slot.touch(p, p + 5));
    let old = slot.address();
    slot.move_to(SLOTS + 0x40_0000)?;
    for page in 0..PAGES {
        expect_eq!(slot.load::<u64>(4096 * page), page + 5, "page {page}")?;
    }
    expect_eq!(
        guest_lib::arch::cpu::peek(old),
        Ok(0xff),
        "the old place reads as nothing"
    )?;
    slot.move_to(old)?;
    expect_eq!(slot.load::<u64>(4096), 6)
}

/// A moved slot is logged at its own pages, wherever it lies.
#[case(spec = "KVM api 4.35", needs("service.dirty_log", "service.memslot"))]
fn moved_slot_is_logged_by_its_own_pages(slot: &mut Logged) -> Verdict {
    slot.0.touch(1, 1);
    slot.0.dirty()?;
    slot.0.move_to(SLOTS + 0x40_0000)?;
    slot.0.dirty()?;
    slot.0.touch(17, 1);
    expect_exactly(&slot.0, &[17])
}

/// A slot that overlaps another one is refused, and the other one goes on.
#[case(spec = "KVM api 4.35", needs("service.memslot"))]
fn overlapping_slot_is_refused() -> Verdict {
    let slot = Slot::add(1, SLOTS, 16, 0)?;
    slot.touch(15, 9);
    for first in [SLOTS, SLOTS + 15 * 4096, SLOTS - 4096] {
        let other = Slot::add(2, first, 16, 0);
        // EEXIST
        let refused = other.map(|_| ());
        expect_eq!(
            refused,
            Err(guest_lib::service::ServiceError::Refused(17)),
            "at {first:#x}"
        )?;
    }
    expect_eq!(slot.load::<u64>(15 * 4096), 9)?;
    let beside = Slot::add(2, SLOTS + 16 * 4096, 16, 0)?;
    beside.touch(0, 3);
    expect_eq!(beside.load::<u64>(0), 3)
}

/// A read-only slot keeps its contents against every write, and writable again it takes them.
#[case(spec = "KVM api 4.35", needs("service.memslot"))]
fn read_only_slot_ignores_writes() -> Verdict {
    let slot = Slot::add(1, SLOTS, 16, 0)?;
    slot.touch(2, 0x1111);
    // The flag cannot be set on a slot that exists: it is made anew.
    drop(slot);
    let slot = Slot::add(1, SLOTS, 16, flag::READ_ONLY)?;
    expect_eq!(slot.load::<u64>(2 * 4096), 0, "fresh memory")?;
    slot.touch(2, 0x2222);
    slot.store(2 * 4096 + 9, 1u8);
    expect_eq!(slot.load::<u64>(2 * 4096), 0, "a write to a read-only slot")?;
    drop(slot);
    let slot = Slot::add(1, SLOTS, 16, 0)?;
    slot.touch(2, 0x3333);
    expect_eq!(slot.load::<u64>(2 * 4096), 0x3333)
}

/// Writes to a read-only slot are not logged.
#[case(spec = "KVM api 4.35", needs("service.dirty_log", "service.memslot"))]
fn read_only_slot_is_never_dirty() -> Verdict {
    let slot = Slot::add(1, SLOTS, 16, flag::READ_ONLY | flag::LOG)?;
    slot.touch(3, 1);
    expect_exactly(&slot, &[])
}

/// A slot that is taken away takes its memory with it; a new one there is zero.
#[case(spec = "KVM api 4.35", needs("service.memslot"))]
fn deleted_slot_is_gone() -> Verdict {
    for round in 1..4u64 {
        let slot = Slot::add(1, SLOTS, 16, 0)?;
        for page in 0..16 {
            expect_eq!(
                slot.load::<u64>(4096 * page),
                0,
                "page {page} in round {round}"
            )?;
            slot.touch(page, round);
        }
        drop(slot);
        expect_eq!(guest_lib::arch::cpu::peek(SLOTS), Ok(0xff))?;
    }
    Ok(())
}
