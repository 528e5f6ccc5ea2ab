//! Where a block (SCCB) may lie and how long it may be.
//!
//! Faults come before the call is accepted: the address is checked by the instruction. Lengths
//! are checked by the SCLP, which answers in the block and signals completion.

use guest_lib::arch::interrupts::take;
use guest_lib::arch::lowcore::PrefixArea;
use guest_lib::arch::registers::{Cr0, Psw, cr0_with};
use guest_lib::arch::sclp::{
    READ_CPU_INFO, READ_SCP_INFO_FORCED, block, call, service_call, service_call_reserved_bits,
    take_service_signal,
};
use guest_lib::memory::{Frames, total};
use guest_lib::prelude::*;

/// Nothing was accepted, so nothing is signalled.
fn nothing_pending() -> Verdict {
    let _subclass = cr0_with(Cr0::SERVICE_SIGNAL);
    expect_eq!(take(Psw::EXTERNAL), None, "a refused call signals nothing")
}

fn refused(address: u64) -> Option<Fault> {
    service_call(READ_SCP_INFO_FORCED.into(), address).err()
}

/// SERVICE CALL is privileged.
#[case(spec = "SCLP SERVC")]
fn service_call_is_privileged() -> Verdict {
    let page = block(4096);
    let problem = fault::catch_user(|| refused(page.address()))?;
    expect_eq!(problem, Some(Fault::PRIVILEGED_OPERATION))?;
    expect_eq!(page.read::<u16>(6), 0, "no answer")?;
    expect_eq!(call(READ_SCP_INFO_FORCED, &page), Ok((0, 0x10)))
}

/// A block that is not on a doubleword boundary is a specification exception.
#[case(spec = "SCLP SCCB")]
fn misaligned_block_is_refused() -> Verdict {
    let page = Frames::new(1);
    for off in 1..8 {
        page.write(64 + off as usize, 8u16);
        expect_eq!(
            refused(page.address() + 64 + off),
            Some(Fault::SPECIFICATION),
            "{off} off"
        )?;
        page.write(64 + off as usize, 0u16);
    }
    nothing_pending()
}

/// A block shorter than its header is a specification exception; a header alone is enough to be
/// answered.
#[case(spec = "SCLP SCCB")]
fn block_shorter_than_its_header_is_refused() -> Verdict {
    for length in 0..8 {
        expect_eq!(
            refused(block(length).address()),
            Some(Fault::SPECIFICATION),
            "{length} bytes"
        )?;
    }
    nothing_pending()?;
    expect_eq!(call(0xdead_0001, &block(8)).map(|(cc, _)| cc), Ok(0))
}

/// A block beyond storage is an addressing exception.
#[case(spec = "SCLP SCCB")]
fn block_beyond_storage_is_refused() -> Verdict {
    expect_eq!(refused(total()), Some(Fault::ADDRESSING))?;
    nothing_pending()
}

/// A block at or above 2 GiB is a specification exception, or an addressing one where no storage
/// is.
#[case(spec = "SCLP SCCB")]
fn block_above_two_gigabytes_is_refused() -> Verdict {
    for address in [1 << 31, 1 << 32, 1 << 63] {
        let fault = refused(address);
        let known = fault == Some(Fault::SPECIFICATION)
            || address >= total() && fault == Some(Fault::ADDRESSING);
        expect!(known, "{address:#x}: {fault:?}")?;
    }
    nothing_pending()
}

/// A block in the first 8 KiB is a specification exception.
#[case(spec = "SCLP SCCB")]
fn block_in_the_low_pages_is_refused() -> Verdict {
    for address in [0u64, 0x800, 0x1000, 0x1ff8] {
        expect_eq!(refused(address), Some(Fault::SPECIFICATION), "{address:#x}")?;
    }
    nothing_pending()
}

/// A block in the prefix area is a specification exception.
#[case(spec = "SCLP SCCB")]
fn block_in_the_prefix_area_is_refused(area: &mut PrefixArea) -> Verdict {
    area.frames().write(0xb00, 64u16);
    area.frames().write(0x1b00, 64u16);
    area.enter()?;
    let faults = [0xb00, 0x1b00].map(|at| refused(area.address() + at));
    area.back()?;
    expect_eq!(faults, [Some(Fault::SPECIFICATION); 2])?;
    nothing_pending()
}

/// Bits of the instruction without a meaning are ignored.
#[case(spec = "SCLP SERVC")]
fn reserved_instruction_bits_are_ignored() -> Verdict {
    let page = block(4096);
    let cc = service_call_reserved_bits(READ_SCP_INFO_FORCED.into(), page.address());
    take_service_signal();
    expect_eq!((cc, page.read::<u16>(6)), (Ok(0), 0x10))
}

/// A block that crosses a page is answered with a boundary violation; within it the command runs.
#[case(spec = "SCLP SCCB")]
fn block_across_pages_is_answered() -> Verdict {
    let pages = Frames::new(2);
    let at = pages.address() + 4096 - 64;
    pages.write(4096 - 64, 128u16);
    let cc = service_call(READ_CPU_INFO.into(), at)?;
    take_service_signal();
    expect_eq!((cc, pages.read::<u16>(4096 - 64 + 6)), (0, 0x0100))
}

/// A block longer than a page is answered with a boundary violation, unless the machine has
/// extended-length blocks.
#[case(spec = "SCLP SCCB")]
fn block_longer_than_a_page_is_answered() -> Verdict {
    let page = block(4096 + 8);
    let (cc, response) = call(READ_CPU_INFO, &page)?;
    let extended = guest_lib::arch::registers::facility(140);
    let known = response == 0x0100 || extended && response == 0x10;
    expect!(
        cc == 0 && known,
        "condition code {cc}, response {response:#x}"
    )
}

/// A block too short for its answer is told so: 0x0300, and the header is all that changes.
#[case(spec = "SCLP SCCB", rows(
    scp_info: (READ_SCP_INFO_FORCED, 128),
    cpu_info: (READ_CPU_INFO, 16),
))]
fn short_block_is_answered((command, length): (u32, u16)) -> Verdict {
    let page = block(length);
    expect_eq!(call(command, &page), Ok((0, 0x0300)))?;
    expect!(
        page.bytes()[8..].iter().all(|&b| b == 0),
        "nothing but the header"
    )?;
    expect_eq!(call(command, &block(4096)), Ok((0, 0x10)))
}
