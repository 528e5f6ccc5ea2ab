//! SET PREFIX: what a processor sees at real addresses 0 to 8191.
//!
//! Spec: SA22-7832 3 Prefixing, 10 SET PREFIX, STORE PREFIX. Prefixing swaps two 8 KiB blocks, so
//! both directions are looked at; a hypervisor that maps only one of them still boots.

use guest_lib::arch::cpu;
use guest_lib::arch::exec::{load, store};
use guest_lib::arch::lowcore::{self, PrefixArea, offset};
use guest_lib::memory::{Frames, total};
use guest_lib::prelude::*;

/// STORE PREFIX returns what SET PREFIX was given.
#[case(spec = "SA22-7832 10 STORE PREFIX")]
fn stpx_returns_the_prefix(area: &mut PrefixArea) -> Verdict {
    let before = area.current()?;
    area.enter()?;
    expect_eq!(area.current()?, area.address())?;
    area.back()?;
    expect_eq!(area.current()?, before)
}

/// Low real addresses go to the prefix area, and the area's own addresses to absolute zero.
#[case(spec = "SA22-7832 3 Prefixing")]
fn prefixing_swaps_both_blocks(area: &mut PrefixArea) -> Verdict {
    // A doubleword in each page of the block that nobody uses.
    for at in [0x908, 0x1c08] {
        store(at, 0xaaaa)?;
        area.frames().write(at as usize, 0xbbbbu64);
        area.enter()?;
        let inside = (load(at)?, load(area.address() + at)?);
        store(at, 0xcccc)?;
        store(area.address() + at, 0xdddd)?;
        area.back()?;
        expect_eq!(inside, (0xbbbb, 0xaaaa), "read at {at:#x}")?;
        expect_eq!(
            (load(at)?, area.frames().read::<u64>(at as usize)),
            (0xdddd, 0xcccc)
        )?;
    }
    Ok(())
}

/// A new prefix takes effect for what the machine itself stores: STORE FACILITY LIST.
#[case(spec = "SA22-7832 10 SET PREFIX")]
fn facility_list_lands_in_the_new_area(area: &mut PrefixArea) -> Verdict {
    let at = offset::STFL as usize;
    area.frames().write(at, 0xffff_ffffu32);
    lowcore::write32(offset::STFL, 0xffff_ffff);
    area.enter()?;
    let stored = cpu::store_facility_list(0);
    area.back()?;
    expect_eq!(stored, Ok(()))?;
    expect_ne!(area.frames().read::<u32>(at), 0xffff_ffff, "the new area")?;
    expect_eq!(lowcore::read32(offset::STFL), 0xffff_ffff, "the old area")
}

/// Program interruptions use the new area at once.
#[case(spec = "SA22-7832 3 Prefixing")]
fn interruptions_use_the_new_area(area: &mut PrefixArea) -> Verdict {
    area.frames().write(offset::PROGRAM as usize, 0u32);
    area.enter()?;
    let fault = load(total());
    area.back()?;
    expect_eq!(fault, Err(Fault::ADDRESSING))?;
    expect_eq!(
        area.frames().read::<u32>(offset::PROGRAM as usize) & 0xffff,
        5
    )
}

/// The prefix is a multiple of 8 KiB below 2 GiB: other bits of the operand are ignored.
#[case(spec = "SA22-7832 10 SET PREFIX")]
fn other_bits_of_the_prefix_are_ignored(area: &mut PrefixArea) -> Verdict {
    let word = Frames::new(1);
    word.write(0, area.address() as u32 | 0x8000_1fff);
    expect_eq!(cpu::set_prefix(word.address()), Ok(()))?;
    expect_eq!(area.current()?, area.address())
}

/// A prefix area beyond storage is an addressing exception, and the prefix stays.
#[case(spec = "SA22-7832 10 SET PREFIX")]
fn prefix_beyond_storage_is_refused(area: &mut PrefixArea) -> Verdict {
    let before = area.current()?;
    let word = Frames::new(1);
    for beyond in [total(), 0x7fff_e000] {
        word.write(0, beyond as u32);
        expect_eq!(
            cpu::set_prefix(word.address()),
            Err(Fault::ADDRESSING),
            "{beyond:#x}"
        )?;
        expect_eq!(area.current()?, before)?;
    }
    word.write(0, area.address() as u32);
    expect_eq!(cpu::set_prefix(word.address()), Ok(()))
}
