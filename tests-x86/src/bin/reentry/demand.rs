//! Memory that the host fills when it is touched. Spec: KVM api 4.35.
//!
//! A page that is not there stops the processor that touches it, in whatever instruction that is,
//! until the host has filled it. Afterwards the access must be made on the filled page: not skipped,
//! not on zeroes, and for a page that several processors touch, filled once.

use guest_lib::arch::code::Code;
use guest_lib::prelude::*;
use guest_lib::service::{SLOTS, Slot, demand_word, flag};

const PAGES: u64 = 64;

fn slot(flags: u64) -> Result<Slot, Stop> {
    match Slot::add(1, SLOTS, PAGES, flags) {
        // The kernel does not let this process use userfaultfd.
        Err(guest_lib::service::ServiceError::Refused(1 | 13 | 22 | 38)) => {
            skip("service.userfault")
        }
        other => Ok(other?),
    }
}

/// Each page is filled at its first access, with its own contents.
#[case(
    spec = "KVM api 4.35",
    needs("service.userfault"),
    rows(missing: flag::ON_DEMAND, minor: flag::ON_DEMAND | flag::MINOR)
)]
fn page_is_filled_at_its_first_access(flags: u64) -> Verdict {
    let slot = slot(flags)?;
    expect_eq!(slot.faults()?, 0)?;
    for (touched, page) in (1..).zip([5, 0, PAGES - 1, 17]) {
        expect_eq!(
            slot.load::<u64>(4096 * page + 128),
            demand_word(page),
            "page {page}"
        )?;
        expect_eq!(slot.faults()?, touched)?;
        expect_eq!(slot.load::<u64>(4096 * page + 4088), demand_word(page))?;
        expect_eq!(slot.faults()?, touched, "a page that is there")?;
    }
    Ok(())
}

/// A write to a page that is not there is made on the filled page.
#[case(
    spec = "KVM api 4.35",
    needs("service.userfault"),
    rows(missing: flag::ON_DEMAND, minor: flag::ON_DEMAND | flag::MINOR)
)]
fn write_lands_in_the_filled_page(flags: u64) -> Verdict {
    let slot = slot(flags)?;
    for page in 0..PAGES {
        slot.store(4096 * page + 8, page ^ 0xff);
        expect_eq!(
            slot.load::<u64>(4096 * page + 8),
            page ^ 0xff,
            "page {page}"
        )?;
        expect_eq!(
            slot.load::<u64>(4096 * page),
            demand_word(page),
            "page {page}"
        )?;
    }
    expect_eq!(slot.faults()?, PAGES)
}

/// An instruction that touches two absent pages waits for both.
#[case(spec = "KVM api 4.35", needs("service.userfault"))]
fn access_over_a_page_boundary_waits_for_both() -> Verdict {
    let slot = slot(flag::ON_DEMAND)?;
    // mov rax, [rdi]
    let load = Code::new(&[0x48, 0x8b, 0x07]);
    for page in [0, 10, 20] {
        let value = load.run(slot.address() + 4096 * page + 4092, 0)?;
        let expected = demand_word(page) >> 32 | demand_word(page + 1) << 32;
        expect_eq!(value, expected, "pages {page} and {}", page + 1)?;
    }
    expect_eq!(slot.faults()?, 6)
}

/// A string instruction goes on through absent pages.
#[case(spec = "KVM api 4.35", needs("service.userfault"))]
fn string_instruction_goes_on_through_absent_pages() -> Verdict {
    let slot = slot(flag::ON_DEMAND)?;
    // mov ecx, 0x400; rep movsq: pages 0 and 1 (source) to pages 40 and 41
    let copy = Code::new(&[0xb9, 0, 4, 0, 0, 0xf3, 0x48, 0xa5]);
    copy.run(slot.address() + 40 * 4096, slot.address())?;
    for (from, to) in [(0, 40), (1, 41)] {
        for at in [0, 2048, 4088] {
            expect_eq!(
                slot.load::<u64>(4096 * to + at),
                demand_word(from),
                "page {to}"
            )?;
        }
    }
    expect_eq!(slot.faults()?, 4)
}

/// A page that several processors touch is filled once, and all of them see it.
#[case(spec = "KVM api 4.35", needs("service.userfault"))]
fn pages_touched_by_all_processors_are_filled_once() -> Verdict {
    let slot = slot(flag::ON_DEMAND)?;
    let wrong = cpus::on_all(|cpu| {
        let page = |i: u64| {
            if cpu.0.is_multiple_of(2) {
                i
            } else {
                PAGES - 1 - i
            }
        };
        let bad = |p: &u64| slot.load::<u64>(4096 * p) != demand_word(*p);
        (0..PAGES).map(page).filter(bad).count()
    })?;
    expect!(
        wrong.iter().all(|w| *w == 0),
        "wrong pages per processor: {wrong:?}"
    )?;
    expect_eq!(slot.faults()?, PAGES)
}
