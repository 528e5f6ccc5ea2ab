//! Self-hosted debug: breakpoints, watchpoints, software step, BRK.

use super::registers::{IdAa64dfr0El1, MdscrEl1, OslarEl1, field};
use crate::case::{Fixture, Stop};
use core::arch::asm;

/// MDSCR_EL1: software step.
pub const MDSCR_SS: u64 = 1 << 0;
/// MDSCR_EL1: debug exceptions within the same exception level.
pub const MDSCR_KDE: u64 = 1 << 13;
/// MDSCR_EL1: breakpoints and watchpoints.
pub const MDSCR_MDE: u64 = 1 << 15;

macro_rules! indexed {
    ($write:ident, $read:ident, $prefix:literal, $doc:literal) => {
        #[doc = concat!("Writes ", $doc, " number `n`.")]
        pub fn $write(n: usize, value: u64) {
            macro_rules! arm {
                        ($i:literal) => {
                            // SAFETY: S1, S5; debug registers of this processor.
                            unsafe {
                                asm!(
                                    concat!("msr ", $prefix, $i, "_el1, {}"), "isb", in(reg) value,
                                    options(nostack, preserves_flags),
                                )
                            }
                        };
                    }
            match n {
                0 => arm!("0"),
                1 => arm!("1"),
                2 => arm!("2"),
                3 => arm!("3"),
                4 => arm!("4"),
                5 => arm!("5"),
                6 => arm!("6"),
                7 => arm!("7"),
                8 => arm!("8"),
                9 => arm!("9"),
                10 => arm!("10"),
                11 => arm!("11"),
                12 => arm!("12"),
                13 => arm!("13"),
                14 => arm!("14"),
                _ => arm!("15"),
            }
        }

        #[doc = concat!("Reads ", $doc, " number `n`.")]
        pub fn $read(n: usize) -> u64 {
            let value: u64;
            macro_rules! arm {
                        ($i:literal) => {
                            // SAFETY: S1, S5; debug registers of this processor.
                            unsafe {
                                asm!(
                                    concat!("mrs {}, ", $prefix, $i, "_el1"), out(reg) value,
                                    options(nostack, preserves_flags),
                                )
                            }
                        };
                    }
            match n {
                0 => arm!("0"),
                1 => arm!("1"),
                2 => arm!("2"),
                3 => arm!("3"),
                4 => arm!("4"),
                5 => arm!("5"),
                6 => arm!("6"),
                7 => arm!("7"),
                8 => arm!("8"),
                9 => arm!("9"),
                10 => arm!("10"),
                11 => arm!("11"),
                12 => arm!("12"),
                13 => arm!("13"),
                14 => arm!("14"),
                _ => arm!("15"),
            }
            value
        }
    };
}

indexed!(set_breakpoint_value, breakpoint_value, "dbgbvr", "DBGBVR");
indexed!(
    set_breakpoint_control,
    breakpoint_control,
    "dbgbcr",
    "DBGBCR"
);
indexed!(set_watchpoint_value, watchpoint_value, "dbgwvr", "DBGWVR");
indexed!(
    set_watchpoint_control,
    watchpoint_control,
    "dbgwcr",
    "DBGWCR"
);

/// How many breakpoints there are.
pub fn breakpoints() -> usize {
    field(IdAa64dfr0El1::read(), 12) as usize + 1
}

/// How many watchpoints there are.
pub fn watchpoints() -> usize {
    field(IdAa64dfr0El1::read(), 20) as usize + 1
}

/// How many breakpoints can compare a context; they are the last ones.
pub fn context_breakpoints() -> usize {
    field(IdAa64dfr0El1::read(), 28) as usize + 1
}

/// This processor's debug state: locks open, everything off, at start and end.
pub struct Debug;

impl Fixture for Debug {
    fn fresh() -> Result<Self, Stop> {
        Debug.quiet();
        Ok(Debug)
    }
}

impl Drop for Debug {
    fn drop(&mut self) {
        self.quiet();
    }
}

impl Debug {
    fn quiet(&self) {
        super::interrupts::mask_debug();
        MdscrEl1::write(0);
        OslarEl1::write(0);
        for n in 0..breakpoints() {
            set_breakpoint_control(n, 0);
        }
        for n in 0..watchpoints() {
            set_watchpoint_control(n, 0);
        }
    }
}

/// DBGBCR for a breakpoint on an instruction at the level of the runtime: E, PMC, BAS.
pub fn breakpoint_here() -> u64 {
    // PMC = 0b01 is EL1; with HMC = 1 and SSC = 0b11, PMC 0b00 it is EL2 only.
    match super::cpu::current_el() {
        2 => 1 | 0xf << 5 | 1 << 13 | 3 << 14,
        _ => 1 | 1 << 1 | 0xf << 5,
    }
}

/// DBGWCR for a watchpoint on `bytes` (a mask of the eight at the address) for loads (1), stores
/// (2) or both (3), at the level of the runtime.
pub fn watchpoint_here(bytes: u64, accesses: u64) -> u64 {
    match super::cpu::current_el() {
        2 => 1 | accesses << 3 | bytes << 5 | 1 << 13 | 3 << 14,
        _ => 1 | 1 << 1 | accesses << 3 | bytes << 5,
    }
}
