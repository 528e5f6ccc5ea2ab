//! EXTRACT PSW: two register halves, and what happens when the second is register 0.
//!
//! Spec: SA22-7832 7 EXTRACT PSW. It is not privileged, so a hypervisor that keeps parts of the
//! PSW elsewhere has to bring them in.

use guest_lib::arch::exec::{execute, registers};
use guest_lib::arch::registers::Psw;
use guest_lib::prelude::*;

const GARBAGE: u64 = 0x1234_5678_9abc_def0;

/// The condition code in the first word, which changes from moment to moment.
const CC: u64 = 0x3000;

/// Both registers get a word of the PSW in their low halves and keep their high halves.
#[case(spec = "SA22-7832 7 EXTRACT PSW")]
fn low_halves_get_the_psw() -> Verdict {
    let ran = execute(&[0xb98d, 0x0024], registers([(2, GARBAGE), (4, GARBAGE)]))?;
    let (first, second) = (ran.registers[2], ran.registers[4]);
    expect_eq!(first & !CC, GARBAGE & !0xffff_ffff | Psw::EA.bits() >> 32)?;
    expect_eq!(second, GARBAGE & !0xffff_ffff | Psw::BA.bits())
}

/// With register field 0 for the second operand only the first is stored; register 0 keeps its
/// value.
#[case(spec = "SA22-7832 7 EXTRACT PSW")]
fn second_operand_zero_stores_nothing() -> Verdict {
    let ran = execute(&[0xb98d, 0x0020], registers([(0, GARBAGE), (2, GARBAGE)]))?;
    expect_eq!(ran.registers[2] & 0xffff_ffff & !CC, Psw::EA.bits() >> 32)?;
    expect_eq!(ran.registers[0], GARBAGE)
}

/// With both fields zero register 0 gets the first word.
#[case(spec = "SA22-7832 7 EXTRACT PSW")]
fn both_operands_zero_store_the_first_word() -> Verdict {
    let ran = execute(&[0xb98d, 0x0000], registers([(0, GARBAGE)]))?;
    expect_eq!(
        ran.registers[0] & !CC,
        GARBAGE & !0xffff_ffff | Psw::EA.bits() >> 32
    )
}

/// The condition code shows in the word and is not changed.
#[case(spec = "SA22-7832 7 EXTRACT PSW")]
fn condition_code_shows() -> Verdict {
    for cc in 0..4u64 {
        // SPM sets the condition code from bits 2 and 3 of the register's low half.
        let ran = execute(&[0x0430, 0xb98d, 0x0024], registers([(3, cc << 28)]))?;
        expect_eq!((ran.registers[2] >> 12 & 3, ran.cc), (cc, cc as u8))?;
    }
    Ok(())
}
