//! Faults as values.
//!
//! [`catch`] runs a closure and returns what it returns, or the exact exception it ran into. The
//! vectors save every register in a [`Frame`] on a stack of their own; a fault inside `catch` is
//! answered by going back to where `catch` began, as if it had returned once more. What the closure
//! had on its stack is forgotten, not dropped.
//!
//! An exception that nobody catches ends the run with its registers and a backtrace.
//!
//! Before that, a hook ([`with_hook`]) may look at an exception, change the frame and resume: that
//! is how single steps, breakpoints and interrupts ([`super::interrupts`]) are handled.

mod frame;
mod vectors;

pub use frame::{Fault, Frame, Vector, ec};

use super::registers::{EsrEl1, FarEl1};
use super::{boot, cpu, paging, smp};
use crate::memory::Frames;
use crate::runner;
use assay_protocol::line;
use core::arch::asm;
use core::cell::{Cell, UnsafeCell};
use core::mem::MaybeUninit;

/// Where a caught fault goes on. The assembly below knows the layout.
#[repr(C)]
struct Recovery {
    /// x19 to x30 and sp at the call of `catch`.
    saved: [u64; 13],
    daif: u64,
    ttbr0: u64,
    depth: u64,
    outer: *const Recovery,
    hooks: [Option<Hook>; 3],
}

type Hook = *const (dyn Fn(&mut Frame) -> bool + 'static);

/// Which exceptions a hook sees.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Sync = 0,
    Irq = 1,
    Fiq = 2,
}

/// What one processor keeps about faults.
pub(super) struct PerCpuFault {
    recovery: Cell<*const Recovery>,
    hooks: Cell<[Option<Hook>; 3]>,
    last: UnsafeCell<Frame>,
}

impl PerCpuFault {
    pub(super) const fn new() -> Self {
        // SAFETY: a frame is integers.
        let last = UnsafeCell::new(unsafe { MaybeUninit::zeroed().assume_init() });
        PerCpuFault {
            recovery: Cell::new(core::ptr::null()),
            hooks: Cell::new([None; 3]),
            last,
        }
    }

    pub(super) fn reset(&self) {
        self.recovery.set(core::ptr::null());
        self.hooks.set([None; 3]);
    }
}

unsafe extern "C" {
    /// Runs `body(argument)`; 0, or 1 when a fault ended it.
    fn arm64_try(recovery: *mut u8, body: extern "C" fn(*mut u8), argument: *mut u8) -> u64;
    /// As `arm64_try`, at EL0 on `stack` with PSTATE `spsr` and translation `ttbr0`.
    fn arm64_try_user(
        recovery: *mut u8,
        body: extern "C" fn(*mut u8),
        argument: *mut u8,
        stack: u64,
        spsr: u64,
        ttbr0: u64,
    ) -> u64;
    fn arm64_resume();
    fn arm64_user_end();
    fn arm64_user_begin();
}

/// Boot processor only, before anything else.
pub(super) fn init_boot_cpu() {
    let own = smp::per_cpu();
    // The stacks are statics; only their ends are needed.
    let end = &raw const smp::BOOT_EXCEPTION_STACK as u64
        + size_of_val_raw(&raw const smp::BOOT_EXCEPTION_STACK);
    own.exception_top.set(end);
    own.stack_top
        .set(&raw const smp::BOOT_STACK as u64 + smp::BOOT_STACK_SIZE as u64);
}

fn size_of_val_raw<T>(_: *const T) -> u64 {
    size_of::<T>() as u64
}

