//! Specification exceptions of operands in unprivileged instructions: alignment and odd registers.
//!
//! Spec: SA22-7832 6 Specification Exception. Each shows the mended form too.

use guest_lib::arch::exec::{execute, registers};
use guest_lib::arch::fault::last;
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// LOAD PAIR FROM QUADWORD wants a quadword boundary.
#[case(spec = "SA22-7832 7 LOAD PAIR FROM QUADWORD")]
fn lpq_wants_a_quadword_boundary() -> Verdict {
    let page = Frames::new(1);
    page.write(16, 0x1122u64);
    page.write(24, 0x3344u64);
    let lpq = |at: u64| {
        execute(
            &[0xe340, 0x2000, 0x008f],
            registers([(2, page.address() + at)]),
        )
    };
    let ran = lpq(16)?;
    expect_eq!((ran.registers[4], ran.registers[5]), (0x1122, 0x3344))?;
    for off in [1, 2, 4, 8] {
        expect_eq!(
            lpq(16 + off).err(),
            Some(Fault::SPECIFICATION),
            "{off} bytes off"
        )?;
        expect_eq!(last().instruction_length, 6)?;
    }
    Ok(())
}

/// LOAD PAIR FROM QUADWORD wants an even register.
#[case(spec = "SA22-7832 7 LOAD PAIR FROM QUADWORD")]
fn lpq_wants_an_even_register() -> Verdict {
    let page = Frames::new(1);
    let lpq = |code: u16| execute(&[code, 0x2000, 0x008f], registers([(2, page.address())]));
    expect!(lpq(0xe340).is_ok(), "even")?;
    expect_eq!(lpq(0xe350).err(), Some(Fault::SPECIFICATION), "odd")
}

/// STORE PAIR TO QUADWORD wants a quadword boundary and stores nothing otherwise.
#[case(spec = "SA22-7832 7 STORE PAIR TO QUADWORD")]
fn stpq_wants_a_quadword_boundary() -> Verdict {
    let page = Frames::new(1);
    let stpq = |at: u64| {
        let with = registers([(2, page.address() + at), (4, 1), (5, 2)]);
        execute(&[0xe340, 0x2000, 0x008e], with)
    };
    expect_eq!(stpq(8).err(), Some(Fault::SPECIFICATION))?;
    expect!(page.bytes().iter().all(|&b| b == 0), "nothing is stored")?;
    expect!(stpq(16).is_ok(), "aligned")?;
    expect_eq!((page.read::<u64>(16), page.read::<u64>(24)), (1, 2))
}

/// LOAD RELATIVE LONG wants its operand on a word boundary.
#[case(spec = "SA22-7832 7 LOAD RELATIVE LONG")]
fn lrl_wants_a_word_boundary() -> Verdict {
    // The instruction itself, four bytes into the buffer and two: its own first word, and half of
    // it.
    expect!(execute(&[0xc43d, 0, 0], registers([])).is_ok(), "aligned")?;
    expect_eq!(
        execute(&[0xc43d, 0, 1], registers([])).err(),
        Some(Fault::SPECIFICATION)
    )
}

/// DIVIDE LOGICAL wants an even register.
#[case(spec = "SA22-7832 7 DIVIDE LOGICAL")]
fn dlgr_wants_an_even_register() -> Verdict {
    let ran = execute(&[0xb987, 0x0042], registers([(2, 7), (4, 0), (5, 45)]))?;
    expect_eq!((ran.registers[4], ran.registers[5]), (3, 6))?;
    let odd = execute(&[0xb987, 0x0052], registers([(2, 7), (5, 0), (6, 45)]));
    expect_eq!(odd.err(), Some(Fault::SPECIFICATION))
}

/// COMPARE DOUBLE AND SWAP wants a quadword boundary.
#[case(spec = "SA22-7832 7 COMPARE DOUBLE AND SWAP")]
fn cdsg_wants_a_quadword_boundary() -> Verdict {
    let page = Frames::new(1);
    let cdsg = |at: u64| {
        let with = registers([(2, page.address() + at), (6, 1), (7, 2)]);
        execute(&[0xeb46, 0x2000, 0x003e], with).map(|ran| ran.cc)
    };
    expect_eq!(cdsg(8), Err(Fault::SPECIFICATION))?;
    expect_eq!(cdsg(16), Ok(0))?;
    expect_eq!((page.read::<u64>(16), page.read::<u64>(24)), (1, 2))
}

/// LOAD FPC refuses reserved bits and keeps the register; valid bits are loaded.
#[case(spec = "SA22-7832 9 LOAD FPC")]
fn reserved_fpc_bits_are_refused() -> Verdict {
    let page = Frames::new(1);
    let load = |value: u32| {
        page.write(0, value);
        execute(&[0xb29d, 0x2000], registers([(2, page.address())])).map(|_| ())
    };
    let read = || execute(&[0xb38c, 0x0030], registers([])).map(|ran| ran.registers[3] as u32);
    load(0x0000_0002)?;
    expect_eq!(load(0x0700_0000), Err(Fault::SPECIFICATION))?;
    expect_eq!(read(), Ok(2))?;
    expect_eq!(load(0xf800_0003), Ok(()))?;
    expect_eq!(read(), Ok(0xf800_0003))?;
    load(0)?;
    Ok(())
}
