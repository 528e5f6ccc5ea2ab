//! A processor that spins with a pattern in every register it has.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::arch::global_asm;
use core::sync::atomic::AtomicU64;

/// The word that keeps [`spin`] spinning.
pub const GO_ON: u64 = 0;
/// The word that ends it.
pub const STOP: u64 = 1;

/// Index of NZCV in the buffer; X0 to X30 stand before it.
const NZCV: usize = 31;
/// X16 holds the word that was read, X17 its address.
const SCRATCH: usize = 16;
const ADDRESS: usize = 17;

unsafe extern "C" {
    fn assay_keep(word: *const AtomicU64, registers: *mut u64);
}

global_asm!(
    ".global assay_keep",
    "assay_keep:",
    "stp x29, x30, [sp, #-112]!",
    "stp x19, x20, [sp, #16]",
    "stp x21, x22, [sp, #32]",
    "stp x23, x24, [sp, #48]",
    "stp x25, x26, [sp, #64]",
    "stp x27, x28, [sp, #80]",
    "stp x1, x18, [sp, #96]",
    "mov x17, x0",
    "ldr x0, [x1, #248]",
    "msr nzcv, x0",
    "ldp x2, x3, [x1, #16]",
    "ldp x4, x5, [x1, #32]",
    "ldp x6, x7, [x1, #48]",
    "ldp x8, x9, [x1, #64]",
    "ldp x10, x11, [x1, #80]",
    "ldp x12, x13, [x1, #96]",
    "ldp x14, x15, [x1, #112]",
    "ldp x18, x19, [x1, #144]",
    "ldp x20, x21, [x1, #160]",
    "ldp x22, x23, [x1, #176]",
    "ldp x24, x25, [x1, #192]",
    "ldp x26, x27, [x1, #208]",
    "ldp x28, x29, [x1, #224]",
    "ldr x30, [x1, #240]",
    "ldp x0, x1, [x1]",
    // CBZ reads no flag and changes none.
    "1: ldr x16, [x17]",
    "cbz x16, 1b",
    "ldr x16, [sp, #96]",
    "stp x0, x1, [x16]",
    "stp x2, x3, [x16, #16]",
    "stp x4, x5, [x16, #32]",
    "stp x6, x7, [x16, #48]",
    "stp x8, x9, [x16, #64]",
    "stp x10, x11, [x16, #80]",
    "stp x12, x13, [x16, #96]",
    "stp x14, x15, [x16, #112]",
    "str x17, [x16, #136]",
    "stp x18, x19, [x16, #144]",
    "stp x20, x21, [x16, #160]",
    "stp x22, x23, [x16, #176]",
    "stp x24, x25, [x16, #192]",
    "stp x26, x27, [x16, #208]",
    "stp x28, x29, [x16, #224]",
    "str x30, [x16, #240]",
    "mrs x0, nzcv",
    "str x0, [x16, #248]",
    "ldp x19, x20, [sp, #16]",
    "ldp x21, x22, [sp, #32]",
    "ldp x23, x24, [sp, #48]",
    "ldp x25, x26, [sp, #64]",
    "ldp x27, x28, [sp, #80]",
    "ldr x18, [sp, #104]",
    "ldp x29, x30, [sp], #112",
    "ret",
);

/// Loads every general register and flag with a pattern made from `seed`, spins until `word` says
/// [`STOP`], and returns each register that changed: its name, what it holds, what was loaded.
pub fn spin(word: &AtomicU64, seed: u64) -> Vec<(String, u64, u64)> {
    let mut loaded = [0u64; 32];
    for (i, value) in loaded.iter_mut().enumerate() {
        *value = seed.wrapping_mul(2 * i as u64 + 3).rotate_left(i as u32);
    }
    loaded[SCRATCH] = 0;
    loaded[ADDRESS] = word as *const AtomicU64 as u64;
    // N, C and V set, Z clear: no comparison leaves that.
    loaded[NZCV] = 0xb000_0000;
    let mut found = loaded;
    // SAFETY: the function keeps what the ABI wants kept, and writes `found`.
    unsafe { assay_keep(word, found.as_mut_ptr()) };
    let changed = |&i: &usize| i != SCRATCH && found[i] != loaded[i];
    let name = |i| match i {
        NZCV => String::from("nzcv"),
        i => format!("x{i}"),
    };
    (0..32)
        .filter(changed)
        .map(|i| (name(i), found[i], loaded[i]))
        .collect()
}
