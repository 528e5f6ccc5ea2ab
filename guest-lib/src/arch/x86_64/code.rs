//! Machine code as data: for instructions, prefixes and places that Rust cannot express.

use super::cpu;
use crate::fault::{self, Fault};
use crate::memory::Frames;
use core::arch::asm;

/// A few instructions in frames of their own, with a RET behind them.
///
/// The code is called: it may change RAX, RCX, RDX, RSI, RDI, R8 to R11 and the flags, and must
/// leave the rest as it was. RDI and RSI hold the two arguments, RAX the result.
#[derive(Debug)]
pub struct Code {
    frames: Frames,
}

impl Code {
    /// `bytes`, then RET.
    pub fn new(bytes: &[u8]) -> Self {
        let mut frames = Frames::new((bytes.len() + 1).div_ceil(crate::memory::FRAME));
        frames.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
        frames.bytes_mut()[bytes.len()] = 0xc3;
        Code { frames }
    }

    /// Where the first instruction stands.
    pub fn address(&self) -> u64 {
        self.frames.address()
    }

    /// The frames that hold the code.
    pub fn frames(&self) -> &Frames {
        &self.frames
    }

    /// Calls the code at the current privilege level and returns RAX.
    pub fn run(&self, rdi: u64, rsi: u64) -> Result<u64, Fault> {
        let target = self.address();
        fault::catch(move || jump(target, rdi, rsi))
    }

    /// Calls the code at privilege level 3 and returns RAX.
    pub fn run_user(&self, rdi: u64, rsi: u64) -> Result<u64, Fault> {
        let target = self.address();
        fault::catch_user(move || jump(target, rdi, rsi))
    }

    /// Calls code that keeps all registers but RAX, which is returned.
    pub fn call(&self) -> Result<u64, Fault> {
        cpu::call(self.address())
    }

    /// Calls 32-bit code in compatibility mode: it ends with RETF and keeps all registers but EAX,
    /// ECX, EDX.
    pub fn call_compat(&self, eax: u32) -> Result<u32, Fault> {
        cpu::call_compat(self.address(), eax)
    }
}

fn jump(target: u64, rdi: u64, rsi: u64) -> u64 {
    let result;
    // SAFETY: the case's code keeps the contract of `Code`, or faults.
    unsafe {
        asm!(
            "call {target}",
            target = in(reg) target,
            inout("rdi") rdi => _,
            inout("rsi") rsi => _,
            out("rax") result,
            clobber_abi("C"),
        );
    }
    result
}