extern "C" fn handle(frame: &mut Frame) {
    let own = smp::per_cpu();
    let kind = match frame.vector.0 >> 7 & 3 {
        0 => Some(Kind::Sync),
        1 => Some(Kind::Irq),
        2 => Some(Kind::Fiq),
        _ => None,
    };
    if let Some(kind) = kind
        && let Some(hook) = own.fault.hooks.get()[kind as usize]
    {
        let hooks = own.fault.hooks.get();
        if matches!(kind, Kind::Sync) {
            // A fault inside the hook is not the hook's business.
            let mut without = hooks;
            without[kind as usize] = None;
            own.fault.hooks.set(without);
        }
        // SAFETY: `with_hook_of` removes the hook before what it borrows is gone, and a fault
        // that skips that removal puts back the hooks of the time of `catch`.
        let handled = unsafe { &*hook }(frame);
        own.fault.hooks.set(hooks);
        if handled {
            return;
        }
    }
    let recovery = own.fault.recovery.get();
    let is_interrupt = matches!(kind, Some(Kind::Irq | Kind::Fiq));
    if recovery.is_null() || is_interrupt {
        report(frame);
    }
    // SAFETY: a recovery stays valid while it is installed: it lies in `catch`'s own frame.
    let context = unsafe { &*recovery };
    let ended = frame.vector == Vector::LOWER64_SYNC
        && frame.elr == arm64_user_end as *const () as u64 + 4
        && frame.fault() == Fault::svc(0xffff);
    if !ended {
        // SAFETY: only this processor touches its record, and no reference to it is alive.
        unsafe { *own.fault.last.get() = *frame };
    }
    own.fault.recovery.set(context.outer);
    own.fault.hooks.set(context.hooks);
    // The exit path counts this exception down again.
    own.depth.set(context.depth + 1);
    if context.ttbr0 != super::registers::Ttbr0El1::read() {
        super::registers::Ttbr0El1::write(context.ttbr0);
    }
    // `probe::observed` borrows TPIDRRO_EL0; a fault inside it must not lose the processor's number.
    // SAFETY: S5; the register belongs to the runtime.
    unsafe { asm!("msr tpidrro_el0, {}", in(reg) own.index, options(nostack, preserves_flags)) };
    frame.x[0] = recovery as u64;
    frame.x[1] = u64::from(!ended);
    frame.elr = arm64_resume as *const () as u64;
    frame.spsr = context.daif | super::registers::CurrentEl::read() | 1;
    // `arm64_resume` sets sp itself and needs none before.
    frame.sp = context.saved[12];
}

fn report(frame: &Frame) -> ! {
    let word = match frame.vector.0 >> 7 & 3 {
        0 => "synchronous",
        1 => "IRQ",
        2 => "FIQ",
        _ => "SError",
    };
    let fault = frame.fault();
    runner::give_up_with(
        line::EXCEPTION,
        format_args!("{word} on CPU {}, {fault:?}", smp::this()),
        |print| {
            print(format_args!("{frame}, sp {:#x}", frame.sp));
            for (i, pair) in frame.x[..30].chunks_exact(2).enumerate() {
                print(format_args!(
                    "x{} {:#x}, x{} {:#x}",
                    i * 2,
                    pair[0],
                    i * 2 + 1,
                    pair[1]
                ));
            }
            print(format_args!("x30 {:#x}", frame.x[30]));
            let mut link = frame.x[29] as usize;
            print(format_args!(
                "at {:#x}",
                boot::link_address(frame.elr as usize)
            ));
            cpu::backtrace_from(&mut link, &mut |a| print(format_args!("at {a:#x}")));
        },
    )
}

/// What the last fault that [`catch`] returned on this processor looked like.
pub fn details() -> Frame {
    // SAFETY: only this processor touches its record; a frame is plain data.
    unsafe { *smp::per_cpu().fault.last.get() }
}

/// Puts values that no exception can leave behind into ESR and FAR and the record of
/// [`details`], so that a stale one cannot pass for a fresh one.
pub fn forget() {
    EsrEl1::write(0xdead_beef);
    FarEl1::write(0xdead_beef_dead_beef);
    // SAFETY: as in `details`.
    unsafe { *smp::per_cpu().fault.last.get() = Frame::default() };
}

struct Call<F, T> {
    body: Option<F>,
    result: Option<T>,
}

