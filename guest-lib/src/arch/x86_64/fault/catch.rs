//! Closures that may fault, at privilege level 0 or 3.

use super::entry::{assay_catch, assay_user};
use super::{Fault, LAST, Recovery};
use crate::arch::x86_64::paging;
use crate::arch::x86_64::segments::{PER_CPU, this_cpu};
use core::mem::{ManuallyDrop, MaybeUninit};

struct Call<F, T> {
    f: ManuallyDrop<F>,
    result: MaybeUninit<T>,
}

extern "C" fn call<F: FnOnce() -> T, T>(data: *mut u8) {
    // SAFETY: `data` is the `Call` that `run` passes, and this runs once.
    unsafe {
        let call = &mut *data.cast::<Call<F, T>>();
        let f = ManuallyDrop::take(&mut call.f);
        call.result.write(f());
    }
}

/// Has `trampoline` call `f`: it gets what to call, with what, and the recovery slot of this processor.
/// It returns 0 when `f` ran to its end, and not 0 when a fault ended it.
fn run<F: FnOnce() -> T, T>(
    f: F,
    trampoline: impl FnOnce(extern "C" fn(*mut u8), *mut u8, *mut Recovery) -> u64,
) -> Result<T, Fault> {
    let mut state = Call {
        f: ManuallyDrop::new(f),
        result: MaybeUninit::<T>::uninit(),
    };
    let slot = PER_CPU[this_cpu()].recovery.get();
    let faulted = trampoline(call::<F, T>, (&raw mut state).cast(), slot);
    if faulted != 0 {
        return Err(LAST[this_cpu()].get());
    }
    // SAFETY: no fault, so `call` ran to its end and wrote the result.
    Ok(unsafe { state.result.assume_init() })
}

/// Runs `f` and returns its result, or the fault that ended it.
///
/// What `f` owned at the fault is leaked, not dropped. CR3 and RFLAGS are put back after a fault.
pub fn catch<T>(f: impl FnOnce() -> T) -> Result<T, Fault> {
    run(f, |entry, state, slot| {
        // SAFETY: `entry` fits `state`, which outlives the call; the slot is this processor's.
        unsafe { assay_catch(entry, state, slot) }
    })
}

/// Runs `f` at privilege level 3 and returns its result, or the fault that ended it.
///
/// All of memory is user memory while `f` runs; `f` must not allocate locks it shares, nor use
/// privileged instructions that it does not mean to fault on. IOPL is 0.
pub fn catch_user<T>(f: impl FnOnce() -> T) -> Result<T, Fault> {
    catch_user_with(paging::user_root(), f)
}

/// As [`catch_user`], with page tables at `cr3`.
pub fn catch_user_with<T>(cr3: u64, f: impl FnOnce() -> T) -> Result<T, Fault> {
    let stack = crate::memory::Frames::new(4);
    let top = stack.address() + stack.len() as u64;
    run(f, |entry, state, slot| {
        // SAFETY: `entry` fits `state`, which outlives the call; slot and TSS are this processor's;
        // the stack pointer leaves the alignment a `call` expects.
        unsafe {
            let rsp0 = (&raw mut (*PER_CPU[this_cpu()].tss.get()).rsp).cast::<u64>();
            assay_user(entry, state, slot, cr3, top, rsp0)
        }
    })
}
