//! Table entries with wrong types, and table limits. Spec: SA22-7832 3 Dynamic Address
//! Translation, 6 Translation-Specification Exception, ASCE-Type Exception.

use crate::space::{HIGH, HighPage};
use guest_lib::arch::exec::load;
use guest_lib::arch::fault::last;
use guest_lib::arch::paging::Level;
use guest_lib::prelude::*;

/// An entry whose table-type bits do not name its level is a translation-specification exception.
#[case(spec = "SA22-7832 6 Translation-Specification Exception", rows(
    region_first: Level::RegionFirst,
    region_second: Level::RegionSecond,
    region_third: Level::RegionThird,
    segment: Level::Segment,
))]
fn wrong_table_type_is_refused(page: &mut HighPage, level: Level) -> Verdict {
    let entry = page.space.read(level, HIGH);
    expect_eq!(page.space.run(|| load(HIGH)), Ok(0))?;
    page.space.write(level, HIGH, entry ^ 0xc);
    expect_eq!(
        page.space.run(|| load(HIGH)),
        Err(Fault::TRANSLATION_SPECIFICATION)
    )?;
    page.space.write(level, HIGH, entry);
    expect_eq!(page.space.run(|| load(HIGH)), Ok(0))
}

/// An address beyond the table length in the entry above is that level's translation exception.
#[case(spec = "SA22-7832 3 Dynamic Address Translation", rows(
    region_second: (Level::RegionFirst, Fault::REGION_SECOND_TRANSLATION),
    region_third: (Level::RegionSecond, Fault::REGION_THIRD_TRANSLATION),
    segment: (Level::RegionThird, Fault::SEGMENT_TRANSLATION),
))]
fn table_length_is_checked((level, expected): (Level, Fault)) -> Verdict {
    // The last quarter of each table.
    let address = 1791 << 53 | 1791 << 42 | 1791 << 31 | 1791u64 << 20;
    let frame = guest_lib::memory::Frames::new(1);
    let mut space = guest_lib::arch::paging::AddressSpace::identity();
    space.map(address, frame.address());
    expect_eq!(space.run(|| load(address)), Ok(0))?;
    let entry = space.read(level, address);
    space.write(level, address, entry & !3);
    expect_eq!(space.run(|| load(address)), Err(expected))?;
    space.write(level, address, entry);
    expect_eq!(space.run(|| load(address)), Ok(0))
}

/// An address beyond the table length in the ASCE is a region-first-translation exception.
#[case(spec = "SA22-7832 3 Dynamic Address Translation")]
fn asce_length_is_checked(page: &mut HighPage) -> Verdict {
    let address = 1791 << 53;
    let short = page.space.asce() & !3;
    let fault = page.space.run_with_asce(short, || load(address));
    expect_eq!(fault, Err(Fault::REGION_FIRST_TRANSLATION))?;
    expect_eq!(
        page.space.run_with_asce(short, || load(HIGH)),
        Ok(0),
        "below it"
    )
}

/// A real-space designation translates nothing: virtual addresses are real ones.
#[case(spec = "SA22-7832 3 Dynamic Address Translation")]
fn real_space_translates_nothing(page: &mut HighPage) -> Verdict {
    page.frame.write(8, 42u64);
    let real = page.frame.address();
    let inside = page
        .space
        .run_with_asce(0x20, || (load(real + 8), load(HIGH)));
    expect_eq!(inside, (Ok(42), Err(Fault::ADDRESSING)))
}

/// A page-table entry that names a frame beyond storage is an addressing exception on access.
#[case(spec = "SA22-7832 6 Addressing Exception")]
fn frame_beyond_storage_is_refused(page: &mut HighPage) -> Verdict {
    let entry = page.space.read(Level::Page, HIGH);
    page.space
        .write(Level::Page, HIGH, guest_lib::memory::total());
    expect_eq!(page.space.run(|| load(HIGH)), Err(Fault::ADDRESSING))?;
    page.space.write(Level::Page, HIGH, entry);
    expect_eq!(page.space.run(|| load(HIGH)), Ok(0))
}

/// A table origin beyond storage is an addressing exception.
#[case(spec = "SA22-7832 6 Addressing Exception", rows(
    region_second: Level::RegionFirst,
    region_third: Level::RegionSecond,
    segment: Level::RegionThird,
    page: Level::Segment,
))]
fn table_beyond_storage_is_refused(page: &mut HighPage, above: Level) -> Verdict {
    let entry = page.space.read(above, HIGH);
    page.space
        .write(above, HIGH, guest_lib::memory::total() | entry & 0xfff);
    expect_eq!(page.space.run(|| load(HIGH)), Err(Fault::ADDRESSING))?;
    page.space.write(above, HIGH, entry);
    expect_eq!(page.space.run(|| load(HIGH)), Ok(0))
}

/// The translation-exception identification names the page and the primary space, for a store
/// and a fetch alike.
#[case(spec = "SA22-7832 3 Translation-Exception Identification")]
fn identification_names_page_and_space(page: &mut HighPage) -> Verdict {
    use guest_lib::arch::{exec::store, paging::PAGE_INVALID};
    page.change(Level::Page, PAGE_INVALID, true);
    expect_eq!(
        page.space.run(|| store(HIGH + 0x128, 1)),
        Err(Fault::PAGE_TRANSLATION)
    )?;
    let teid = last().translation_exception;
    expect_eq!((teid & !0xfff, teid & 3), (HIGH, 0))?;
    expect_eq!(
        page.space.run(|| load(HIGH + 0x128)),
        Err(Fault::PAGE_TRANSLATION)
    )?;
    let teid = last().translation_exception;
    expect_eq!((teid & !0xfff, teid & 3), (HIGH, 0))
}
