//! TEST PROTECTION under DAT: condition codes for what a store would meet.
//!
//! Spec: SA22-7832 10 TEST PROTECTION. It translates like a store but reports most faults as a
//! condition code; a translation specification it does raise.

use crate::space::{HIGH, HighPage};
use guest_lib::arch::paging::{Level, PAGE_INVALID, PAGE_PROTECTED, PAGE_RESERVED, REGION_INVALID};
use guest_lib::arch::registers::{Cr0, cr0_with};
use guest_lib::arch::skey::test_protection;
use guest_lib::prelude::*;

fn tprot(page: &HighPage) -> Result<u8, Fault> {
    page.space.run(|| test_protection(HIGH, 0))
}

/// A writable page is condition code 0, a protected one 1, and 0 again when it is writable.
#[case(spec = "SA22-7832 10 TEST PROTECTION")]
fn dat_protection_is_code_1(page: &mut HighPage) -> Verdict {
    expect_eq!(tprot(page), Ok(0))?;
    page.change(Level::Page, PAGE_PROTECTED, true);
    expect_eq!(tprot(page), Ok(1))?;
    page.change(Level::Page, PAGE_PROTECTED, false);
    expect_eq!(tprot(page), Ok(0))
}

/// An invalid page is condition code 3, without a fault.
#[case(spec = "SA22-7832 10 TEST PROTECTION")]
fn invalid_page_is_code_3(page: &mut HighPage) -> Verdict {
    page.change(Level::Page, PAGE_INVALID, true);
    expect_eq!(tprot(page), Ok(3))?;
    page.change(Level::Page, PAGE_INVALID, false);
    expect_eq!(tprot(page), Ok(0))
}

/// An invalid entry of any table is condition code 3.
#[case(spec = "SA22-7832 10 TEST PROTECTION", rows(
    region_first: Level::RegionFirst,
    region_second: Level::RegionSecond,
    region_third: Level::RegionThird,
    segment: Level::Segment,
))]
fn invalid_table_entry_is_code_3(page: &mut HighPage, level: Level) -> Verdict {
    page.change(level, REGION_INVALID, true);
    expect_eq!(tprot(page), Ok(3))?;
    page.change(level, REGION_INVALID, false);
    expect_eq!(tprot(page), Ok(0))
}

/// A page-table entry with its zero bit set is a translation-specification exception.
#[case(spec = "SA22-7832 10 TEST PROTECTION")]
fn reserved_page_bit_is_refused(page: &mut HighPage) -> Verdict {
    page.change(Level::Page, PAGE_RESERVED, true);
    expect_eq!(tprot(page), Err(Fault::TRANSLATION_SPECIFICATION))?;
    page.change(Level::Page, PAGE_RESERVED, false);
    expect_eq!(tprot(page), Ok(0))
}

/// Low-address protection is condition code 1 below 512 and 0 from there on.
#[case(spec = "SA22-7832 10 TEST PROTECTION")]
fn low_address_protection_is_code_1(page: &mut HighPage) -> Verdict {
    let tprot = |address: u64| page.space.run(|| test_protection(address, 0));
    expect_eq!(tprot(256), Ok(0), "without protection")?;
    let _protection = cr0_with(Cr0::LOW_ADDRESS_PROTECTION);
    expect_eq!(tprot(256), Ok(1))?;
    expect_eq!(tprot(4096 + 256), Ok(1))?;
    expect_eq!(tprot(512), Ok(0))
}
