//! Where debugged code runs, and how the registers name that place. Spec: DDI0487 D2.3.

use guest_lib::arch::code::Code;
use guest_lib::arch::debug::{MDSCR_KDE, MDSCR_MDE, breakpoint_here, watchpoint_here};
use guest_lib::arch::enter::State;
use guest_lib::arch::registers::MdscrEl1;
use guest_lib::prelude::*;

/// Breakpoints and watchpoints, also at the level of the runtime.
pub const ALL: u64 = MDSCR_KDE | MDSCR_MDE;
/// Syndrome of every debug exception but BRK: the status says so.
pub const DEBUG: u64 = 0x22;
/// PSTATE.D.
pub const D: u64 = 1 << 9;

/// Where debugged code runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The level of the runtime.
    Here,
    /// EL0.
    User,
}

impl Place {
    /// A state there that runs `code`, debug exceptions open.
    pub fn state(self, code: &Code) -> State {
        let mut state = match self {
            Place::Here => State::here(code.address()),
            Place::User => State::user(code.address()),
        };
        state.spsr &= !D;
        state
    }

    /// DBGBCR of a breakpoint there.
    pub fn breakpoint(self) -> u64 {
        match self {
            Place::Here => breakpoint_here(),
            Place::User => 1 | 2 << 1 | 0xf << 5,
        }
    }

    /// DBGWCR of a watchpoint there.
    pub fn watchpoint(self, bytes: u64, accesses: u64) -> u64 {
        match self {
            Place::Here => watchpoint_here(bytes, accesses),
            Place::User => 1 | 2 << 1 | accesses << 3 | bytes << 5,
        }
    }

    /// The class of a debug exception from there, of which `lower` is that from a lower level.
    pub fn class(self, lower: u64) -> u64 {
        lower + u64::from(self == Place::Here)
    }
}

/// Turns the exceptions on.
pub fn enable(bits: u64) {
    MdscrEl1::write(bits);
}

/// The exception came from `state` at `elr`.
pub fn expect_from(frame: &fault::Frame, state: &State, elr: u64) -> Verdict {
    expect_eq!(frame.elr, elr, "ELR")?;
    expect_eq!(
        frame.spsr & !(1 << 21),
        state.spsr & !(1 << 21),
        "SPSR without SS"
    )
}
