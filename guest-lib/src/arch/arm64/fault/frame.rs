//! What an exception leaves: its syndrome, its vector, the interrupted state.

use crate::arch::arm64::boot;
use core::fmt;

/// The exception class of a syndrome (ESR bits 31:26).
pub mod ec {
    /// Undefined instruction, and all else without a class of its own.
    pub const UNKNOWN: u64 = 0x00;
    /// WFI, WFE.
    pub const WFX: u64 = 0x01;
    /// Floating point while CPACR_EL1 traps it.
    pub const FP: u64 = 0x07;
    /// Illegal execution state.
    pub const ILLEGAL_STATE: u64 = 0x0e;
    /// SVC from AArch32.
    pub const SVC32: u64 = 0x11;
    /// SVC from AArch64.
    pub const SVC64: u64 = 0x15;
    /// HVC from AArch64.
    pub const HVC64: u64 = 0x16;
    /// SMC from AArch64.
    pub const SMC64: u64 = 0x17;
    /// A trapped MRS, MSR or system instruction.
    pub const SYSTEM: u64 = 0x18;
    /// Instruction abort from a lower level.
    pub const INSTRUCTION_ABORT_LOWER: u64 = 0x20;
    /// Instruction abort from this level.
    pub const INSTRUCTION_ABORT: u64 = 0x21;
    /// Misaligned PC.
    pub const PC_ALIGNMENT: u64 = 0x22;
    /// Data abort from a lower level.
    pub const DATA_ABORT_LOWER: u64 = 0x24;
    /// Data abort from this level.
    pub const DATA_ABORT: u64 = 0x25;
    /// Misaligned SP.
    pub const SP_ALIGNMENT: u64 = 0x26;
    /// SError.
    pub const SERROR: u64 = 0x2f;
    /// Breakpoint from a lower level.
    pub const BREAKPOINT_LOWER: u64 = 0x30;
    /// Breakpoint from this level.
    pub const BREAKPOINT: u64 = 0x31;
    /// Software step from a lower level.
    pub const STEP_LOWER: u64 = 0x32;
    /// Software step from this level.
    pub const STEP: u64 = 0x33;
    /// Watchpoint from a lower level.
    pub const WATCHPOINT_LOWER: u64 = 0x34;
    /// Watchpoint from this level.
    pub const WATCHPOINT: u64 = 0x35;
    /// BKPT from AArch32.
    pub const BKPT32: u64 = 0x38;
    /// BRK from AArch64.
    pub const BRK64: u64 = 0x3c;
}

/// An exception: its syndrome, unfiltered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fault(pub u64);

impl Fault {
    /// What an undefined instruction gives: no class, no detail, a 32-bit instruction.
    pub const UNDEFINED: Fault = Fault::new(ec::UNKNOWN, 0);

    /// A fault of class `ec` with `iss`, by a 32-bit instruction (IL = 1).
    pub const fn new(ec: u64, iss: u64) -> Self {
        Fault(ec << 26 | 1 << 25 | iss)
    }

    /// SVC with immediate `imm`, from AArch64.
    pub const fn svc(imm: u16) -> Self {
        Fault::new(ec::SVC64, imm as u64)
    }

    /// Exception class.
    pub const fn ec(self) -> u64 {
        self.0 >> 26 & 0x3f
    }

    /// IL: the instruction has 32 bits, or the exception has no instruction.
    pub const fn il(self) -> bool {
        self.0 >> 25 & 1 != 0
    }

    /// Instruction specific syndrome.
    pub const fn iss(self) -> u64 {
        self.0 & 0x1ff_ffff
    }

    /// DFSC or IFSC of an abort.
    pub const fn status(self) -> u64 {
        self.0 & 0x3f
    }

    /// WnR of a data abort or watchpoint.
    pub const fn is_write(self) -> bool {
        self.0 >> 6 & 1 != 0
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "EC {:#04x}, IL {}, ISS {:#x}",
            self.ec(),
            u8::from(self.il()),
            self.iss()
        )
    }
}

/// Which vector took an exception: its offset from VBAR.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Vector(pub u64);

impl Vector {
    /// Synchronous, same level, SP_EL0.
    pub const SP0_SYNC: Vector = Vector(0x000);
    /// Synchronous, same level, SP_ELx.
    pub const SPX_SYNC: Vector = Vector(0x200);
    /// IRQ, same level, SP_ELx.
    pub const SPX_IRQ: Vector = Vector(0x280);
    /// FIQ, same level, SP_ELx.
    pub const SPX_FIQ: Vector = Vector(0x300);
    /// SError, same level, SP_ELx.
    pub const SPX_SERROR: Vector = Vector(0x380);
    /// Synchronous, lower level in AArch64.
    pub const LOWER64_SYNC: Vector = Vector(0x400);
    /// IRQ, lower level in AArch64.
    pub const LOWER64_IRQ: Vector = Vector(0x480);
    /// Synchronous, lower level in AArch32.
    pub const LOWER32_SYNC: Vector = Vector(0x600);
}

/// The interrupted state. A handler may change it; it is loaded again on return.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Frame {
    /// x0 to x30.
    pub x: [u64; 31],
    /// SP_ELx at the time of the exception. Changes are ignored.
    pub sp: u64,
    /// SP_EL0.
    pub sp_el0: u64,
    /// Return address.
    pub elr: u64,
    /// PSTATE.
    pub spsr: u64,
    /// Syndrome.
    pub esr: u64,
    /// Fault address.
    pub far: u64,
    /// Vector.
    pub vector: Vector,
    /// DAIF as the handler found it.
    pub daif: u64,
    /// Other PSTATE of the handler: CurrentEL | SPSel.
    pub level: u64,
}

impl Frame {
    /// The syndrome as a fault.
    pub fn fault(&self) -> Fault {
        Fault(self.esr)
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "ELR {:#x}, FAR {:#x}, SPSR {:#x}, vector {:#05x}",
            boot::link_address(self.elr as usize),
            self.far,
            self.spsr,
            self.vector.0
        )
    }
}
