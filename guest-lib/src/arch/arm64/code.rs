//! Instructions made at run time.
//!
//! A case about one instruction among hundreds (a register encoding, a form of a load) builds it as a
//! word, puts it into memory of its own and runs it. [`Code`] is such a piece; [`observed`]
//! runs up to eight words with every register set and shows every register afterwards.
//!
//! What the words do is the case's own responsibility: an instruction that writes the runtime's memory
//! can break the runtime, as any store of a case can.

use super::{cpu, probe};
use crate::memory::Frames;
use core::mem::transmute;

/// RET.
pub const RET: u32 = 0xd65f_03c0;
/// NOP.
pub const NOP: u32 = 0xd503_201f;
/// BRK #0: what unused code is filled with.
pub const BRK: u32 = 0xd420_0000;

/// SVC with immediate `imm`.
pub const fn svc(imm: u16) -> u32 {
    0xd400_0001 | (imm as u32) << 5
}

/// HVC with immediate `imm`.
pub const fn hvc(imm: u16) -> u32 {
    0xd400_0002 | (imm as u32) << 5
}

/// MOVZ of general register `rd`.
pub const fn movz(rd: u32, imm: u16) -> u32 {
    0xd280_0000 | (imm as u32) << 5 | rd
}

/// A system register by its encoding: op0, op1, CRn, CRm, op2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Register(pub u32, pub u32, pub u32, pub u32, pub u32);

impl Register {
    const fn bits(self) -> u32 {
        self.0 << 19 | self.1 << 16 | self.2 << 12 | self.3 << 8 | self.4 << 5
    }

    /// MRS to general register `rt`.
    pub const fn mrs(self, rt: u32) -> u32 {
        0xd520_0000 | self.bits() | rt
    }

    /// MSR from general register `rt`.
    pub const fn msr(self, rt: u32) -> u32 {
        0xd500_0000 | self.bits() | rt
    }

    /// ISS of a trapped access (class 0x18).
    pub const fn iss(self, rt: u32, read: bool) -> u64 {
        (self.0 << 20 | self.4 << 17 | self.1 << 14 | self.2 << 10 | rt << 5 | self.3 << 1) as u64
            | read as u64
    }

    /// Reads it, by an MRS of its own. An undefined register is a fault to catch.
    pub fn read(self) -> u64 {
        Code::new(&[self.mrs(0), RET]).run(0, 0)
    }

    /// Writes it, by an MSR of its own.
    pub fn write(self, value: u64) {
        Code::new(&[self.msr(0), RET]).run(value, 0);
    }
}

/// A page of instructions, executable at the level of the runtime and at EL0.
pub struct Code {
    frames: Frames,
}

impl Code {
    /// `words`, then BRKs.
    pub fn new(words: &[u32]) -> Self {
        let code = Code {
            frames: Frames::new(1),
        };
        for i in 0..code.frames.len() / 4 {
            code.frames.write(i * 4, *words.get(i).unwrap_or(&BRK));
        }
        cpu::sync_code(code.frames.address() as usize, code.frames.len());
        code
    }

    /// Where it lies.
    pub fn address(&self) -> u64 {
        self.frames.address()
    }

    /// The frame, to be changed without any maintenance.
    pub fn frame(&self) -> &Frames {
        &self.frames
    }

    /// Writes word `index` and makes it visible to all.
    pub fn patch(&self, index: usize, word: u32) {
        self.frames.write(index * 4, word);
        cpu::sync_code(self.frames.address() as usize + index * 4, 4);
    }

    /// Calls it as a function; it must end in RET.
    pub fn run(&self, x0: u64, x1: u64) -> u64 {
        // SAFETY: S1, S5; the words are instructions that every processor sees by now. What they do
        // is what the case asks for.
        let function = unsafe { transmute::<u64, extern "C" fn(u64, u64) -> u64>(self.address()) };
        function(x0, x1)
    }
}

/// At most eight words with every register set from `registers`; every register as it is afterwards.
/// `sp` of the result is the difference to the stack pointer before. The words must neither jump
/// nor leave the stack pointer changed.
pub fn observed(words: &[u32], registers: &probe::Registers) -> probe::Registers {
    assert!(words.len() <= 8, "{} words do not fit", words.len());
    let template = probe::observed_template();
    let mut text = alloc::vec::Vec::from(template);
    let slot = text
        .windows(8)
        .position(|w| w.iter().all(|&word| word == NOP))
        .expect("the template has eight NOPs");
    text[slot..slot + words.len()].copy_from_slice(words);
    let code = Code::new(&text);
    let mut all = *registers;
    // SAFETY: S1, S5; the template saves what Rust needs.
    let function =
        unsafe { transmute::<u64, extern "C" fn(*mut probe::Registers)>(code.address()) };
    function(&raw mut all);
    all
}

/// Makes words written at `address` visible to instruction fetch of this processor and the others, with
/// no more maintenance than CTR_EL0.{IDC, DIC} ask for. Works at EL0 too, where that is allowed.
pub fn publish(address: u64, length: u64) {
    publish_by(super::registers::CtrEl0::read(), address, length);
}

/// CTR_EL0, with IDC set also where CLIDR_EL1 says that data needs no clean for instruction fetch.
/// EL0 cannot read CLIDR_EL1.
pub fn least_maintenance() -> u64 {
    let clidr = super::registers::ClidrEl1::read();
    let (inner, coherency, unification) = (clidr >> 21 & 7, clidr >> 24 & 7, clidr >> 27 & 7);
    let clean = coherency == 0 || inner == 0 && unification == 0;
    super::registers::CtrEl0::read() | u64::from(clean) << 28
}

/// As [`publish`], with the maintenance that `cache_type` asks for in the format of CTR_EL0.
pub fn publish_by(cache_type: u64, address: u64, length: u64) {
    use core::arch::asm;
    let lines = |shift: u32| {
        let line = 4u64 << (cache_type >> shift & 0xf);
        (address & !(line - 1)..address + length).step_by(line as usize)
    };
    if cache_type >> 28 & 1 == 0 {
        for line in lines(16) {
            // SAFETY: S2, S5; a clean changes no data.
            unsafe { asm!("dc cvau, {}", in(reg) line, options(nostack, preserves_flags)) };
        }
    }
    // SAFETY: S5; a barrier.
    unsafe { asm!("dsb ish", options(nostack, preserves_flags)) };
    if cache_type >> 29 & 1 == 0 {
        for line in lines(0) {
            // SAFETY: S5; instruction caches hold copies only.
            unsafe { asm!("ic ivau, {}", in(reg) line, options(nostack, preserves_flags)) };
        }
        // SAFETY: S5; a barrier.
        unsafe { asm!("dsb ish", options(nostack, preserves_flags)) };
    }
    // SAFETY: S5; a barrier.
    unsafe { asm!("isb", options(nostack, preserves_flags)) };
}

/// Calls the function at `address`.
pub fn call(address: u64, x0: u64) -> u64 {
    // SAFETY: S1, S5; the case put instructions there that end in RET, or expects the fault.
    let function = unsafe { transmute::<u64, extern "C" fn(u64) -> u64>(address) };
    function(x0)
}

/// DC CISW of one set and way.
pub fn clean_set_way(operand: u64) {
    // SAFETY: S5; clean and invalidate loses no data.
    unsafe {
        core::arch::asm!("dc cisw, {}", in(reg) operand, options(nostack, preserves_flags));
    }
}
