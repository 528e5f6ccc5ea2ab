//! SET PROGRAM MASK and INSERT PROGRAM MASK: the condition code on its way to a register and back.
//!
//! Spec: SA22-7832 7 INSERT PROGRAM MASK, SET PROGRAM MASK.

use guest_lib::arch::exec::{execute, registers};
use guest_lib::prelude::*;

/// What IPM makes of a register after SPM with a condition code and a program mask.
fn round_trip(cc: u64, mask: u64, garbage: u64) -> Result<u64, Fault> {
    // SPM r3; IPM r4; SPM r5, which clears the program mask again.
    let code = [0x0430, 0xb222, 0x0040, 0x0450];
    let with = registers([(3, cc << 28 | mask << 24), (4, garbage), (5, 0)]);
    execute(&code, with).map(|ran| ran.registers[4])
}

/// The condition code and the program mask come through, bits 32 and 33 are zero, and the rest of
/// the register is untouched.
#[case(spec = "SA22-7832 7 INSERT PROGRAM MASK", rows(
    cc0: (0, 0), cc1: (1, 0), cc2: (2, 0), cc3: (3, 0),
    cc0_mask: (0, 0xf), cc1_mask: (1, 0x5), cc2_mask: (2, 0xa), cc3_mask: (3, 0xf),
))]
fn ipm_inserts_six_bits((cc, mask): (u64, u64)) -> Verdict {
    for garbage in [0, u64::MAX, 0x1234_5678_9abc_def0] {
        let expected = garbage & !0xff00_0000 | cc << 28 | mask << 24;
        expect_eq!(
            round_trip(cc, mask, garbage)?,
            expected,
            "over {garbage:#x}"
        )?;
    }
    Ok(())
}

/// The program mask does what it says: with the fixed-point-overflow bit an overflow interrupts,
/// without it sets condition code 3.
#[case(spec = "SA22-7832 6 Fixed-Point-Overflow Exception")]
fn program_mask_enables_overflow() -> Verdict {
    let add = |mask: u64| {
        let with = registers([(3, mask << 24), (6, 0x7fff_ffff), (7, 1)]);
        execute(&[0x0430, 0x1a67], with).map(|ran| ran.cc)
    };
    expect_eq!(add(0), Ok(3))?;
    expect_eq!(add(8), Err(Fault::FIXED_POINT_OVERFLOW))?;
    expect_eq!(add(0), Ok(3))
}
