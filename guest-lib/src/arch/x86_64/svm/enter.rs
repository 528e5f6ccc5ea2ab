//! The way into a guest and back, with all registers. Spec: APM 2 15.5, 15.6.

use crate::fault::{Fault, Frame};
use core::arch::global_asm;
use core::mem::offset_of;

/// The guest's registers that the VMCB does not hold.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the registers they hold")]
pub struct Gprs {
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
}

/// One entry: what it needs and what it leaves.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Run {
    pub(super) gprs: Gprs,
    /// RAX for VMRUN.
    pub(super) vmcb: u64,
    /// A page where VMSAVE keeps what belongs to the host.
    pub(super) host: u64,
    /// The host's flags around VMRUN.
    pub(super) rflags: u64,
}

unsafe extern "C" {
    fn assay_svm_enter(run: *mut Run) -> u64;
    static assay_svm_vmrun: u8;
    static assay_svm_faulted: u8;
}

const NO_FAULT: u64 = u64::MAX;

global_asm!(
    ".global assay_svm_enter, assay_svm_vmrun, assay_svm_faulted",
    "assay_svm_enter:",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "push rdi",
    "clgi",
    "mov rax, [rdi + {host}]",
    "vmsave rax",
    "mov rax, [rdi + {vmcb}]",
    "vmload rax",
    "push qword ptr [rdi + {rflags}]",
    "mov rbx, [rdi + {rbx}]",
    "mov rcx, [rdi + {rcx}]",
    "mov rdx, [rdi + {rdx}]",
    "mov rsi, [rdi + {rsi}]",
    "mov rbp, [rdi + {rbp}]",
    "mov r8, [rdi + {r8}]",
    "mov r9, [rdi + {r9}]",
    "mov r10, [rdi + {r10}]",
    "mov r11, [rdi + {r11}]",
    "mov r12, [rdi + {r12}]",
    "mov r13, [rdi + {r13}]",
    "mov r14, [rdi + {r14}]",
    "mov r15, [rdi + {r15}]",
    "mov rdi, [rdi + {rdi}]",
    "popfq",
    "assay_svm_vmrun:",
    "vmrun rax",
    // GIF is 0 and RAX is the host's again; the rest is the guest's.
    "xchg rdi, [rsp]",
    "mov [rdi + {rbx}], rbx",
    "mov [rdi + {rcx}], rcx",
    "mov [rdi + {rdx}], rdx",
    "mov [rdi + {rsi}], rsi",
    "mov [rdi + {rbp}], rbp",
    "mov [rdi + {r8}], r8",
    "mov [rdi + {r9}], r9",
    "mov [rdi + {r10}], r10",
    "mov [rdi + {r11}], r11",
    "mov [rdi + {r12}], r12",
    "mov [rdi + {r13}], r13",
    "mov [rdi + {r14}], r14",
    "mov [rdi + {r15}], r15",
    "pop rcx",
    "mov [rdi + {rdi}], rcx",
    "vmsave rax",
    "mov rax, [rdi + {host}]",
    "vmload rax",
    "mov rax, {no_fault}",
    "2:",
    // Interrupts that waited for GIF come here, if the host's flags let them.
    "stgi",
    "nop",
    "cli",
    "cld",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
    // The exception handler comes here, with the fault in RAX.
    "assay_svm_faulted:",
    "add rsp, 8",
    "jmp 2b",
    host = const offset_of!(Run, host),
    vmcb = const offset_of!(Run, vmcb),
    rflags = const offset_of!(Run, rflags),
    rbx = const offset_of!(Gprs, rbx),
    rcx = const offset_of!(Gprs, rcx),
    rdx = const offset_of!(Gprs, rdx),
    rsi = const offset_of!(Gprs, rsi),
    rdi = const offset_of!(Gprs, rdi),
    rbp = const offset_of!(Gprs, rbp),
    r8 = const offset_of!(Gprs, r8),
    r9 = const offset_of!(Gprs, r9),
    r10 = const offset_of!(Gprs, r10),
    r11 = const offset_of!(Gprs, r11),
    r12 = const offset_of!(Gprs, r12),
    r13 = const offset_of!(Gprs, r13),
    r14 = const offset_of!(Gprs, r14),
    r15 = const offset_of!(Gprs, r15),
    no_fault = const NO_FAULT as i64,
);

/// Enters the guest; `Err` is a fault of VMRUN itself.
///
/// # Safety
///
/// SVME is set, `run` names a VMCB whose guest keeps to memory that is its own, and a host page.
pub(super) unsafe fn enter(run: &mut Run) -> Result<(), Fault> {
    // SAFETY: the caller's.
    match unsafe { assay_svm_enter(run) } {
        NO_FAULT => Ok(()),
        fault => Err(Fault::new(fault as u8, (fault >> 8) as u32)),
    }
}

/// A fault of VMRUN is reported by the code around it, not by `catch`: what `catch` of this
/// processor would return to at that moment belongs to the guest. Says whether it was one.
pub(in super::super) fn fix_up(frame: &mut Frame) -> bool {
    let here = frame.vector < 32 && frame.rip == (&raw const assay_svm_vmrun) as u64;
    if here {
        frame.rax = frame.vector | frame.error << 8;
        frame.rip = (&raw const assay_svm_faulted) as u64;
        frame.rflags = 2;
    }
    here
}
