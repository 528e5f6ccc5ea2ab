//! What code inside the guest may call.
//!
//! The guest runs in the payload's own address space, with its IDT and task: [`crate::fault::catch`]
//! works in there, and so do interrupt handlers. It must not take locks that the host may want while
//! it is stopped: no allocation, no printing.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

const SLOTS: usize = 16;
static TOLD: [AtomicU64; SLOTS] = [const { AtomicU64::new(0) }; SLOTS];

/// Leaves `value` for the host in `slot` (0 to 15).
pub fn tell(slot: usize, value: u64) {
    TOLD[slot].store(value, Ordering::SeqCst);
}

/// Adds 1 to `slot`.
pub fn count(slot: usize) {
    TOLD[slot].fetch_add(1, Ordering::SeqCst);
}

/// What the guest left in `slot`; 0 in a fresh guest.
pub fn told(slot: usize) -> u64 {
    TOLD[slot].load(Ordering::SeqCst)
}

pub(super) fn forget() {
    for slot in &TOLD {
        slot.store(0, Ordering::SeqCst);
    }
}

/// VMMCALL: 3 bytes. The host may change any general register before it goes on.
#[inline(always)]
pub fn vmmcall() {
    // SAFETY: an exit; the host keeps the registers unless the case changes them.
    unsafe { asm!("vmmcall", options(nostack)) };
}

macro_rules! instructions {
    ($($(#[$doc:meta])* $name:ident $text:literal;)*) => {$(
        $(#[$doc])*
        #[inline(always)]
        pub fn $name() {
            // SAFETY: S5; every register such an instruction could change is listed.
            unsafe {
                asm!($text, out("rax") _, out("rcx") _, out("rdx") _, options(nostack));
            }
        }
    )*};
}

instructions! {
    /// NOP.
    nop "nop";
    /// HLT.
    hlt "hlt";
    /// PAUSE.
    pause "pause";
    /// STI, and one instruction in its shadow.
    sti "sti; nop";
    /// CLI.
    cli "cli";
    /// STGI.
    stgi "stgi";
    /// CLGI.
    clgi "clgi";
    /// INT3.
    int3 "int3";
    /// UD2.
    ud2 "ud2";
}