extern "C" fn call<F: FnOnce() -> T, T>(argument: *mut u8) {
    // SAFETY: `caught` passes a `Call` of these types, alive until it returns.
    let call = unsafe { &mut *argument.cast::<Call<F, T>>() };
    if let Some(body) = call.body.take() {
        call.result = Some(body());
    }
}

fn recovery() -> Recovery {
    let own = smp::per_cpu();
    Recovery {
        saved: [0; 13],
        daif: super::registers::Daif::read(),
        ttbr0: super::registers::Ttbr0El1::read(),
        depth: own.depth.get(),
        outer: own.fault.recovery.get(),
        hooks: own.fault.hooks.get(),
    }
}

/// Runs `body` by `enter`, which gets a recovery, a function and its argument, and says whether a fault
/// ended it.
fn caught<F: FnOnce() -> T, T>(
    body: F,
    enter: impl FnOnce(*mut u8, extern "C" fn(*mut u8), *mut u8) -> u64,
) -> Result<T, Fault> {
    let mut recovery = recovery();
    let mut argument = Call {
        body: Some(body),
        result: None,
    };
    let own = smp::per_cpu();
    own.fault.recovery.set(&raw const recovery);
    let faulted = enter(
        (&raw mut recovery).cast(),
        call::<F, T>,
        (&raw mut argument).cast(),
    );
    own.fault.recovery.set(recovery.outer);
    match faulted {
        0 => Ok(argument.result.expect("the body returned")),
        _ => Err(details().fault()),
    }
}

/// Runs `body` and returns its result, or the exception it ran into.
pub fn catch<T>(body: impl FnOnce() -> T) -> Result<T, Fault> {
    caught(body, |recovery, call, argument| {
        // SAFETY: recovery and argument live in the frame of `caught`; a fault inside comes back there.
        unsafe { arm64_try(recovery, call, argument) }
    })
}

/// PSTATE for EL0 with everything masked.
const USER_PSTATE: u64 = 0x3c0;

/// Runs `body` at EL0, where all memory of the runtime is open to it but no device is. Returns its
/// result, or the exception it ran into.
///
/// The body must not panic, print or allocate from another processor's point of view: it is plain
/// code without privileges. Interrupts are masked.
pub fn catch_user<T>(body: impl FnOnce() -> T) -> Result<T, Fault> {
    catch_user_with(USER_PSTATE, paging::user_root(), body)
}

/// As [`catch_user`], with PSTATE and TTBR0 of the caller's choice.
pub fn catch_user_with<T>(spsr: u64, ttbr0: u64, body: impl FnOnce() -> T) -> Result<T, Fault> {
    let stack = Frames::new(8);
    let top = stack.address() + stack.len() as u64;
    caught(body, |recovery, call, argument| {
        // SAFETY: as in `catch`; the stack is ours until after the call.
        unsafe { arm64_try_user(recovery, call, argument, top, spsr, ttbr0) }
    })
}

/// Where `catch_user` enters EL0.
pub fn user_entry() -> u64 {
    arm64_user_begin as *const () as u64
}

/// Runs `body` while `hook` sees this processor's synchronous exceptions first. The hook returns
/// true to resume with the frame as it left it, false to let `catch` have the exception.
///
/// The hook runs as an exception handler: it must not lock or allocate.
pub fn with_hook<T>(hook: impl Fn(&mut Frame) -> bool, body: impl FnOnce() -> T) -> T {
    with_hook_of(Kind::Sync, &hook, body)
}

pub(super) fn with_hook_of<T>(
    kind: Kind,
    hook: &dyn Fn(&mut Frame) -> bool,
    body: impl FnOnce() -> T,
) -> T {
    let own = smp::per_cpu();
    let before = own.fault.hooks.get();
    let mut hooks = before;
    // SAFETY: only the lifetime changes; the hook is removed before `hook` ends.
    hooks[kind as usize] = Some(unsafe {
        core::mem::transmute::<*const (dyn Fn(&mut Frame) -> bool + '_), Hook>(hook)
    });
    own.fault.hooks.set(hooks);
    let result = body();
    own.fault.hooks.set(before);
    result
}
