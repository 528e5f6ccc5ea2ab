//! Data exceptions and their code: in storage always, in the FPC register with AFP control.
//!
//! Spec: SA22-7832 6 Data Exception, Data-Exception Code (DXC).

use guest_lib::arch::exec::{execute, registers};
use guest_lib::arch::fault::last;
use guest_lib::arch::registers::{Cr0, cr0_with, cr0_without};
use guest_lib::prelude::*;

/// COMPARE AND TRAP (CRT r3,r4) on equal.
const CRT: [u16; 2] = [0xb972, 0x8034];

fn fpc() -> Result<u64, Fault> {
    execute(&[0xb38c, 0x0030], registers([])).map(|ran| ran.registers[3] as u32 as u64)
}

fn set_fpc(value: u64) -> Result<(), Fault> {
    execute(&[0xb384, 0x0030], registers([(3, value)])).map(|_| ())
}

/// COMPARE AND TRAP with AFP control puts code 0xff into storage and into the FPC register.
#[case(spec = "SA22-7832 6 Data-Exception Code")]
fn trap_sets_the_code_with_afp() -> Verdict {
    let _afp = cr0_with(Cr0::AFP);
    set_fpc(0)?;
    expect!(
        execute(&CRT, registers([(3, 1), (4, 2)])).is_ok(),
        "no trap"
    )?;
    expect_eq!(fpc()?, 0)?;
    expect_eq!(
        execute(&CRT, registers([(3, 1), (4, 1)])).err(),
        Some(Fault::DATA)
    )?;
    expect_eq!(last().data_exception, 0xff)?;
    let after = fpc();
    set_fpc(0)?;
    expect_eq!(after, Ok(0xff00))
}

/// Without AFP control the code is in storage only.
#[case(spec = "SA22-7832 6 Data-Exception Code")]
fn trap_leaves_the_fpc_without_afp() -> Verdict {
    set_fpc(0)?;
    let trap = {
        let _plain = cr0_without(Cr0::AFP);
        execute(&CRT, registers([(3, 1), (4, 1)])).err()
    };
    expect_eq!(trap, Some(Fault::DATA))?;
    expect_eq!(last().data_exception, 0xff)?;
    expect_eq!(fpc(), Ok(0))
}

/// An additional floating-point register without AFP control is a data exception with code 1.
#[case(spec = "SA22-7832 6 Data-Exception Code")]
fn additional_register_needs_afp() -> Verdict {
    // LZDR of f1 and of f2, which always exists.
    let clear_f1 = || execute(&[0xb375, 0x0010], registers([])).map(|_| ());
    let clear_f2 = || execute(&[0xb375, 0x0020], registers([])).map(|_| ());
    expect_eq!(clear_f1(), Ok(()))?;
    let (f1, code, f2) = {
        let _plain = cr0_without(Cr0::AFP);
        (clear_f1(), last().data_exception, clear_f2())
    };
    expect_eq!((f1, code, f2), (Err(Fault::DATA), 1, Ok(())))
}

/// A binary floating-point instruction without AFP control is a data exception with code 2.
#[case(spec = "SA22-7832 6 Data-Exception Code")]
fn binary_instruction_needs_afp() -> Verdict {
    // ADBR f0,f2.
    let add = || execute(&[0xb31a, 0x0002], registers([])).map(|_| ());
    expect_eq!(add(), Ok(()))?;
    let (fault, code) = {
        let _plain = cr0_without(Cr0::AFP);
        (add(), last().data_exception)
    };
    expect_eq!((fault, code), (Err(Fault::DATA), 2))
}

/// A vector instruction without vector control is a data exception with code 0xfe.
#[case(spec = "SA22-7832 6 Data-Exception Code", needs("s390x.vector"))]
fn vector_instruction_needs_vector_control() -> Verdict {
    // VZERO v0 (VGBM with a zero mask).
    let zero = || execute(&[0xe700, 0x0000, 0x0044], registers([])).map(|_| ());
    {
        let _on = cr0_with(Cr0::VECTOR | Cr0::AFP);
        expect_eq!(zero(), Ok(()))?;
    }
    let _off = cr0_without(Cr0::VECTOR);
    expect_eq!(zero(), Err(Fault::DATA))?;
    expect_eq!(last().data_exception, 0xfe)
}

/// A decimal instruction with an invalid digit is a data exception with code 0.
#[case(spec = "SA22-7832 6 Data-Exception Code")]
fn invalid_digit_has_code_zero() -> Verdict {
    let page = guest_lib::memory::Frames::new(1);
    page.write(0, 0x0000_0000_0000_012cu64);
    // CVBG is 16 bytes wide; CVB takes the doubleword.
    let convert = || execute(&[0x4f30, 0x2000], registers([(2, page.address())]));
    expect_eq!(convert()?.registers[3], 12)?;
    page.write(0, 0x0000_0000_0000_0a2cu64);
    expect_eq!(convert().err(), Some(Fault::DATA))?;
    expect_eq!(last().data_exception, 0)
}
