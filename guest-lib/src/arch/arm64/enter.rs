//! Entering any state by an exception return.
//!
//! ERET is the only way into AArch32, into a level with a chosen stack pointer selection, or into a
//! PSTATE that no instruction can set. [`enter`] loads every register, returns to the state, and
//! comes back with the frame of the exception that ends it: code that is entered must end in one.

use super::fault::{self, Frame};
use super::{cpu, paging};
use core::arch::global_asm;
use core::mem::offset_of;

/// A state to enter.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// x0 to x30; in AArch32 r0 to r14 are the low halves of x0 to x14.
    pub x: [u64; 31],
    /// Where to go.
    pub pc: u64,
    /// PSTATE, unfiltered.
    pub spsr: u64,
    /// SP_EL0.
    pub sp_el0: u64,
    /// Translation table base.
    pub ttbr0: u64,
}

/// SPSR.M of AArch32 User mode.
pub const USER32: u64 = 0x10;
/// All of DAIF.
pub const MASKED: u64 = 0x3c0;

impl State {
    fn at(pc: u64, spsr: u64, ttbr0: u64) -> Self {
        let mut x = [0; 31];
        for (i, x) in x.iter_mut().enumerate() {
            *x = 0xa5a5_0000_1111_0000 | (i as u64) << 32 | i as u64;
        }
        State {
            x,
            pc,
            spsr,
            sp_el0: 0x5e1f_5e1f_0000,
            ttbr0,
        }
    }

    /// At the level of the runtime with its stack pointer, everything masked.
    pub fn here(pc: u64) -> Self {
        let spsr = MASKED | cpu::current_el() << 2 | 1;
        State::at(pc, spsr, paging::kernel_root())
    }

    /// At the level of the runtime with SP_EL0.
    pub fn here_sp0(pc: u64) -> Self {
        let spsr = MASKED | cpu::current_el() << 2;
        State::at(pc, spsr, paging::kernel_root())
    }

    /// At EL0 in AArch64, everything masked, under the user map.
    pub fn user(pc: u64) -> Self {
        State::at(pc, MASKED, paging::user_root())
    }

    /// At EL0 in AArch32, everything masked, under the user map.
    pub fn user32(pc: u64, thumb: bool) -> Self {
        let spsr = USER32 | 0x1c0 | u64::from(thumb) << 5;
        let mut state = State::at(pc, spsr, paging::user_root());
        for (i, x) in state.x.iter_mut().enumerate() {
            *x = 0x1111_0000 | i as u64;
        }
        state
    }
}

unsafe extern "C" {
    fn arm64_enter(state: *const State) -> !;
}

global_asm!(
    ".pushsection .text.arm64_enter, \"ax\"",
    ".global arm64_enter",
    "arm64_enter:",
    "msr daifset, #0xf",
    "ldr x1, [x0, #{ttbr0}]",
    "msr ttbr0_el1, x1",
    "isb",
    "ldr x1, [x0, #{pc}]",
    "msr elr_el1, x1",
    "ldr x1, [x0, #{spsr}]",
    "msr spsr_el1, x1",
    "ldr x1, [x0, #{sp_el0}]",
    "msr sp_el0, x1",
    "ldr x1, [x0, #8]",
    "ldp x2, x3, [x0, #16]",
    "ldp x4, x5, [x0, #32]",
    "ldp x6, x7, [x0, #48]",
    "ldp x8, x9, [x0, #64]",
    "ldp x10, x11, [x0, #80]",
    "ldp x12, x13, [x0, #96]",
    "ldp x14, x15, [x0, #112]",
    "ldp x16, x17, [x0, #128]",
    "ldp x18, x19, [x0, #144]",
    "ldp x20, x21, [x0, #160]",
    "ldp x22, x23, [x0, #176]",
    "ldp x24, x25, [x0, #192]",
    "ldp x26, x27, [x0, #208]",
    "ldp x28, x29, [x0, #224]",
    "ldr x30, [x0, #240]",
    "ldr x0, [x0]",
    "eret",
    ".popsection",
    ttbr0 = const offset_of!(State, ttbr0),
    pc = const offset_of!(State, pc),
    spsr = const offset_of!(State, spsr),
    sp_el0 = const offset_of!(State, sp_el0),
);

/// Enters `state` and returns the exception that ended it. A hook ([`fault::with_hook`]) sees it
/// first and may resume.
pub fn enter(state: &State) -> Frame {
    fault::forget();
    // SAFETY: S1, S5; the exception that ends the state brings back stack, masks and map; the state
    // and its code are the case's own business.
    let _ = fault::catch(|| unsafe { arm64_enter(state) });
    fault::details()
}
