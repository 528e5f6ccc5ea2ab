//! Calls, breakpoints and undefined instructions. Spec: DDI0487 G1.13, D1.4.
//!
//! The return address depends on the size of the instruction: two or four bytes behind a call, exactly at
//! a fault. IL says which size it was, where the class leaves that open. Vector 0x600 and SPSR.M =
//! 0b10000 tell where it came from, SPSR.T which instruction set.

use crate::run::{SVC_A32, SVC_T32, Text};
use guest_lib::arch::fault::{Vector, ec};
use guest_lib::arch::registers::SctlrEl1;
use guest_lib::prelude::*;

/// A fault of class `ec` by an instruction of 16 bits.
fn short(ec: u64, iss: u64) -> Fault {
    Fault(ec << 26 | iss)
}

/// SVC arrives with its immediate, its size and the address behind it.
#[case(
    spec = "DDI0487 G1.13 SVC",
    needs("arm64.aarch32_el0"),
    rows(
        // svc #0x1234
        a32: (Text::Arm(&[0xef00_1234]), Fault::new(ec::SVC32, 0x1234), 4),
        // nop; svc #0x56
        t32: (Text::Thumb(&[0xbf00, 0xdf56]), short(ec::SVC32, 0x56), 4),
        // svc #0xff, two bytes long
        t32_first: (Text::Thumb(&[0xdfff]), short(ec::SVC32, 0xff), 2)
    )
)]
fn svc_is_exact(row: (Text, Fault, u64)) -> Verdict {
    let (text, fault, offset) = row;
    let ran = text.run(0, 0xa000_0000);
    expect_eq!(ran.frame.fault(), fault)?;
    ran.expect_at(offset)
}

/// An undefined instruction arrives at its own address with class 0 and IL set, whatever its size.
#[case(
    spec = "DDI0487 G1.13 UDF",
    needs("arm64.aarch32_el0"),
    rows(
        // nop; udf #0
        a32: (Text::Arm(&[0xe320_f000, 0xe7f0_00f0]), 4),
        // nop; udf #0
        t32: (Text::Thumb(&[0xbf00, 0xde00]), 2),
        // nop; udf.w #0
        t32_wide: (Text::Thumb(&[0xbf00, 0xf7f0, 0xa000]), 2)
    )
)]
fn undefined_instruction_is_exact(row: (Text, u64)) -> Verdict {
    let (text, offset) = row;
    let ran = text.run(0, 0x6000_0000);
    expect_eq!(ran.frame.fault(), Fault::UNDEFINED)?;
    ran.expect_at(offset)
}

/// BKPT arrives with its comment at its own address.
#[case(
    spec = "DDI0487 D2.7 BKPT",
    needs("arm64.aarch32_el0"),
    rows(
        // bkpt #0x5a5a
        a32: (Text::Arm(&[0xe125_a57a]), Fault::new(ec::BKPT32, 0x5a5a)),
        // bkpt #0x5a
        t32: (Text::Thumb(&[0xbe5a]), short(ec::BKPT32, 0x5a))
    )
)]
fn bkpt_is_exact(row: (Text, Fault)) -> Verdict {
    let (text, fault) = row;
    let ran = text.run(0, 0);
    expect_eq!(ran.frame.fault(), fault)?;
    ran.expect_at(0)
}

/// Only the low halves of registers exist: what AArch32 writes comes back zero-extended.
#[case(spec = "DDI0487 G1.13", needs("arm64.aarch32_el0"))]
fn registers_are_low_halves() -> Verdict {
    // mvn r0, #0; add r1, r1, #1; svc #1
    let text = Text::Arm(&[0xe3e0_0000, 0xe281_1001, SVC_A32]);
    let ran = text.run(0xffff_ffff, 0);
    expect_eq!(ran.frame.x[0], 0xffff_ffff, "r0")?;
    expect_eq!(ran.frame.x[1], 0, "r1, wrapped")?;
    ran.expect_at(12)
}

