//! Running a few AArch32 instructions at EL0. Spec: DDI0487 G1.13.
//!
//! Instructions are words of A32 or halfwords of T32, each with its mnemonic beside it.

use guest_lib::arch::code::Code;
use guest_lib::arch::enter::{State, enter};
use guest_lib::arch::fault::{Frame, Vector};
use guest_lib::prelude::*;

/// A piece of AArch32 code.
#[derive(Clone, Copy)]
pub enum Text {
    /// A32 instructions.
    Arm(&'static [u32]),
    /// T32 instructions, in halfwords.
    Thumb(&'static [u16]),
}

/// SVC #1, in A32.
pub const SVC_A32: u32 = 0xef00_0001;
/// SVC #1, in T32.
pub const SVC_T32: u16 = 0xdf01;

/// What a piece was entered with, and what ended it.
pub struct Ran {
    /// Where it lay.
    pub start: u64,
    /// The state before.
    pub state: State,
    /// The exception.
    pub frame: Frame,
}

impl Text {
    /// The code in memory below 4 GiB.
    pub fn code(self) -> Code {
        let words = match self {
            Text::Arm(words) => words.to_vec(),
            Text::Thumb(halves) => {
                let pair = |c: &[u16]| {
                    u32::from(c[0]) | u32::from(c.get(1).copied().unwrap_or(0xbf00)) << 16
                };
                halves.chunks(2).map(pair).collect()
            }
        };
        let code = Code::new(&words);
        assert!(
            code.address() < 1 << 32,
            "AArch32 code must lie below 4 GiB"
        );
        code
    }

    /// Whether it is T32.
    pub fn is_thumb(self) -> bool {
        matches!(self, Text::Thumb(_))
    }

    /// Runs it with r1 = `r1` and `flags` added to PSTATE.
    pub fn run(self, r1: u64, flags: u64) -> Ran {
        let code = self.code();
        let mut state = State::user32(code.address(), self.is_thumb());
        state.spsr |= flags;
        state.x[1] = r1;
        Ran {
            start: code.address(),
            state,
            frame: enter(&state),
        }
    }
}

impl Ran {
    /// The exception came from AArch32 at `offset`, with PSTATE and r2 to r14 as they were.
    pub fn expect_at(&self, offset: u64) -> Verdict {
        expect_eq!(self.frame.vector, Vector::LOWER32_SYNC, "the vector")?;
        expect_eq!(self.frame.elr, self.start + offset, "ELR")?;
        expect_eq!(self.frame.spsr, self.state.spsr, "SPSR")?;
        for i in 2..15 {
            expect_eq!(self.frame.x[i], self.state.x[i], "r{i}")?;
        }
        Ok(())
    }
}
