//! Page tables with raw entries. Spec: SDM 3A 4.5 to 4.8.
//!
//! Each bit of a page-fault error code has its own cause, and a table walk that folds two of them
//! together goes unnoticed until a guest depends on it. Each row spoils one entry, sees the exact
//! code and CR2, mends the entry and sees the access succeed.

use guest_lib::arch::cpu;
use guest_lib::arch::paging::{
    A, AddressSpace, D, FREE_BASE, NX, P, PF_I, PF_P, PF_U, PF_W, PS, U, W,
};
use guest_lib::arch::registers::{Cr0, SavedControl};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

const PAGE: u64 = FREE_BASE + 0x7000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
    Fetch,
}
use Access::{Fetch, Read, Write};

/// What is done to the page, who does it, what is spoiled in its entry, the error code.
struct Row {
    access: Access,
    user: bool,
    spoil: fn(u64) -> u64,
    error: u32,
}

const fn row(access: Access, user: bool, spoil: fn(u64) -> u64, error: u32) -> Row {
    Row {
        access,
        user,
        spoil,
        error,
    }
}

fn attempt(row: &Row) -> Result<u64, Fault> {
    let access = || match row.access {
        Read => cpu::peek_raw(PAGE + 0x123),
        Write => cpu::poke_raw(PAGE + 0x123, 1),
        // A page of RETs.
        Fetch => cpu::call_raw(PAGE + 0x123),
    };
    if row.user {
        fault::catch_user_with(cpu::read_cr3(), access)
    } else {
        fault::catch(access)
    }
}

/// The error code of a page fault tells presence, access, privilege and fetches.
#[case(
    spec = "SDM 3A 4.7",
    rows(
        read_of_absent_page: row(Read, false, |e| e & !P, 0),
        write_to_absent_page: row(Write, false, |e| e & !P, PF_W),
        fetch_from_absent_page: row(Fetch, false, |e| e & !P, PF_I),
        write_to_read_only_page: row(Write, false, |e| e & !W, PF_P | PF_W),
        fetch_from_nx_page: row(Fetch, false, |e| e | NX, PF_P | PF_I),
        user_read_of_absent_page: row(Read, true, |e| e & !P, PF_U),
        user_read_of_supervisor_page: row(Read, true, |e| e & !U, PF_P | PF_U),
        user_write_to_supervisor_page: row(Write, true, |e| e & !U, PF_P | PF_W | PF_U),
        user_write_to_read_only_page: row(Write, true, |e| e & !W, PF_P | PF_W | PF_U),
        user_fetch_from_supervisor_page: row(Fetch, true, |e| e & !U, PF_P | PF_U | PF_I),
    )
)]
fn error_code(row: Row) -> Verdict {
    let mut frame = Frames::new(1);
    frame.bytes_mut().fill(0xc3);
    let good = frame.address() | P | W | U;
    let mut space = AddressSpace::new(row.user);
    space.set(PAGE, 1, good);
    space.with(|| expect_eq!(attempt(&row).is_ok(), true))?;

    space.set(PAGE, 1, (row.spoil)(good));
    space.with(|| {
        expect_eq!(attempt(&row).map(|_| ()), Err(Fault::pf(row.error)))?;
        expect_eq!(fault::details().cr2, PAGE + 0x123, "CR2")?;
        expect_eq!(fault::details().cs & 3, if row.user { 3 } else { 0 })
    })?;

    space.set(PAGE, 1, good);
    space.with(|| expect_eq!(attempt(&row).is_ok(), true))
}

/// A read sets the accessed bit at every level, a write the dirty bit of the leaf only.
#[case(spec = "SDM 3A 4.8")]
fn accessed_and_dirty_bits_are_set() -> Verdict {
    let frame = Frames::new(1);
    let mut space = AddressSpace::new(false);
    space.set(PAGE, 1, frame.address() | P | W);
    expect_eq!(space.get(PAGE, 1) & (A | D), 0)?;
    space.with(|| cpu::peek(PAGE))?;
    for level in 1..=4 {
        expect_eq!(
            space.get(PAGE, level) & A,
            A,
            "accessed bit at level {level}"
        )?;
    }
    expect_eq!(space.get(PAGE, 1) & D, 0)?;
    space.with(|| cpu::poke(PAGE, 1))?;
    expect_eq!(space.get(PAGE, 1) & (A | D), A | D)?;
    expect_eq!(space.get(PAGE, 2) & D, 0)
}

/// A 2 MiB page maps all its bytes with one entry.
#[case(spec = "SDM 3A 4.5")]
fn large_page_maps_all_its_bytes() -> Verdict {
    let frames = Frames::aligned(512, 2 << 20);
    let mut space = AddressSpace::new(false);
    space.set(FREE_BASE, 2, frames.address() | P | W | PS);
    for offset in [0, 0xfff, 0x1000, 0x12_3456, 0x1f_ffff] {
        frames.write(offset, 0x77u8);
        expect_eq!(
            space.with(|| cpu::peek(FREE_BASE + offset as u64)),
            Ok(0x77),
            "{offset:#x}"
        )?;
        space.with(|| cpu::poke(FREE_BASE + offset as u64, 0x78))?;
        expect_eq!(frames.read::<u8>(offset), 0x78, "{offset:#x}")?;
    }
    expect_eq!(space.get(FREE_BASE, 2) & (A | D), A | D)
}

/// With CR0.WP clear the supervisor writes to read-only pages; with WP set it may not.
#[case(spec = "SDM 3A 4.6 CR0")]
fn write_protect_flag_binds_the_supervisor() -> Verdict {
    let _saved = SavedControl::new();
    let frame = Frames::new(1);
    let mut space = AddressSpace::new(false);
    space.set(PAGE, 1, frame.address() | P);
    let write = || space.with(|| cpu::poke(PAGE, 1));
    expect_eq!(write(), Err(Fault::pf(PF_P | PF_W)))?;
    (Cr0::read() - Cr0::WP).write()?;
    expect_eq!(write(), Ok(()))?;
    (Cr0::read() | Cr0::WP).write()?;
    expect_eq!(write(), Err(Fault::pf(PF_P | PF_W)))
}

/// INVLPG makes a changed entry count at once, and a CR3 load does the same for all.
#[case(spec = "SDM 3A 4.10 INVLPG")]
fn invalidation_shows_the_new_entry() -> Verdict {
    let (first, second) = (Frames::new(1), Frames::new(1));
    first.write(0, 1u8);
    second.write(0, 2u8);
    let mut space = AddressSpace::new(false);
    space.set(PAGE, 1, first.address() | P | W);
    let slot = space.entry_address(PAGE, 1);
    space.with(|| {
        expect_eq!(cpu::peek(PAGE), Ok(1))?;
        paging_write(slot, second.address() | P | W);
        cpu::invlpg(PAGE);
        expect_eq!(cpu::peek(PAGE), Ok(2))?;
        paging_write(slot, first.address() | P | W);
        cpu::write_cr3(cpu::read_cr3())?;
        expect_eq!(cpu::peek(PAGE), Ok(1))
    })
}

fn paging_write(slot: u64, entry: u64) {
    guest_lib::arch::paging::write_entry(slot, entry);
}
