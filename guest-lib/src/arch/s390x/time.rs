//! The TOD clock: 4096 units a microsecond.

use core::arch::asm;

/// The TOD clock, as STORE CLOCK gives it. Two readings always differ.
pub fn ticks() -> u64 {
    let mut value = 0u64;
    // SAFETY: STCK stores eight bytes at `value`.
    unsafe { asm!("stck 0({p})", p = in(reg_addr) &raw mut value, options(nostack)) };
    value
}

/// Units a second, by the architecture.
pub fn ticks_per_second() -> u64 {
    4096 * 1_000_000
}
