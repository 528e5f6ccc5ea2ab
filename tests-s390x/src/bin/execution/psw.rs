//! LOAD PSW and LOAD PSW EXTENDED: what may be loaded, and where the exception then points.
//!
//! Spec: SA22-7832 4 Program-Status-Word Format, 6 Early Exception Recognition, 10 LOAD PSW. Most
//! bad PSWs are loaded first and refused before the next instruction, so the old PSW of the
//! interruption is the bad PSW itself.

use guest_lib::arch::exec::{CODE, execute, registers};
use guest_lib::arch::fault::{Psw128, last};
use guest_lib::arch::registers::Psw;
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// The return at the end of the instruction buffer, behind a four-byte instruction.
const RETURN: u64 = CODE + 4;
const GOOD: u64 = Psw::EA.bits() | Psw::BA.bits();

fn lpswe(mask: u64, address: u64) -> Result<(), Fault> {
    let page = Frames::new(1);
    page.write(0, mask);
    page.write(8, address);
    execute(&[0xb2b2, 0x2000], registers([(2, page.address())])).map(|_| ())
}

fn lpsw(word: u64) -> Result<(), Fault> {
    let page = Frames::new(1);
    page.write(0, word);
    execute(&[0x8200, 0x2000], registers([(2, page.address())])).map(|_| ())
}

/// A PSW with a bit that must be zero, or an impossible mode, is loaded and then refused.
#[case(spec = "SA22-7832 6 Early Exception Recognition", rows(
    bit0: (GOOD | 1 << 63, RETURN),
    bit2: (GOOD | 1 << 61, RETURN),
    bit3: (GOOD | 1 << 60, RETURN),
    bit4: (GOOD | 1 << 59, RETURN),
    bit12: (GOOD | Psw::SHORT.bits(), RETURN),
    bit25: (GOOD | 1 << 38, RETURN),
    bit30: (GOOD | 1 << 33, RETURN),
    bit33: (GOOD | 1 << 30, RETURN),
    bit63: (GOOD | 1, RETURN),
    ea_without_ba: (Psw::EA.bits(), RETURN),
    wide_address_in_31_bit_mode: (Psw::BA.bits(), 1 << 32 | RETURN),
    wide_address_in_24_bit_mode: (0, 1 << 24 | RETURN),
))]
fn invalid_psw_is_refused((mask, address): (u64, u64)) -> Verdict {
    expect_eq!(lpswe(GOOD, RETURN), Ok(()), "the valid one")?;
    let answer = lpswe(mask, address);
    // A machine that accepted the bad PSW runs under it now.
    let _ = lpswe(GOOD, RETURN);
    expect_eq!(answer, Err(Fault::SPECIFICATION))?;
    expect_eq!(
        last().psw,
        Psw128 { mask, address },
        "the old PSW is the bad one"
    )
}

/// A PSW with an odd address is refused when its first instruction is fetched, and the address is
/// the one reported.
#[case(spec = "SA22-7832 6 Specification Exception")]
fn odd_address_is_refused() -> Verdict {
    expect_eq!(lpswe(GOOD, RETURN), Ok(()))?;
    expect_eq!(lpswe(GOOD, RETURN + 1), Err(Fault::SPECIFICATION))?;
    expect_eq!(last().psw.address, RETURN + 1)
}

/// A PSW address beyond storage is an addressing exception there.
#[case(spec = "SA22-7832 6 Addressing Exception")]
fn address_beyond_storage_is_refused() -> Verdict {
    let end = guest_lib::memory::total();
    expect_eq!(lpswe(GOOD, end), Err(Fault::ADDRESSING))?;
    expect!(
        last().psw.address.wrapping_sub(end) <= 6,
        "at {:?}",
        last().psw
    )
}

/// LOAD PSW takes a short PSW: bit 12 is one there and zero afterwards, the address has 31 bits.
#[case(spec = "SA22-7832 10 LOAD PSW")]
fn short_psw_is_expanded() -> Verdict {
    expect_eq!(lpsw(GOOD | Psw::SHORT.bits() | RETURN), Ok(()))?;
    // With an address beyond storage the old PSW shows how the short one was expanded.
    expect_eq!(
        lpsw(GOOD | Psw::SHORT.bits() | 0x7fff_f000),
        Err(Fault::ADDRESSING)
    )?;
    expect_eq!(last().psw.mask & !0x3f00_0000_0000, GOOD)?;
    expect_eq!(last().psw.address & !0xfff, 0x7fff_f000)
}

/// A short PSW without bit 12 is a specification exception.
#[case(spec = "SA22-7832 10 LOAD PSW")]
fn short_psw_needs_bit_12() -> Verdict {
    expect_eq!(lpsw(GOOD | Psw::SHORT.bits() | RETURN), Ok(()))?;
    expect_eq!(lpsw(GOOD | RETURN), Err(Fault::SPECIFICATION))
}

/// The operand must be on a doubleword boundary.
#[case(spec = "SA22-7832 10 LOAD PSW EXTENDED", rows(lpswe: &[0xb2b2, 0x2000], lpsw: &[0x8200, 0x2000]))]
fn misaligned_operand_is_refused(code: &[u16]) -> Verdict {
    let page = Frames::new(1);
    for off in [1, 2, 4] {
        let refused = execute(code, registers([(2, page.address() + off)]));
        expect_eq!(refused.err(), Some(Fault::SPECIFICATION), "{off} bytes off")?;
    }
    Ok(())
}

/// The condition code comes from the loaded PSW.
#[case(spec = "SA22-7832 10 LOAD PSW EXTENDED")]
fn condition_code_is_loaded() -> Verdict {
    let page = Frames::new(1);
    for cc in 0..4u64 {
        page.write(0, GOOD | cc << 44);
        page.write(8, RETURN);
        let ran = execute(&[0xb2b2, 0x2000], registers([(2, page.address())]))?;
        expect_eq!(u64::from(ran.cc), cc)?;
    }
    Ok(())
}