/// BX changes the instruction set, and SPSR.T follows.
#[case(spec = "DDI0487 G1.13 BX", needs("arm64.aarch32_el0"))]
fn interworking_shows_in_spsr() -> Verdict {
    // A32: add r0, pc, #1; bx r0; T32: svc #1
    let text = Text::Arm(&[0xe28f_0001, 0xe12f_ff10, 0xbf00_0000 | SVC_T32 as u32]);
    let ran = text.run(0, 0);
    expect_eq!(ran.frame.fault(), short(ec::SVC32, 1))?;
    expect_eq!(ran.frame.elr, ran.start + 10)?;
    expect_eq!(ran.frame.spsr, ran.state.spsr | 1 << 5, "SPSR")
}

/// A hundred calls that return leave every register and the flags as they were.
#[case(spec = "DDI0487 G1.13", needs("arm64.aarch32_el0"))]
fn calls_return() -> Verdict {
    // l: svc #2; subs r1, r1, #1; bne l; svc #1
    let text = Text::Arm(&[0xef00_0002, 0xe251_1001, 0x1aff_fffc, SVC_A32]);
    let calls = core::sync::atomic::AtomicU64::new(0);
    let ran = fault::with_hook(
        |frame| {
            let more =
                frame.fault() == Fault::new(ec::SVC32, 2) && frame.vector == Vector::LOWER32_SYNC;
            calls.fetch_add(u64::from(more), core::sync::atomic::Ordering::Relaxed);
            more
        },
        || text.run(100, 0),
    );
    expect_eq!(calls.into_inner(), 100)?;
    expect_eq!(ran.frame.fault(), Fault::new(ec::SVC32, 1))?;
    expect_eq!(ran.frame.x[1], 0)?;
    // Z and C, from the last subtraction.
    expect_eq!(ran.frame.spsr, ran.state.spsr | 0x6000_0000, "SPSR")
}

/// A return to a privileged AArch32 mode is illegal while EL1 is AArch64.
#[case(
    spec = "DDI0487 D1.4 ERET",
    needs("arm64.aarch32_el0"),
    rows(svc_mode: 0x13, undefined_mode: 0x1b, system_mode: 0x1f)
)]
fn privileged_modes_are_illegal(mode: u64) -> Verdict {
    use guest_lib::arch::enter::{State, enter};
    let code = Text::Arm(&[SVC_A32]).code();
    let mut state = State::user32(code.address(), false);
    expect_eq!(enter(&state).fault(), Fault::new(ec::SVC32, 1))?;
    state.ttbr0 = State::here(0).ttbr0;
    state.spsr = state.spsr & !0x1f | mode;
    let frame = enter(&state);
    expect_eq!(frame.fault(), Fault::new(ec::ILLEGAL_STATE, 0))?;
    expect_eq!(frame.elr, code.address())?;
    expect_eq!(frame.vector, Vector::SPX_SYNC)
}

/// SCTLR_EL1 decides whether SETEND and the CP15 barriers exist at EL0.
#[case(
    spec = "DDI0487 D24.2 SCTLR_EL1",
    needs("arm64.aarch32_el0"),
    rows(
        // SED: setend le; svc #1
        setend: (8, true, Text::Arm(&[0xf101_0000, SVC_A32])),
        // CP15BEN: mcr p15, 0, r0, c7, c10, 5; svc #1
        cp15_barrier: (5, false, Text::Arm(&[0xee07_0fba, SVC_A32]))
    )
)]
fn deprecated_instructions_can_be_closed(row: (u32, bool, Text)) -> Verdict {
    let (bit, closes, text) = row;
    let before = SctlrEl1::read();
    let with = |on: bool| {
        SctlrEl1::write(before & !(1 << bit) | u64::from(on) << bit);
        // Both bits may be RES1 or RAO where the instruction is gone.
        let taken = SctlrEl1::read() >> bit & 1 == u64::from(on);
        let ran = text.run(0, 0);
        SctlrEl1::write(before);
        (ran, taken)
    };
    let (open, open_taken) = with(!closes);
    let (closed, closed_taken) = with(closes);
    if closed_taken {
        expect_eq!(closed.frame.fault(), Fault::UNDEFINED, "closed")?;
        closed.expect_at(0)?;
    }
    if open_taken {
        expect_eq!(open.frame.fault(), Fault::new(ec::SVC32, 1), "open")?;
    }
    expect!(
        open_taken || closed_taken,
        "SCTLR_EL1 bit {bit} is neither 0 nor 1"
    )
}
