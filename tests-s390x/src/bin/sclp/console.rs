//! Write event data: masks, and text of the two console kinds.

use guest_lib::arch::sclp::{WRITE_EVENT_DATA, WRITE_EVENT_MASK, block, call};
use guest_lib::prelude::*;

/// Write event mask answers with the masks that the SCLP has, the ASCII console among them.
#[case(spec = "SCLP WRITE EVENT MASK")]
fn event_mask_is_answered() -> Verdict {
    let page = block(28);
    page.write(10, 4u16);
    page.write(16, 0x4000_0040u32);
    expect_eq!(call(WRITE_EVENT_MASK, &page)?, (0, 0x20))?;
    let (receive, send) = (page.read::<u32>(20), page.read::<u32>(24));
    note!("receive {receive:#x}, send {send:#x}");
    expect_ne!(receive & 0x4000_0040, 0, "one of the two console kinds")
}

/// A mask length of zero, or beyond what an SCCB can hold, is answered with 0x74f0.
#[case(spec = "SCLP WRITE EVENT MASK")]
fn absurd_mask_length_is_refused() -> Verdict {
    // The console goes on with the masks it has.
    for length in [0, 1022, 4000, 65535] {
        let page = block(64);
        page.write(10, length as u16);
        let (cc, response) = call(WRITE_EVENT_MASK, &page)?;
        expect_eq!((cc, response), (0, 0x74f0), "a mask of {length} bytes")?;
    }
    Ok(())
}

/// An event of a kind that nobody has is refused; an ASCII event is taken and marked.
#[case(spec = "SCLP WRITE EVENT DATA")]
fn unknown_event_is_refused() -> Verdict {
    let event = |kind: u8, text: &[u8]| -> Result<(u16, u8), Stop> {
        let length = 6 + text.len() as u16;
        let page = block(8 + length);
        page.write(8, length);
        page.write(10, kind);
        for (i, &byte) in text.iter().enumerate() {
            page.write(14 + i, byte);
        }
        let (cc, response) = call(WRITE_EVENT_DATA, &page)?;
        expect_eq!(cc, 0)?;
        Ok((response, page.read(11)))
    };
    let (unknown, _) = event(0x7f, b"?")?;
    expect_ne!(unknown, 0x20, "unknown kind")?;
    let (known, flags) = event(0x1a, b"# an event of its own\n")?;
    expect_eq!((known, flags & 0x80), (0x20, 0x80), "ASCII")
}

/// An event longer than its block is refused.
#[case(spec = "SCLP WRITE EVENT DATA")]
fn event_longer_than_its_block_is_refused() -> Verdict {
    let page = block(8 + 6);
    page.write(8, 400u16);
    page.write(10, 0x1au8);
    let (cc, response) = call(WRITE_EVENT_DATA, &page)?;
    expect_eq!(cc, 0)?;
    expect_ne!(response, 0x20, "response")
}
