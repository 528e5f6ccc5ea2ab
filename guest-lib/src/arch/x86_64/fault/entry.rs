//! The way in and out in assembly: trampolines that can be recovered to, and a stub per vector.

use super::{Recovery, trap};
use crate::arch::x86_64::segments;
use core::arch::global_asm;

unsafe extern "C" {
    pub(super) fn assay_catch(f: extern "C" fn(*mut u8), data: *mut u8, slot: *mut Recovery)
    -> u64;
    pub(super) fn assay_user(
        f: extern "C" fn(*mut u8),
        data: *mut u8,
        slot: *mut Recovery,
        cr3: u64,
        stack: u64,
        rsp0: *mut u64,
    ) -> u64;
    pub(super) fn assay_recover();
    static assay_stubs: u8;
    pub(super) static assay_user_end: u8;
}

/// Bytes of a stub. All of them lie in one page.
pub const STUB_SIZE: usize = 16;

/// Where the stub of `vector` begins.
pub fn stub_address(vector: usize) -> u64 {
    (&raw const assay_stubs) as u64 + (vector * STUB_SIZE) as u64
}

global_asm!(
    ".global assay_catch, assay_user, assay_user_end, assay_recover, assay_stubs",
    ".macro ASSAY_SAVE_CONTEXT",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "pushfq",
    "mov rax, cr3",
    "push rax",
    "push qword ptr [rdx]",
    "push rdx",
    "mov [rdx], rsp",
    ".endm",
    "assay_catch:",
    "ASSAY_SAVE_CONTEXT",
    "sub rsp, 8",
    "mov rax, rdi",
    "mov rdi, rsi",
    "call rax",
    "add rsp, 8",
    "xor eax, eax",
    // No fault: CR3 and RFLAGS stay as the closure left them.
    "pop rdx",
    "pop qword ptr [rdx]",
    "add rsp, 16",
    "jmp 3f",
    // A fault, or the end of user code: EAX says which.
    "assay_recover:",
    "cld",
    "mov ecx, {data}",
    "mov ds, ecx",
    "mov es, ecx",
    "pop rdx",
    "pop qword ptr [rdx]",
    "pop rcx",
    "mov rdx, cr3",
    "cmp rdx, rcx",
    "je 2f",
    "mov cr3, rcx",
    "2:",
    "popfq",
    "3:",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
    // rdi f, rsi data, rdx slot, rcx cr3, r8 stack, r9 &tss.rsp0
    "assay_user:",
    "ASSAY_SAVE_CONTEXT",
    "mov [r9], rsp",
    "mov cr3, rcx",
    "push {user_data}",
    "push r8",
    "pushfq",
    "push {user_code}",
    "lea rax, [rip + assay_user_thunk]",
    "push rax",
    "mov r12, rdi",
    "mov rdi, rsi",
    "xor ebp, ebp",
    "iretq",
    "assay_user_thunk:",
    "call r12",
    // The end of user code: a fault at a known address, because some instruction emulators have
    // neither INT n nor SYSCALL.
    "assay_user_end:",
    "ud2",
    // One stub per vector, all of one size; those without an error code push a zero.
    ".balign 4096",
    "assay_stubs:",
    ".set assay_vector, 0",
    ".rept 256",
    ".balign 16",
    // ENDBR64: cases turn indirect-branch tracking on.
    ".byte 0xf3, 0x0f, 0x1e, 0xfa",
    ".if !(assay_vector == 8 || (assay_vector >= 10 && assay_vector <= 14) || assay_vector == 17 || assay_vector == 21 || assay_vector == 29 || assay_vector == 30)",
    "push 0",
    ".endif",
    "push assay_vector",
    "jmp assay_common",
    ".set assay_vector, assay_vector + 1",
    ".endr",
    "assay_common:",
    "push rax",
    "push rbx",
    "push rcx",
    "push rdx",
    "push rsi",
    "push rdi",
    "push rbp",
    "push r8",
    "push r9",
    "push r10",
    "push r11",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "cld",
    "mov rdi, rsp",
    // The frame is as aligned as the processor made it; Rust wants 16 bytes.
    "mov rbp, rsp",
    "and rsp, -16",
    "call {trap}",
    "mov rsp, rbp",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop r11",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rbp",
    "pop rdi",
    "pop rsi",
    "pop rdx",
    "pop rcx",
    "pop rbx",
    "pop rax",
    "add rsp, 16",
    "iretq",
    data = const segments::KERNEL_DATA,
    user_data = const segments::USER_DATA,
    user_code = const segments::USER_CODE,
    trap = sym trap,
);
