//! The three places from which an exception can come: the level of the runtime with either stack
//! pointer, and EL0. Spec: DDI0487 D1.4 (vectors and saved state).

use guest_lib::arch::code::Code;
use guest_lib::arch::enter::{State, enter};
use guest_lib::arch::fault::{Frame, Vector};
use guest_lib::prelude::*;

/// Where code runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The level of the runtime, SP_ELx.
    Here,
    /// The level of the runtime, SP_EL0.
    HereSp0,
    /// EL0.
    User,
}

impl Level {
    /// A state there that runs `code`, with flags set so that their loss shows.
    pub fn state(self, code: &Code) -> State {
        let mut state = match self {
            Level::Here => State::here(code.address()),
            Level::HereSp0 => State::here_sp0(code.address()),
            Level::User => State::user(code.address()),
        };
        state.spsr |= 0xa000_0000;
        state
    }

    /// The vector of its synchronous exceptions.
    pub fn vector(self) -> Vector {
        match self {
            Level::Here => Vector::SPX_SYNC,
            Level::HereSp0 => Vector::SP0_SYNC,
            Level::User => Vector::LOWER64_SYNC,
        }
    }

    /// The class of an abort from there, of which `lower` is the one from a lower level.
    pub fn class(self, lower: u64) -> u64 {
        lower + u64::from(self != Level::User)
    }
}

/// What every exception must show, beyond its syndrome: the vector, the return address, the PSTATE that
/// was interrupted, and every register as it was.
pub fn expect_frame(frame: &Frame, level: Level, state: &State, elr: u64) -> Verdict {
    expect_eq!(frame.vector, level.vector(), "the vector")?;
    expect_eq!(frame.elr, elr, "ELR")?;
    expect_eq!(frame.spsr, state.spsr, "SPSR")?;
    for (i, (got, expected)) in frame.x.iter().zip(&state.x).enumerate() {
        expect_eq!(got, expected, "x{i}")?;
    }
    expect_eq!(frame.sp_el0, state.sp_el0, "SP_EL0")
}

/// Enters `state` and expects exactly `fault` at `elr`.
pub fn expect_exact(state: &State, level: Level, fault: Fault, elr: u64) -> Verdict {
    let frame = enter(state);
    expect_eq!(frame.fault(), fault, "ESR")?;
    expect_frame(&frame, level, state, elr)
}
