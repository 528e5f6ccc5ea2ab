//! The processor itself: hints, barriers, PSTATE, backtraces.

use super::smp;
use core::arch::asm;

/// How many pauses there are between two looks at a device: some hundred microseconds on an
/// emulator.
pub(crate) const RELAXES_BETWEEN_POLLS: u32 = 50_000;

/// A pause in a spin loop.
#[inline(always)]
pub fn relax() {
    // SAFETY: S5; a hint.
    unsafe { asm!("yield", options(nomem, nostack, preserves_flags)) }
}

/// Wakes processors that wait for an event.
pub fn wake_others() {
    // SAFETY: S5; a barrier and a hint.
    unsafe { asm!("dsb ishst", "sev", options(nostack, preserves_flags)) }
}

/// WFI: waits until an interrupt is pending, masked or not. It may also return earlier.
pub fn wfi() {
    // SAFETY: S5; a barrier and a hint.
    unsafe { asm!("dsb sy", "wfi", options(nostack, preserves_flags)) }
}

/// WFE: waits for an event.
pub fn wfe() {
    // SAFETY: S5; a hint.
    unsafe { asm!("wfe", options(nostack, preserves_flags)) }
}

/// SEVL: sets this processor's own event register.
pub fn sevl() {
    // SAFETY: S5; a hint.
    unsafe { asm!("sevl", options(nostack, preserves_flags)) }
}

/// ISB.
pub fn isb() {
    // SAFETY: S5; a barrier.
    unsafe { asm!("isb", options(nostack, preserves_flags)) }
}

/// DSB SY.
pub fn dsb() {
    // SAFETY: S5; a barrier.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) }
}

/// The exception level this code runs at.
pub fn current_el() -> u64 {
    let value: u64;
    // SAFETY: S5; reads a register. At EL0 it is undefined and faults as a value.
    unsafe { asm!("mrs {}, CurrentEL", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value >> 2 & 3
}

/// The exception level at which the hypervisor entered the payload.
pub fn entry_el() -> u64 {
    super::boot::entry_el()
}

/// Writes the data cache back to the point of coherency for `length` bytes from `address`, so
/// that a processor whose MMU is off sees them.
pub fn clean_to_memory(address: usize, length: usize) {
    let mut line = address & !63;
    while line < address + length {
        // SAFETY: S2, S5; a clean changes no data. 64 bytes is no more than any line in use, and a
        // smaller line only costs further steps.
        unsafe { asm!("dc cvac, {}", in(reg) line, options(nostack, preserves_flags)) };
        line += super::registers::data_line().min(64);
    }
    dsb();
}

/// Makes freshly written instructions visible to this processor and all others, whatever
/// CTR_EL0.{IDC, DIC} would allow to leave out.
pub fn sync_code(address: usize, length: usize) {
    clean_to_memory(address, length);
    // SAFETY: S5; invalidates instruction caches.
    unsafe {
        asm!(
            "ic ialluis",
            "dsb ish",
            "isb",
            options(nostack, preserves_flags)
        )
    };
}

/// Calls `found` with the return addresses of the callers, nearest first.
pub fn backtrace(mut found: impl FnMut(usize)) {
    let mut frame: usize;
    // SAFETY: S5; reads the frame pointer, which -Cforce-frame-pointers keeps valid.
    unsafe { asm!("mov {}, x29", out(reg) frame, options(nomem, nostack, preserves_flags)) };
    backtrace_from(&mut frame, &mut found);
}

/// As [`backtrace`], from a frame pointer that an exception interrupted.
pub fn backtrace_from(frame: &mut usize, found: &mut dyn FnMut(usize)) {
    for _ in 0..24 {
        let Some([next, back]) = smp::stack_words(*frame) else {
            return;
        };
        if back == 0 {
            return;
        }
        // Link-time addresses, so that they fit the symbols of the ELF file.
        found(super::boot::link_address(back).wrapping_sub(4));
        if next <= *frame {
            return;
        }
        *frame = next;
    }
}
