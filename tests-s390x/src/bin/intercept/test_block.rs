//! TEST BLOCK clears a frame and says whether it is usable. Spec: SA22-7832 10 TEST BLOCK.

use guest_lib::arch::cpu::test_block;
use guest_lib::arch::registers::{Cr0, cr0_with};
use guest_lib::memory::{Frames, total};
use guest_lib::prelude::*;

/// A usable frame is cleared, all of it and nothing else.
#[case(spec = "SA22-7832 10 TEST BLOCK")]
fn usable_frame_is_cleared() -> Verdict {
    let mut frames = Frames::new(3);
    frames.bytes_mut().fill(0xaa);
    // Bits inside the frame's address are ignored.
    expect_eq!(test_block(frames.address() + 4096 + 0x123), Ok(0))?;
    let cleared: Vec<usize> = (0..frames.len())
        .step_by(8)
        .filter(|&i| frames.read::<u64>(i) == 0)
        .collect();
    expect_eq!(
        (cleared.first(), cleared.last()),
        (Some(&4096), Some(&8184))
    )?;
    expect_eq!(cleared.len(), 512)
}

/// Low-address protection bars the first frame: its first bytes could not be stored either.
#[case(spec = "SA22-7832 10 TEST BLOCK")]
fn low_address_protection_bars_the_first_frame() -> Verdict {
    let _protection = cr0_with(Cr0::LOW_ADDRESS_PROTECTION);
    expect_eq!(test_block(0), Err(Fault::PROTECTION))?;
    expect_eq!(test_block(Frames::new(1).address()), Ok(0))
}

/// A frame beyond storage is an addressing exception.
#[case(spec = "SA22-7832 10 TEST BLOCK")]
fn frame_beyond_storage_is_refused() -> Verdict {
    expect_eq!(test_block(total()), Err(Fault::ADDRESSING))?;
    expect_eq!(test_block(!0xfff), Err(Fault::ADDRESSING))
}

/// TEST BLOCK is privileged, and a refused one clears nothing.
#[case(spec = "SA22-7832 10 TEST BLOCK")]
fn tb_is_privileged() -> Verdict {
    let mut frame = Frames::new(1);
    frame.bytes_mut().fill(0xaa);
    let refused = fault::catch_user(|| test_block(frame.address()))?;
    expect_eq!(refused, Err(Fault::PRIVILEGED_OPERATION))?;
    expect!(
        frame.bytes().iter().all(|&b| b == 0xaa),
        "nothing is cleared"
    )?;
    expect_eq!(test_block(frame.address()), Ok(0))
}
