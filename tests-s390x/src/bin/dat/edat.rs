//! Enhanced DAT: protection bits in every table, and large pages. Spec: SA22-7832 3 Enhanced DAT.
//!
//! Without the enhancement, the same bits in region entries must be ignored and the protection
//! bit of a segment entry obeyed; with it, all are obeyed. An emulator that has only one of the
//! two table walks gets the other wrong.

use crate::space::{HIGH, HighPage};
use guest_lib::arch::exec::{load, store};
use guest_lib::arch::paging::{
    AddressSpace, FORMAT_CONTROL, Level, PAGE_PROTECTED, REGION_PROTECTED,
};
use guest_lib::arch::registers::{Cr0, cr0_with, cr0_without};
use guest_lib::prelude::*;

fn store_high(page: &HighPage) -> Result<(), Fault> {
    page.space.run(|| store(HIGH, 7))
}

/// Without enhanced DAT the protection bits of page and segment entries are obeyed.
#[case(spec = "SA22-7832 3 DAT Protection", rows(
    page: (Level::Page, PAGE_PROTECTED),
    segment: (Level::Segment, REGION_PROTECTED),
))]
fn protection_is_obeyed_without_edat(page: &mut HighPage, (level, bit): (Level, u64)) -> Verdict {
    let _off = cr0_without(Cr0::EDAT);
    expect_eq!(store_high(page), Ok(()))?;
    page.change(level, bit, true);
    page.frame.write(0, 0u64);
    expect_eq!(store_high(page), Err(Fault::PROTECTION))?;
    expect_eq!(page.frame.read::<u64>(0), 0)?;
    page.change(level, bit, false);
    expect_eq!(store_high(page), Ok(()))
}

/// Without enhanced DAT the protection bits of region entries are ignored.
#[case(spec = "SA22-7832 3 DAT Protection", rows(
    region_first: Level::RegionFirst,
    region_second: Level::RegionSecond,
    region_third: Level::RegionThird,
))]
fn region_protection_is_ignored_without_edat(page: &mut HighPage, level: Level) -> Verdict {
    let _off = cr0_without(Cr0::EDAT);
    page.change(level, REGION_PROTECTED, true);
    expect_eq!(store_high(page), Ok(()))?;
    expect_eq!(page.frame.read::<u64>(0), 7)
}

/// Without enhanced DAT the format control is ignored: the entry still names a table.
#[case(spec = "SA22-7832 3 Dynamic Address Translation", rows(
    segment: Level::Segment,
    region_third: Level::RegionThird,
))]
fn format_control_is_ignored_without_edat(page: &mut HighPage, level: Level) -> Verdict {
    let _off = cr0_without(Cr0::EDAT);
    page.change(level, FORMAT_CONTROL, true);
    expect_eq!(store_high(page), Ok(()))?;
    expect_eq!(page.frame.read::<u64>(0), 7)
}

/// With enhanced DAT the protection bit of every table is obeyed.
#[case(spec = "SA22-7832 3 Enhanced DAT", needs("s390x.edat1"), rows(
    region_first: Level::RegionFirst,
    region_second: Level::RegionSecond,
    region_third: Level::RegionThird,
    segment: Level::Segment,
))]
fn protection_is_obeyed_with_edat(page: &mut HighPage, level: Level) -> Verdict {
    let _on = cr0_with(Cr0::EDAT);
    expect_eq!(store_high(page), Ok(()))?;
    page.change(level, REGION_PROTECTED, true);
    page.frame.write(0, 0u64);
    expect_eq!(store_high(page), Err(Fault::PROTECTION))?;
    expect_eq!(page.frame.read::<u64>(0), 0)?;
    page.change(level, REGION_PROTECTED, false);
    expect_eq!(store_high(page), Ok(()))
}

/// A segment entry with the format control maps one megabyte of storage.
#[case(spec = "SA22-7832 3 Enhanced DAT", needs("s390x.edat1"))]
fn large_segment_maps_a_megabyte() -> Verdict {
    let _on = cr0_with(Cr0::EDAT);
    let frames = guest_lib::memory::Frames::aligned(256, 1 << 20);
    let mut space = AddressSpace::identity();
    space.prepare(Level::Segment, HIGH);
    space.write(Level::Segment, HIGH, frames.address() | FORMAT_CONTROL);
    for offset in [0, 0x8_1230, 0xf_fff8] {
        space.run(|| store(HIGH + offset, offset + 1))?;
        expect_eq!(frames.read::<u64>(offset as usize), offset + 1)?;
    }
    expect_eq!(
        space.run(|| load(HIGH + (1 << 20))),
        Err(Fault::SEGMENT_TRANSLATION)
    )
}

/// Inside a large page over absolute zero prefixing is not applied.
#[case(spec = "SA22-7832 3 Enhanced DAT", needs("s390x.edat1"))]
fn large_segment_is_absolute(area: &mut guest_lib::arch::lowcore::PrefixArea) -> Verdict {
    let _on = cr0_with(Cr0::EDAT);
    let mut space = AddressSpace::identity();
    space.prepare(Level::Segment, HIGH);
    space.write(Level::Segment, HIGH, FORMAT_CONTROL);
    space.map(HIGH + (1 << 20), 0);
    store(0x908, 0xaaaa)?;
    area.frames().write(0x908, 0xbbbbu64);
    area.enter()?;
    let large = space.run(|| load(HIGH + 0x908));
    let small = space.run(|| load(HIGH + (1 << 20) + 0x908));
    area.back()?;
    expect_eq!(
        (large, small),
        (Ok(0xaaaa), Ok(0xbbbb)),
        "large page, small page"
    )
}

/// A region-third entry with the format control maps two gigabytes; beyond storage they fault.
#[case(spec = "SA22-7832 3 Enhanced DAT", needs("s390x.edat2"))]
fn large_region_maps_two_gigabytes() -> Verdict {
    let _on = cr0_with(Cr0::EDAT);
    let frame = guest_lib::memory::Frames::new(1);
    let mut space = AddressSpace::identity();
    space.prepare(Level::RegionThird, HIGH);
    space.write(Level::RegionThird, HIGH, FORMAT_CONTROL | 0x4);
    space.run(|| store(HIGH + frame.address(), 42))?;
    expect_eq!(frame.read::<u64>(0), 42)?;
    let end = guest_lib::memory::total();
    expect!(
        space.run(|| load(HIGH + end - 8)).is_ok(),
        "the last doubleword"
    )?;
    expect_eq!(space.run(|| load(HIGH + end)), Err(Fault::ADDRESSING))
}
