//! BRK. Spec: DDI0487 D2.7.
//!
//! BRK needs no enable and heeds no mask: it is an instruction that always traps, at its own address,
//! with its comment. Debuggers patch it into code by the thousands.

use crate::setup::{D, Place};
use guest_lib::arch::code::{self, Code};
use guest_lib::arch::debug::{Debug, MDSCR_KDE};
use guest_lib::arch::enter::enter;
use guest_lib::arch::fault::ec;
use guest_lib::arch::registers::{MdscrEl1, OslarEl1};
use guest_lib::prelude::*;

const fn brk(imm: u32) -> u32 {
    0xd420_0000 | imm << 5
}

/// BRK is taken at its own address with its comment field, whatever that is.
#[case(spec = "DDI0487 D2.7 BRK", rows(el1: Place::Here, el0: Place::User))]
fn brk_is_exact(_debug: &mut Debug, place: Place) -> Verdict {
    for imm in [0u32, 1, 0x5a5a, 0x8000, 0xffff] {
        let code = Code::new(&[code::NOP, brk(imm)]);
        let state = place.state(&code);
        let frame = enter(&state);
        expect_eq!(frame.fault(), Fault::new(ec::BRK64, u64::from(imm)))?;
        expect_eq!(frame.elr, code.address() + 4, "ELR")?;
        expect_eq!(frame.spsr, state.spsr, "SPSR")?;
        expect_eq!(&frame.x[..], &state.x[..], "the registers")?;
    }
    Ok(())
}

/// Neither PSTATE.D nor the OS lock nor MDSCR_EL1 holds BRK back.
#[case(spec = "DDI0487 D2.7 BRK")]
fn nothing_masks_brk(_debug: &mut Debug) -> Verdict {
    let code = Code::new(&[brk(7)]);
    for place in [Place::Here, Place::User] {
        for (mask, lock, mdscr) in [(D, 0, 0), (0, 1, 0), (0, 0, MDSCR_KDE), (D, 1, MDSCR_KDE)] {
            let mut state = place.state(&code);
            state.spsr |= mask;
            MdscrEl1::write(mdscr);
            OslarEl1::write(lock);
            let frame = enter(&state);
            OslarEl1::write(0);
            MdscrEl1::write(0);
            expect_eq!(
                frame.fault(),
                Fault::new(ec::BRK64, 7),
                "mask {mask:#x}, lock {lock}"
            )?;
        }
    }
    Ok(())
}

/// A patched BRK that is taken out again leaves the instruction as it was.
#[case(spec = "DDI0487 D2.7 BRK")]
fn patched_code_goes_on(_debug: &mut Debug) -> Verdict {
    let code = Code::new(&[code::movz(0, 1), code::movz(0, 2), code::svc(1)]);
    for place in [Place::Here, Place::User] {
        code.patch(1, brk(3));
        let mut state = place.state(&code);
        let frame = enter(&state);
        expect_eq!(frame.fault(), Fault::new(ec::BRK64, 3))?;
        expect_eq!(frame.x[0], 1)?;
        code.patch(1, code::movz(0, 2));
        state.pc = frame.elr;
        let frame = enter(&state);
        expect_eq!(frame.fault(), Fault::svc(1))?;
        expect_eq!(frame.x[0], 2)?;
    }
    Ok(())
}
