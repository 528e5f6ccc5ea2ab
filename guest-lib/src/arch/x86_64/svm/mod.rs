//! SVM: the machine's side of nested virtualization on AMD's architecture.
//!
//! [`Vmcb`] is the control block with every field typed and none filtered, [`NestedVm`] a valid
//! guest to spoil, [`Npt`] its nested page tables, [`l2`] what code inside the guest may call.
//! Spec: APM 2 15, Appendix B, Appendix C.

mod enter;
pub mod exit;
pub mod l2;
mod nested_vm;
mod npt;
mod vmcb;

pub use enter::Gprs;
pub(super) use enter::fix_up;
pub use exit::{Entry, ExitCode};
pub use nested_vm::{NestedVm, vmrun_from};
pub use npt::Npt;
pub use vmcb::{Field, Segment, Vmcb, field, int_ctl, intercept};

use super::{cpuid, msr, registers::Efer};
use crate::fault::{self, Fault};
use core::arch::asm;

/// Whether the machine meets a need whose word starts with `x86.svm`.
pub fn has(need: &str) -> bool {
    let bit = match need {
        "x86.svm" => return cpuid::has_svm() && !is_disabled(),
        "x86.svm.npt" => 0,
        "x86.svm.lbrv" => 1,
        "x86.svm.nrips" => 3,
        "x86.svm.tsc_ratio" => 4,
        "x86.svm.clean_bits" => 5,
        "x86.svm.flush_by_asid" => 6,
        "x86.svm.decode_assists" => 7,
        "x86.svm.pause_filter" => 10,
        "x86.svm.pause_threshold" => 12,
        "x86.svm.vgif" => 16,
        _ => return false,
    };
    has("x86.svm") && cpuid::svm_features() >> bit & 1 != 0
}

/// VM_CR bit 4: EFER.SVME cannot be set.
pub const VM_CR_SVMDIS: u64 = 1 << 4;

/// Whether the firmware keeps SVM off.
pub fn is_disabled() -> bool {
    msr::read(msr::VM_CR).is_ok_and(|vm_cr| vm_cr & VM_CR_SVMDIS != 0)
}

/// Sets EFER.SVME on this processor.
pub fn enable() -> Result<(), Fault> {
    (Efer::read() | Efer::SVME).write()
}

/// Clears EFER.SVME on this processor.
pub fn disable() -> Result<(), Fault> {
    (Efer::read() - Efer::SVME).write()
}

macro_rules! with_rax {
    ($($(#[$doc:meta])* $name:ident $text:literal;)*) => {$(
        $(#[$doc])*
        pub fn $name(address: u64) -> Result<(), Fault> {
            // SAFETY: S1; the state that moves is the case's.
            fault::catch(|| unsafe { asm!($text, in("rax") address, options(nostack)) })
        }
    )*};
}

with_rax! {
    /// VMLOAD with `address` in RAX.
    vmload "vmload rax";
    /// VMSAVE with `address` in RAX. The page is overwritten in part.
    vmsave "vmsave rax";
}

macro_rules! plain {
    ($($(#[$doc:meta])* $name:ident $text:literal;)*) => {$(
        $(#[$doc])*
        pub fn $name() -> Result<(), Fault> {
            // SAFETY: S1.
            fault::catch(|| unsafe { asm!($text, options(nostack)) })
        }
    )*};
}

plain! {
    /// STGI.
    stgi "stgi";
    /// CLGI.
    clgi "clgi";
    /// VMMCALL outside a guest.
    vmmcall "vmmcall";
}

/// INVLPGA of `address` in `asid`.
pub fn invlpga(address: u64, asid: u32) -> Result<(), Fault> {
    fault::catch(|| {
        // SAFETY: S1; translations are only forgotten.
        unsafe { asm!("invlpga rax, ecx", in("rax") address, in("ecx") asid, options(nostack)) }
    })
}
