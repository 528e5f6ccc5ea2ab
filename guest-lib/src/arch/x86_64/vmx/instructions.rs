//! VMX instructions, with their three ways to fail as values. Spec: SDM 3C 31.2.

use super::vmcs::Field;
use crate::fault::{self, Fault};
use core::arch::asm;

/// Why a VMX instruction failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VmFail {
    /// CF: there is no current VMCS to hold an error number.
    Invalid,
    /// ZF: the error number in the current VMCS (SDM 3C 31.4).
    Valid(u32),
    /// An exception.
    Fault(Fault),
}

impl From<Fault> for VmFail {
    fn from(fault: Fault) -> Self {
        VmFail::Fault(fault)
    }
}

/// A failure that nobody expects fails the case.
impl From<VmFail> for crate::case::Stop {
    #[track_caller]
    fn from(fail: VmFail) -> Self {
        let text = alloc::format!("a VMX instruction fails: {fail:?}");
        crate::case::Failure::new(text).into()
    }
}

/// What a VMX instruction returns.
pub type VmResult<T = ()> = Result<T, VmFail>;

/// CF and ZF, as SETC and SETZ give them, to a result.
fn outcome(carry: u8, zero: u8) -> VmResult {
    match (carry, zero) {
        (0, 0) => Ok(()),
        (0, _) => Err(VmFail::Valid(instruction_error())),
        _ => Err(VmFail::Invalid),
    }
}

/// The VM-instruction error field; all ones when it cannot be read.
fn instruction_error() -> u32 {
    let (mut value, carry, zero): (u64, u8, u8);
    // SAFETY: only after an instruction that ended with VMfailValid, so a VMCS is current.
    unsafe {
        asm!("vmread {}, {}", "setc {}", "setz {}", out(reg) value,
            in(reg) u64::from(Field::INSTRUCTION_ERROR.0), out(reg_byte) carry,
            out(reg_byte) zero, options(nostack));
    }
    if carry | zero != 0 {
        value = u64::MAX;
    }
    value as u32
}

macro_rules! pointer_instructions {
    ($($(#[$doc:meta])* $name:ident $mnemonic:literal;)*) => {$(
        $(#[$doc])*
        pub fn $name(address: u64) -> VmResult {
            fault::catch(|| {
                let (carry, zero): (u8, u8);
                let operand = address;
                // SAFETY: S1; the region at `address` is the caller's.
                unsafe {
                    asm!(concat!($mnemonic, " qword ptr [{}]"), "setc {}", "setz {}",
                        in(reg) &raw const operand, out(reg_byte) carry, out(reg_byte) zero,
                        options(nostack));
                }
                outcome(carry, zero)
            })?
        }
    )*};
}

pointer_instructions! {
    /// VMXON with the region at `address`.
    vmxon "vmxon";
    /// VMCLEAR of the VMCS at `address`.
    vmclear "vmclear";
    /// VMPTRLD of the VMCS at `address`.
    vmptrld "vmptrld";
}

/// VMXOFF.
pub fn vmxoff() -> VmResult {
    fault::catch(|| {
        let (carry, zero): (u8, u8);
        // SAFETY: S1.
        unsafe {
            asm!("vmxoff", "setc {}", "setz {}", out(reg_byte) carry, out(reg_byte) zero,
                options(nostack));
        }
        outcome(carry, zero)
    })?
}

/// VMCALL outside a nested guest.
pub fn vmcall() -> VmResult {
    fault::catch(|| {
        let (carry, zero): (u8, u8);
        // SAFETY: S1; without dual-monitor treatment it only fails.
        unsafe {
            asm!("vmcall", "setc {}", "setz {}", out(reg_byte) carry, out(reg_byte) zero,
                options(nostack));
        }
        outcome(carry, zero)
    })?
}

/// VMPTRST: the address of the current VMCS, all ones without one.
pub fn vmptrst() -> VmResult<u64> {
    let mut value = 0x5a5a_5a5a_5a5a_5a5a;
    let target = &raw mut value;
    fault::catch(|| {
        let (carry, zero): (u8, u8);
        // SAFETY: writes 8 bytes to `value`.
        unsafe {
            asm!("vmptrst qword ptr [{}]", "setc {}", "setz {}", in(reg) target,
                out(reg_byte) carry, out(reg_byte) zero, options(nostack));
        }
        outcome(carry, zero)
    })??;
    Ok(value)
}

/// VMREAD of any encoding, 64 bits wide.
pub fn vmread_raw(encoding: u64) -> VmResult<u64> {
    fault::catch(|| {
        let (value, carry, zero): (u64, u8, u8);
        // SAFETY: changes a register and flags.
        unsafe {
            asm!("vmread {}, {}", "setc {}", "setz {}", out(reg) value, in(reg) encoding,
                out(reg_byte) carry, out(reg_byte) zero, options(nostack));
        }
        outcome(carry, zero).map(|()| value)
    })?
}

/// VMWRITE to any encoding, 64 bits wide.
pub fn vmwrite_raw(encoding: u64, value: u64) -> VmResult {
    fault::catch(|| {
        let (carry, zero): (u8, u8);
        // SAFETY: S1; what the field does is the case's business.
        unsafe {
            asm!("vmwrite {}, {}", "setc {}", "setz {}", in(reg) encoding, in(reg) value,
                out(reg_byte) carry, out(reg_byte) zero, options(nostack));
        }
        outcome(carry, zero)
    })?
}

/// VMREAD.
pub fn vmread(field: Field) -> VmResult<u64> {
    vmread_raw(u64::from(field.0))
}

/// VMWRITE.
pub fn vmwrite(field: Field, value: u64) -> VmResult {
    vmwrite_raw(u64::from(field.0), value)
}

macro_rules! invalidations {
    ($($(#[$doc:meta])* $name:ident $at:ident $mnemonic:literal;)*) => {$(
        $(#[$doc])*
        pub fn $name(kind: u64, descriptor: [u64; 2]) -> VmResult {
            $at(kind, &raw const descriptor as u64)
        }
        $(#[$doc])*
        /// The descriptor lies at a linear address.
        pub fn $at(kind: u64, address: u64) -> VmResult {
            fault::catch(|| {
                let (carry, zero): (u8, u8);
                // SAFETY: S1; translations are only forgotten.
                unsafe {
                    asm!(concat!($mnemonic, " {}, xmmword ptr [{}]"), "setc {}", "setz {}",
                        in(reg) kind, in(reg) address, out(reg_byte) carry,
                        out(reg_byte) zero, options(nostack));
                }
                outcome(carry, zero)
            })?
        }
    )*};
}

invalidations! {
    /// INVEPT of type `kind`.
    invept invept_at "invept";
    /// INVVPID of type `kind`.
    invvpid invvpid_at "invvpid";
}
