//! Reserved bits in page-table entries. Spec: SDM 3A 4.7.
//!
//! A fault for a reserved bit reports RSVD and, since only present entries are checked for reserved
//! bits, P as well: bit 3 never comes without bit 0. A guest that tells "absent" from "broken" by P
//! alone would try to page in what is already there.

use guest_lib::arch::cpu;
use guest_lib::arch::paging::{AddressSpace, FREE_BASE, P, PF_P, PF_RSVD, PF_U, PF_W, PS, U, W};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

const PAGE: u64 = FREE_BASE + 0x7000;

/// A reserved bit in a present entry is reported with RSVD and P.
#[case(
    spec = "SDM 3A 4.7",
    needs("x86.reserved_pte_bit"),
    rows(
        read: (false, false, PF_P | PF_RSVD),
        write: (true, false, PF_P | PF_W | PF_RSVD),
        user_read: (false, true, PF_P | PF_U | PF_RSVD),
        user_write: (true, true, PF_P | PF_W | PF_U | PF_RSVD),
    )
)]
fn reserved_bit_reports_presence(row: (bool, bool, u32)) -> Verdict {
    let (write, user, error) = row;
    let frame = Frames::new(1);
    let good = frame.address() | P | W | U;
    let mut space = AddressSpace::new(user);
    let access = || {
        if write {
            cpu::poke_raw(PAGE, 1)
        } else {
            cpu::peek_raw(PAGE)
        }
    };
    for level in 1..=3 {
        space.set(PAGE, 1, good);
        let entry = space.get(PAGE, level);
        let attempt = |space: &AddressSpace| {
            space.with(|| match user {
                true => fault::catch_user_with(cpu::read_cr3(), access),
                false => fault::catch(access),
            })
        };
        expect_eq!(attempt(&space).is_ok(), true)?;
        // Written in place: `set` walks through the entry afterwards no more.
        space.set(PAGE, level, entry | 1 << 51);
        expect_eq!(attempt(&space), Err(Fault::pf(error)), "level {level}")?;
        expect_eq!(fault::details().cr2, PAGE)?;
        space.set(PAGE, level, entry);
        expect_eq!(attempt(&space).is_ok(), true)?;
    }
    Ok(())
}

/// Bits 20:13 of an entry that maps a 2 MiB page are reserved.
#[case(spec = "SDM 3A 4.5")]
fn low_address_bits_of_a_large_page_are_reserved() -> Verdict {
    let frames = Frames::aligned(512, 2 << 20);
    frames.write(0x1f_f000, 0x77u8);
    let good = frames.address() | P | W | PS;
    let mut space = AddressSpace::new(false);
    let read = |space: &AddressSpace| space.with(|| cpu::peek(FREE_BASE + 0x1f_f000));
    for bit in 13..=20 {
        space.set(FREE_BASE, 2, good | 1 << bit);
        expect_eq!(read(&space), Err(Fault::pf(PF_P | PF_RSVD)), "bit {bit}")?;
        space.set(FREE_BASE, 2, good);
        expect_eq!(read(&space), Ok(0x77))?;
    }
    Ok(())
}
