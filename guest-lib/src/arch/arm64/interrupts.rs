//! Taking interrupts: PSTATE masks and handlers.
//!
//! Handlers belong to one processor and to one scope. A handler runs with interrupts masked, on the
//! exception stack; it must not lock or allocate.

use super::fault::{Frame, Kind, with_hook_of};
use core::arch::asm;

/// Masks debug exceptions, SError, IRQ and FIQ.
pub fn mask_all() {
    // SAFETY: S5; masks only.
    unsafe { asm!("msr daifset, #0xf", options(nostack, preserves_flags)) }
}

/// Opens IRQ.
pub fn unmask_irq() {
    // SAFETY: S5; a handler, or a report, answers what comes.
    unsafe { asm!("msr daifclr, #2", "isb", options(nostack, preserves_flags)) }
}

/// Masks IRQ.
pub fn mask_irq() {
    // SAFETY: S5; masks only.
    unsafe { asm!("msr daifset, #2", "isb", options(nostack, preserves_flags)) }
}

/// Waits in WFI until `done`, with interrupts open on the way in and out. The check stands under the
/// mask: an interrupt that comes just before WFI still ends it.
pub fn wfi_until(done: impl Fn() -> bool) {
    loop {
        mask_irq();
        if done() {
            unmask_irq();
            return;
        }
        super::cpu::wfi();
        unmask_irq();
    }
}

/// Opens FIQ.
pub fn unmask_fiq() {
    // SAFETY: S5; a handler, or a report, answers what comes.
    unsafe { asm!("msr daifclr, #1", "isb", options(nostack, preserves_flags)) }
}

/// Masks FIQ.
pub fn mask_fiq() {
    // SAFETY: S5; masks only.
    unsafe { asm!("msr daifset, #1", "isb", options(nostack, preserves_flags)) }
}

/// Opens debug exceptions.
pub fn unmask_debug() {
    // SAFETY: S5; a hook answers what comes.
    unsafe { asm!("msr daifclr, #8", "isb", options(nostack, preserves_flags)) }
}

/// Masks debug exceptions.
pub fn mask_debug() {
    // SAFETY: S5; masks only.
    unsafe { asm!("msr daifset, #8", "isb", options(nostack, preserves_flags)) }
}

/// Opens SError.
pub fn unmask_serror() {
    // SAFETY: S5; a pending SError is caught or reported.
    unsafe { asm!("msr daifclr, #4", "isb", options(nostack, preserves_flags)) }
}

/// Runs `body` with `handler` for this processor's IRQs. The mask is the body's own business, and
/// is put back afterwards.
pub fn with_irq_handler<T>(handler: &dyn Fn(&mut Frame), body: impl FnOnce() -> T) -> T {
    let daif = super::registers::Daif::read();
    let answer = |frame: &mut Frame| {
        handler(frame);
        true
    };
    let result = with_hook_of(Kind::Irq, &answer, || {
        let result = body();
        super::registers::Daif::write(daif);
        result
    });
    super::registers::Daif::write(daif);
    result
}

/// As [`with_irq_handler`], for FIQs.
pub fn with_fiq_handler<T>(handler: &dyn Fn(&mut Frame), body: impl FnOnce() -> T) -> T {
    let daif = super::registers::Daif::read();
    let answer = |frame: &mut Frame| {
        handler(frame);
        true
    };
    with_hook_of(Kind::Fiq, &answer, || {
        let result = body();
        super::registers::Daif::write(daif);
        result
    })
}
