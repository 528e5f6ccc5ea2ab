//! SET SYSTEM MASK, STORE THEN AND, STORE THEN OR: the first byte of the PSW.
//!
//! Spec: SA22-7832 10. They open and close interruption windows, so a hypervisor with something
//! pending wants to see them; what they store and leave must be exact all the same.

use guest_lib::arch::exec::{execute, registers};
use guest_lib::arch::registers::{Psw, psw_mask};
use guest_lib::memory::{Frames, total};
use guest_lib::prelude::*;

const SSM: u16 = 0x8000;
const STNSM: u16 = 0xac00;
const STOSM: u16 = 0xad00;
/// EPSW to registers 3 and 4.
const EPSW: [u16; 2] = [0xb98d, 0x0034];

fn byte_of(mask: u64) -> u8 {
    (mask >> 56) as u8
}

/// SSM with the current mask changes nothing but is executed.
#[case(spec = "SA22-7832 10 SET SYSTEM MASK")]
fn ssm_loads_the_mask() -> Verdict {
    let page = Frames::new(1);
    let current = byte_of(psw_mask());
    // I/O is enabled for one instruction; no I/O subclass is, so nothing can come.
    page.write(0, current | byte_of(Psw::IO.bits()));
    page.write(1, current);
    let code = [SSM, 0x2000, EPSW[0], EPSW[1], SSM, 0x2001];
    let ran = execute(&code, registers([(2, page.address())]))?;
    expect_eq!(
        (ran.registers[3] >> 24) as u8,
        current | byte_of(Psw::IO.bits())
    )?;
    expect_eq!(byte_of(psw_mask()), current)
}

/// SSM of a byte with a bit that must be zero is a specification exception.
#[case(spec = "SA22-7832 10 SET SYSTEM MASK", rows(bit0: 0x80, bit2: 0x20, bit3: 0x10, bit4: 0x08))]
fn ssm_refuses_unassigned_bits(bit: u8) -> Verdict {
    let page = Frames::new(1);
    let current = byte_of(psw_mask());
    page.write(0, bit | current);
    let refused = execute(&[SSM, 0x2000], registers([(2, page.address())]));
    page.write(0, current);
    let mended = execute(&[SSM, 0x2000], registers([(2, page.address())]));
    expect_eq!(refused.err(), Some(Fault::SPECIFICATION))?;
    expect!(mended.is_ok(), "mended")
}

/// STNSM stores the old mask byte and ANDs the immediate into the PSW.
#[case(spec = "SA22-7832 10 STORE THEN AND SYSTEM MASK")]
fn stnsm_stores_and_clears() -> Verdict {
    let page = Frames::new(1);
    let current = byte_of(psw_mask());
    let io = byte_of(Psw::IO.bits());
    page.write(8, current | io);
    let code = [
        SSM,
        0x2008,
        STNSM | u16::from(!io),
        0x2000,
        EPSW[0],
        EPSW[1],
        SSM,
        0x2009,
    ];
    page.write(9, current);
    let ran = execute(&code, registers([(2, page.address())]))?;
    expect_eq!(page.read::<u8>(0), current | io, "stored")?;
    expect_eq!(page.read::<u8>(1), 0, "one byte only")?;
    expect_eq!((ran.registers[3] >> 24) as u8, current, "in the PSW")
}

/// STOSM stores the old mask byte and ORs the immediate into the PSW.
#[case(spec = "SA22-7832 10 STORE THEN OR SYSTEM MASK")]
fn stosm_stores_and_sets() -> Verdict {
    let page = Frames::new(1);
    let current = byte_of(psw_mask());
    let io = byte_of(Psw::IO.bits());
    page.write(0, 0xffu8);
    page.write(9, current);
    let code = [STOSM | u16::from(io), 0x2000, EPSW[0], EPSW[1], SSM, 0x2009];
    let ran = execute(&code, registers([(2, page.address())]))?;
    expect_eq!(page.read::<u8>(0), current, "stored")?;
    expect_eq!((ran.registers[3] >> 24) as u8, current | io, "in the PSW")
}

/// STOSM that would set a bit that must be zero is a specification exception.
#[case(spec = "SA22-7832 10 STORE THEN OR SYSTEM MASK")]
fn stosm_refuses_unassigned_bits() -> Verdict {
    let page = Frames::new(1);
    page.write(8, byte_of(psw_mask()));
    let refused = execute(&[STOSM | 0x80, 0x2000], registers([(2, page.address())]));
    execute(&[SSM, 0x2008], registers([(2, page.address())]))?;
    expect_eq!(refused.err(), Some(Fault::SPECIFICATION))?;
    expect!(
        execute(&[STOSM, 0x2000], registers([(2, page.address())])).is_ok(),
        "mended"
    )
}

/// An operand beyond storage is an addressing exception, and the mask stays.
#[case(spec = "SA22-7832 6 Addressing Exception", rows(ssm: SSM, stnsm: STNSM, stosm: STOSM | 2))]
fn operand_beyond_storage_is_refused(instruction: u16) -> Verdict {
    let before = psw_mask() >> 56;
    let refused = execute(&[instruction, 0x2000], registers([(2, total())]));
    expect_eq!(refused.err(), Some(Fault::ADDRESSING))?;
    expect_eq!(psw_mask() >> 56, before)
}
