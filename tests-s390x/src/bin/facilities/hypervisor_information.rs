//! STORE HYPERVISOR INFORMATION: what the guest may know about the machine below.
//!
//! Spec: SC24-6272 STHYI.

use guest_lib::arch::exec::{Ran, execute, registers};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

fn sthyi(fields: u16, function: u64, block: u64) -> Result<Ran, Fault> {
    execute(&[0xb256, fields], registers([(2, function), (4, block)]))
}

/// Odd registers, the same register twice, and a block that is not on a page are refused.
#[case(spec = "SC24-6272 STHYI", needs("s390x.sthyi"), rows(
    odd_first: (0x34, 0), odd_second: (0x25, 0), same: (0x22, 0), misaligned: (0x24, 8),
))]
fn bad_operands_are_refused((fields, off): (u16, u64)) -> Verdict {
    let page = Frames::new(1);
    let refused = sthyi(fields, 0, page.address() + off);
    expect_eq!(refused.err(), Some(Fault::SPECIFICATION))?;
    expect_eq!(sthyi(0x24, 0, page.address())?.cc, 0)
}

/// An unknown function is condition code 3 with return code 4.
#[case(spec = "SC24-6272 STHYI", needs("s390x.sthyi"))]
fn unknown_function_is_code_3() -> Verdict {
    let page = Frames::new(1);
    let ran = sthyi(0x24, 32, page.address())?;
    expect_eq!((ran.cc, ran.registers[5]), (3, 4))
}

/// Function 0: header, machine and partition section lie in the block, one behind the other.
#[case(spec = "SC24-6272 STHYI", needs("s390x.sthyi"))]
fn sections_lie_in_the_block() -> Verdict {
    let page = Frames::new(1);
    let ran = sthyi(0x24, 0, page.address())?;
    expect_eq!((ran.cc, ran.registers[5]), (0, 0))?;
    // Offsets of the machine and the partition section, and their lengths.
    let header: u16 = page.read(2);
    let sections = [
        (page.read::<u16>(4), page.read::<u16>(6)),
        (page.read(8), page.read(10)),
    ];
    let mut end = header;
    for (offset, length) in sections {
        expect!(
            offset >= end && length > 0 && offset + length <= 4096,
            "{offset}+{length}"
        )?;
        end = offset + length;
    }
    Ok(())
}
