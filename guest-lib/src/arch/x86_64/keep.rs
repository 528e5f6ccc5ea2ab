//! A processor that spins with a pattern in every register it has.

use alloc::vec::Vec;
use core::arch::global_asm;
use core::sync::atomic::AtomicU64;

/// The word that keeps [`spin`] spinning.
pub const GO_ON: u64 = 0;
/// The word that ends it.
pub const STOP: u64 = 1;

const NAMES: [&str; 15] = [
    "rax", "rbx", "rdx", "rsi", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
    "flags", "rdi",
];
/// Index of the flags: CF, PF, AF, ZF, SF, DF and OF are all set, and bit 1 always is.
const FLAGS: usize = 13;
const ALL_FLAGS: u64 = 0xcd7;

unsafe extern "C" {
    fn assay_keep(word: *const AtomicU64, registers: *mut u64);
}

global_asm!(
    ".global assay_keep",
    "assay_keep:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "pushfq",
    "push rsi",
    "mov rax, [rsi]",
    "mov rbx, [rsi + 8]",
    "mov rdx, [rsi + 16]",
    "mov rbp, [rsi + 32]",
    "mov r8, [rsi + 40]",
    "mov r9, [rsi + 48]",
    "mov r10, [rsi + 56]",
    "mov r11, [rsi + 64]",
    "mov r12, [rsi + 72]",
    "mov r13, [rsi + 80]",
    "mov r14, [rsi + 88]",
    "mov r15, [rsi + 96]",
    "push [rsi + 104]",
    "popfq",
    "mov rsi, [rsi + 24]",
    // JRCXZ reads no flag and changes none.
    "1:",
    "mov rcx, [rdi]",
    "jrcxz 1b",
    // MOV, LEA and POP leave the flags alone.
    "mov rcx, rsi",
    "mov rsi, [rsp]",
    "mov [rsi + 24], rcx",
    "pushfq",
    "pop [rsi + 104]",
    "mov [rsi], rax",
    "mov [rsi + 8], rbx",
    "mov [rsi + 16], rdx",
    "mov [rsi + 32], rbp",
    "mov [rsi + 40], r8",
    "mov [rsi + 48], r9",
    "mov [rsi + 56], r10",
    "mov [rsi + 64], r11",
    "mov [rsi + 72], r12",
    "mov [rsi + 80], r13",
    "mov [rsi + 88], r14",
    "mov [rsi + 96], r15",
    "mov [rsi + 112], rdi",
    "pop rsi",
    "popfq",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
);

/// Loads every general register and flag with a pattern made from `seed`, spins until `word` says
/// [`STOP`], and returns each register that changed: its name, what it holds, what was loaded.
/// Interrupts are off.
pub fn spin(word: &AtomicU64, seed: u64) -> Vec<(&'static str, u64, u64)> {
    let mut loaded = [0u64; 15];
    for (i, value) in loaded.iter_mut().enumerate() {
        *value = seed
            .wrapping_mul(2 * i as u64 + 3)
            .rotate_left(i as u32 * 4);
    }
    loaded[FLAGS] = ALL_FLAGS;
    loaded[14] = word as *const AtomicU64 as u64;
    let mut found = loaded;
    super::cpu::disable_interrupts();
    // SAFETY: the function keeps what the ABI wants kept, and writes `found`.
    unsafe { assay_keep(word, found.as_mut_ptr()) };
    let all = NAMES.into_iter().zip(found).zip(loaded);
    all.filter(|((_, f), l)| f != l)
        .map(|((n, f), l)| (n, f, l))
        .collect()
}
