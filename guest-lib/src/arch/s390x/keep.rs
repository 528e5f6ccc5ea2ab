//! A processor that spins with a pattern in every register it has.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::arch::global_asm;
use core::sync::atomic::AtomicU64;

/// The word that keeps [`spin`] spinning: BRCTG counts it down to 1 and branches.
pub const GO_ON: u64 = 2;
/// The word that ends it: BRCTG counts it down to 0.
pub const STOP: u64 = 1;

/// Places in the buffer: r0, r4 to r14, r3, r2.
const NUMBERS: [u32; 14] = [0, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 3, 2];

unsafe extern "C" {
    fn assay_keep(word: *const AtomicU64, registers: *mut u64);
}

global_asm!(
    ".global assay_keep",
    "assay_keep:",
    // The caller's frame has room for r2 to r15 at 16.
    "stmg %r2, %r15, 16(%r15)",
    "lg %r0, 0(%r3)",
    "lmg %r4, %r14, 8(%r3)",
    "lg %r3, 96(%r3)",
    // Neither instruction changes the condition code.
    "1: lg %r1, 0(%r2)",
    "brctg %r1, 1b",
    "lgr %r1, %r3",
    "lg %r3, 24(%r15)",
    "stg %r0, 0(%r3)",
    "stmg %r4, %r14, 8(%r3)",
    "stg %r1, 96(%r3)",
    "stg %r2, 104(%r3)",
    "lmg %r6, %r15, 48(%r15)",
    "br %r14",
);

/// Loads every general register but r1, r2 (which read `word`) and r15 with a pattern made from
/// `seed`, spins until `word` says [`STOP`], and returns each register that changed: its name, what
/// it holds, what was loaded.
pub fn spin(word: &AtomicU64, seed: u64) -> Vec<(String, u64, u64)> {
    let mut loaded = [0u64; 14];
    for (i, value) in loaded.iter_mut().enumerate() {
        *value = seed.wrapping_mul(2 * i as u64 + 3).rotate_left(i as u32);
    }
    loaded[13] = word as *const AtomicU64 as u64;
    let mut found = loaded;
    // SAFETY: the function keeps what the ABI wants kept, and writes `found`.
    unsafe { assay_keep(word, found.as_mut_ptr()) };
    (0..14)
        .filter(|&i| found[i] != loaded[i])
        .map(|i| (format!("r{}", NUMBERS[i]), found[i], loaded[i]))
        .collect()
}
