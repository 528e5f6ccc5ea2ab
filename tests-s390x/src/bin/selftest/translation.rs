//! Dynamic address translation under the runtime's own tables. Spec: SA22-7832 3 Dynamic Address
//! Translation.

use guest_lib::arch::exec::{load, store};
use guest_lib::arch::fault::last;
use guest_lib::arch::paging::{AddressSpace, Level, PAGE_INVALID, PAGE_PROTECTED};
use guest_lib::arch::registers::{Psw, psw_mask};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// A page far above all storage.
const HIGH: u64 = 1 << 40;

/// DAT is on inside, and the identity-mapped program goes on.
#[case(spec = "SA22-7832 3 Dynamic Address Translation")]
fn identity_space_runs_rust() -> Verdict {
    let space = AddressSpace::identity();
    let (mask, text) = space.run(|| (psw_mask(), format!("{:x}", 255)));
    expect_eq!(mask & Psw::DAT.bits(), Psw::DAT.bits())?;
    expect_eq!(text, "ff")?;
    expect_eq!(psw_mask() & Psw::DAT.bits(), 0)
}

/// Two virtual pages for one frame show the same bytes; with DAT off the address is no storage.
#[case(spec = "SA22-7832 3 Dynamic Address Translation")]
fn virtual_pages_reach_their_frame() -> Verdict {
    let frame = Frames::new(1);
    let mut space = AddressSpace::identity();
    space.map(HIGH, frame.address());
    space.map(HIGH + 4096, frame.address());
    space.run(|| store(HIGH + 8, 42))?;
    expect_eq!(space.run(|| load(HIGH + 4096 + 8)), Ok(42))?;
    expect_eq!(frame.read::<u64>(8), 42)?;
    expect_eq!(load(HIGH + 8), Err(Fault::ADDRESSING))
}

/// An invalid page faults with its address; once valid it is reached.
#[case(spec = "SA22-7832 6 Page-Translation Exception")]
fn invalid_page_is_named() -> Verdict {
    let frame = Frames::new(1);
    let mut space = AddressSpace::identity();
    space.map(HIGH, frame.address() | PAGE_INVALID);
    expect_eq!(space.run(|| load(HIGH + 16)), Err(Fault::PAGE_TRANSLATION))?;
    expect_eq!(last().translation_exception & !0xfff, HIGH)?;
    space.map(HIGH, frame.address());
    expect_eq!(space.run(|| load(HIGH + 16)), Ok(0))
}

/// A protected page can be read and not written.
#[case(spec = "SA22-7832 3 DAT Protection")]
fn protected_page_refuses_stores() -> Verdict {
    let frame = Frames::new(1);
    frame.write(0, 7u64);
    let mut space = AddressSpace::identity();
    space.map(HIGH, frame.address() | PAGE_PROTECTED);
    expect_eq!(space.run(|| load(HIGH)), Ok(7))?;
    expect_eq!(space.run(|| store(HIGH, 8)), Err(Fault::PROTECTION))?;
    expect_eq!(frame.read::<u64>(0), 7)?;
    space.map(HIGH, frame.address());
    expect_eq!(space.run(|| store(HIGH, 8)), Ok(()))?;
    expect_eq!(frame.read::<u64>(0), 8)
}

/// Each table level has its own exception for an invalid entry.
#[case(spec = "SA22-7832 3 Dynamic Address Translation", rows(
    region_first: (Level::RegionFirst, Fault::REGION_FIRST_TRANSLATION),
    region_second: (Level::RegionSecond, Fault::REGION_SECOND_TRANSLATION),
    region_third: (Level::RegionThird, Fault::REGION_THIRD_TRANSLATION),
    segment: (Level::Segment, Fault::SEGMENT_TRANSLATION),
))]
fn invalid_entry_faults_by_level((level, expected): (Level, Fault)) -> Verdict {
    use guest_lib::arch::paging::REGION_INVALID;
    // An address that shares no table entry with the identity-mapped program.
    let address = 3 << 53 | 3 << 42 | 3 << 31;
    let frame = Frames::new(1);
    let mut space = AddressSpace::identity();
    space.map(address, frame.address());
    expect_eq!(space.run(|| load(address)), Ok(0))?;
    let entry = space.read(level, address);
    space.write(level, address, entry | REGION_INVALID);
    expect_eq!(space.run(|| load(address)), Err(expected))?;
    space.write(level, address, entry);
    expect_eq!(space.run(|| load(address)), Ok(0))
}
