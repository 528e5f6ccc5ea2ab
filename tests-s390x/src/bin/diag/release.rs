//! DIAGNOSE 0x10: pages that the guest gives back, and that read as zero afterwards.
//!
//! The refused operands mean nothing on a machine without the call, so all cases need it.

use guest_lib::arch::diag::diagnose;
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

fn release(first: u64, last: u64) -> Result<(), Fault> {
    diagnose(0x10, first, 0, last).map(|_| ())
}

/// Released pages read as zero, those beside them keep their bytes, and they can be used again.
#[case(spec = "S390-DIAG 0x10", needs("s390x.diag10"))]
fn released_pages_read_as_zero() -> Verdict {
    let mut frames = Frames::new(4);
    frames.bytes_mut().fill(0xaa);
    release(frames.address() + 4096, frames.address() + 8192)?;
    expect_eq!((frames.read::<u64>(4096), frames.read::<u64>(8192)), (0, 0))?;
    expect_eq!(
        (frames.read::<u8>(4095), frames.read::<u8>(12288)),
        (0xaa, 0xaa)
    )?;
    frames.write(4096, 42u64);
    expect_eq!(frames.read::<u64>(4096), 42)
}

/// The prefix area cannot be released, alone or in a range.
#[case(spec = "S390-DIAG 0x10", needs("s390x.diag10"), rows(
    first_page: (0, 0), second_page: (0x1000, 0x1000), both: (0, 0x1000),
))]
fn prefix_area_is_refused((first, last): (u64, u64)) -> Verdict {
    expect_eq!(release(first, last), Err(Fault::SPECIFICATION))
}

/// A range that ends before it starts, or is not made of pages, is refused.
#[case(spec = "S390-DIAG 0x10", needs("s390x.diag10"), rows(
    end_before_start: (4096, 0), start_misaligned: (1, 4096), end_misaligned: (0, 4097),
))]
fn bad_range_is_refused((first, last): (u64, u64)) -> Verdict {
    let frames = Frames::new(3);
    let at = frames.address();
    expect_eq!(release(at + first, at + last), Err(Fault::SPECIFICATION))?;
    expect_eq!(release(at, at + 4096), Ok(()))
}
