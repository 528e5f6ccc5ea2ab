//! Storage: its size, its frames, the prefix area. Spec: SA22-7832 3.

use guest_lib::arch::exec::load;
use guest_lib::arch::lowcore::{self, offset};
use guest_lib::cmdline;
use guest_lib::memory::{Frames, regions, total};
use guest_lib::prelude::*;

/// Every reported byte of storage is there, and the byte after the last is not.
#[case(spec = "SA22-7832 3 Storage Addressing")]
fn storage_ends_where_the_sclp_says() -> Verdict {
    expect_eq!(regions().len(), 1)?;
    expect!(total() >= 16 << 20, "{} bytes", total())?;
    for address in (0..total()).step_by(1 << 20).chain([total() - 8]) {
        expect!(load(address).is_ok(), "{address:#x} is storage")?;
    }
    expect_eq!(load(total()), Err(Fault::ADDRESSING))
}

/// Frames come zeroed and aligned, and do not overlap.
#[case(spec = "SA22-7832 3 Storage Addressing")]
fn frames_are_zeroed_and_apart() -> Verdict {
    let all: Vec<Frames> = (1..20).map(|n| Frames::aligned(n, 8192)).collect();
    for (i, frames) in all.iter().enumerate() {
        expect_eq!(frames.address() % 8192, 0)?;
        expect!(
            frames.bytes().iter().all(|&b| b == 0),
            "frames {i} are zero"
        )?;
        for word in (0..frames.len()).step_by(4096) {
            frames.write(word, i as u64 + 1);
        }
    }
    for (i, frames) in all.iter().enumerate() {
        for word in (0..frames.len()).step_by(4096) {
            expect_eq!(frames.read::<u64>(word), i as u64 + 1)?;
        }
    }
    Ok(())
}

/// Memory functions copy, fill, move and compare every length and overlap.
#[case(spec = "SA22-7832 7 MOVE")]
fn memory_functions_are_right() -> Verdict {
    let pattern: Vec<u8> = (0..1200u32).map(|i| (i * 7 + i / 256) as u8).collect();
    for length in (0..20).chain([255, 256, 257, 511, 512, 513, 1000]) {
        let mut copy = vec![0xaau8; 1200];
        copy[3..3 + length].copy_from_slice(&pattern[5..5 + length]);
        expect_eq!(copy[2], 0xaa, "before {length}")?;
        expect!(
            copy[3..3 + length] == pattern[5..5 + length],
            "copy of {length}"
        )?;
        expect_eq!(copy[3 + length], 0xaa, "after {length}")?;
        let mut moved = pattern.clone();
        moved.copy_within(10..10 + length, 13);
        expect!(
            moved[13..13 + length] == pattern[10..10 + length],
            "up by three, {length}"
        )?;
        let mut moved = pattern.clone();
        moved.copy_within(13..13 + length, 10);
        expect!(
            moved[10..10 + length] == pattern[13..13 + length],
            "down by three, {length}"
        )?;
        copy[7..7 + length].fill(0x55);
        expect!(
            copy[7..7 + length].iter().all(|&b| b == 0x55),
            "fill {length}"
        )?;
        expect_ne!(copy[7 + length], 0x55, "after fill {length}")?;
    }
    expect!(
        pattern[..] < [0xff][..] && pattern[..4] > [0, 7, 13][..],
        "order"
    )
}

/// The prefix area reads what was written to it at every width.
#[case(spec = "SA22-7832 3 Prefixing")]
fn prefix_area_fields_read_back() -> Verdict {
    let at = offset::RESTART_OLD;
    let before = lowcore::read64(at);
    lowcore::write64(at, 0x1122_3344_5566_7788);
    let read = (
        lowcore::read32(at),
        lowcore::read32(at + 4),
        lowcore::read16(at + 2),
    );
    lowcore::write32(at + 4, 0xabcd_ef01);
    let word = lowcore::read64(at);
    lowcore::write64(at, before);
    expect_eq!(read, (0x1122_3344, 0x5566_7788, 0x3344))?;
    expect_eq!(word, 0x1122_3344_abcd_ef01)
}

/// The command line arrives whole: the unit's name is one of its words.
#[case(spec = "SA22-7832 17 Initial Program Loading")]
fn command_line_arrives() -> Verdict {
    expect!(
        cmdline::value("unit").is_some_and(|u| !u.is_empty()),
        "'{}'",
        cmdline::line()
    )?;
    expect_eq!(cmdline::value("no_such_word"), None)
}
