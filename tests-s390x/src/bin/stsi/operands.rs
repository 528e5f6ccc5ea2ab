//! Function code and selectors: in registers 0 and 1, with bits that must be zero.
//!
//! Spec: SA22-7832 10 STORE SYSTEM INFORMATION. Register 0: function code in bits 32-35, selector
//! 1 in bits 56-63; register 1: selector 2 in bits 48-63. The high halves mean nothing.

use guest_lib::arch::cpu::store_system_information as stsi;
use guest_lib::memory::{Frames, total};
use guest_lib::prelude::*;

const FC1: u64 = 1 << 28;
const FC7: u64 = 7 << 28;

/// STSI is privileged, in every function.
#[case(spec = "SA22-7832 10 STORE SYSTEM INFORMATION")]
fn stsi_is_privileged() -> Verdict {
    let page = Frames::new(1);
    for function in [0, FC1, 2 << 28, 3 << 28, FC7] {
        let refused = fault::catch_user(|| stsi(function | 1, 1, page.address()).err())?;
        expect_eq!(
            refused,
            Some(Fault::PRIVILEGED_OPERATION),
            "function {function:#x}"
        )?;
    }
    expect_eq!(stsi(FC1 | 1, 1, page.address())?.cc, 0)
}

/// Bits 36 to 55 of register 0 must be zero.
#[case(spec = "SA22-7832 10 STORE SYSTEM INFORMATION")]
fn reserved_bits_of_register_0_are_refused() -> Verdict {
    let page = Frames::new(1);
    for bit in 36..=55 {
        let refused = stsi(FC1 | 1 | 1 << (63 - bit), 1, page.address());
        expect_eq!(refused.err(), Some(Fault::SPECIFICATION), "bit {bit}")?;
    }
    expect_eq!(stsi(FC1 | 1, 1, page.address())?.cc, 0)
}

/// Bits 32 to 47 of register 1 must be zero.
#[case(spec = "SA22-7832 10 STORE SYSTEM INFORMATION")]
fn reserved_bits_of_register_1_are_refused() -> Verdict {
    let page = Frames::new(1);
    for bit in 32..=47 {
        let refused = stsi(FC1 | 1, 1 | 1 << (63 - bit), page.address());
        expect_eq!(refused.err(), Some(Fault::SPECIFICATION), "bit {bit}")?;
    }
    expect_eq!(stsi(FC1 | 1, 1, page.address())?.cc, 0)
}

/// Bits 0 to 31 of both registers are ignored.
#[case(spec = "SA22-7832 10 STORE SYSTEM INFORMATION", rows(
    register0: (true, false), register1: (false, true),
))]
fn high_halves_are_ignored((first, second): (bool, bool)) -> Verdict {
    let page = Frames::new(1);
    for bit in 0..32 {
        let high = 1 << (63 - bit);
        let r0 = FC1 | 1 | if first { high } else { 0 };
        let r1 = 1 | if second { high } else { 0 };
        expect_eq!(
            stsi(r0, r1, page.address()).map(|ran| ran.cc),
            Ok(0),
            "bit {bit}"
        )?;
    }
    Ok(())
}

/// The block must be on a 4 KiB boundary.
#[case(spec = "SA22-7832 10 STORE SYSTEM INFORMATION")]
fn misaligned_block_is_refused() -> Verdict {
    let pages = Frames::new(2);
    for off in [1, 8, 42, 256, 2048] {
        let refused = stsi(FC1 | 1, 1, pages.address() + off);
        expect_eq!(refused.err(), Some(Fault::SPECIFICATION), "{off} bytes off")?;
    }
    expect!(pages.bytes().iter().all(|&b| b == 0), "nothing is stored")?;
    expect_eq!(stsi(FC1 | 1, 1, pages.address() + 4096)?.cc, 0)
}

/// A block beyond storage is an addressing exception.
#[case(spec = "SA22-7832 10 STORE SYSTEM INFORMATION")]
fn block_beyond_storage_is_refused() -> Verdict {
    expect_eq!(stsi(FC1 | 1, 1, total()).err(), Some(Fault::ADDRESSING))
}

/// A function or selector that is not there is condition code 3, and nothing is stored.
#[case(spec = "SA22-7832 10 STORE SYSTEM INFORMATION", rows(
    function: (FC7 | 1, 1), selector1: (FC1, 1), selector2: (FC1 | 1, 0), selectors: (FC1 | 42, 42),
))]
fn absent_information_is_code_3((r0, r1): (u64, u64)) -> Verdict {
    let page = Frames::new(1);
    expect_eq!(stsi(r0, r1, page.address())?.cc, 3)?;
    expect!(page.bytes().iter().all(|&b| b == 0), "nothing is stored")?;
    expect_eq!(stsi(FC1 | 1, 1, page.address())?.cc, 0)
}

/// Function 0 tells the current level in register 0 and takes no block: at least 1, and 3 under a
/// hypervisor that gives level-3 information.
#[case(spec = "SA22-7832 10 STORE SYSTEM INFORMATION")]
fn function_0_tells_the_level() -> Verdict {
    let page = Frames::new(1);
    let ran = stsi(0, 0, page.address())?;
    let level = ran.registers[0] >> 28 & 0xf;
    note!("level {level}");
    expect_eq!(ran.cc, 0)?;
    expect!((1..=3).contains(&level), "level {level}")?;
    expect!(page.bytes().iter().all(|&b| b == 0), "no block")?;
    // Information of the current level is there, of the next level not.
    let block = Frames::new(1);
    let own = [(1, 1), (2, 2), (2, 2)][level as usize - 1];
    expect_eq!(
        stsi(level << 28 | own.0, own.1, block.address())?.cc,
        0,
        "its own level"
    )?;
    match level {
        3 => Ok(()),
        _ => expect_eq!(
            stsi((level + 1) << 28 | 2, 2, block.address())?.cc,
            3,
            "the next level"
        ),
    }
}
