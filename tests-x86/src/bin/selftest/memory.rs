//! Frames and heap. Spec: SDM 3A 4.5.
//!
//! Cases take frames for page tables, VMCBs and stacks; one that overlapped another, or was not
//! zeroed, would show up as a wrong verdict far away.

use guest_lib::memory::{self, FRAME, Frames};
use guest_lib::prelude::*;

/// Frames are zeroed, aligned, apart from each other, inside RAM, and come back on drop.
#[case(spec = "SDM 3A 4.5")]
fn frames_are_zeroed_apart_and_returned() -> Verdict {
    let before = memory::usage().1;
    let mut held = Vec::with_capacity(64);
    for (count, align) in [
        (1, FRAME),
        (3, FRAME),
        (1, 1 << 16),
        (2, 2 << 20),
        (2, FRAME),
    ] {
        let mut frames = Frames::aligned(count, align);
        expect_eq!(frames.address() % align as u64, 0)?;
        expect!(frames.bytes().iter().all(|&b| b == 0), "not zeroed")?;
        frames.bytes_mut().fill(0xa5);
        let end = frames.address() + frames.len() as u64;
        let in_ram = memory::regions()
            .iter()
            .any(|(start, length)| frames.address() >= *start && end <= start + length);
        expect!(in_ram, "{:#x} is no RAM", frames.address())?;
        held.push(frames);
    }
    for (i, a) in held.iter().enumerate() {
        for b in &held[i + 1..] {
            let apart = a.address() + a.len() as u64 <= b.address()
                || b.address() + b.len() as u64 <= a.address();
            expect!(apart, "{a:x?} and {b:x?} overlap")?;
        }
    }
    drop(held);
    expect!(memory::usage().1 <= before + 1, "frames are lost")?;
    // The same frame again, and clean again.
    expect!(
        Frames::new(24).bytes().iter().all(|&b| b == 0),
        "not zeroed"
    )
}

/// Heap blocks of every size class keep their contents while others come and go.
#[case(spec = "SDM 3A 4.5")]
fn heap_blocks_keep_their_contents() -> Verdict {
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    for round in 0..4usize {
        for size in [1, 16, 17, 100, 1000, 2048, 2049, 5000, 20_000] {
            blocks.push(vec![(blocks.len() % 251) as u8; size]);
        }
        let mut i = 0;
        blocks.retain(|_| {
            i += 1;
            (i + round) % 3 != 0
        });
    }
    for block in &blocks {
        expect!(
            block.iter().all(|b| *b == block[0]),
            "a block of {} bytes changed",
            block.len()
        )?;
    }
    Ok(())
}
