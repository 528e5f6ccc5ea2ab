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

use super::registers::{EsrEl1, FarEl1};
use super::{boot, cpu, paging, smp};
use crate::memory::Frames;
use crate::runner;
use assay_protocol::line;
use core::arch::{asm, global_asm};
use core::cell::{Cell, UnsafeCell};
use core::fmt;
use core::mem::{MaybeUninit, offset_of};

/// The exception class of a syndrome (ESR bits 31:26).
pub mod ec {
    /// Undefined instruction, and all else without a class of its own.
    pub const UNKNOWN: u64 = 0x00;
    /// WFI, WFE.
    pub const WFX: u64 = 0x01;
    /// Floating point while CPACR_EL1 traps it.
    pub const FP: u64 = 0x07;
    /// Illegal execution state.
    pub const ILLEGAL_STATE: u64 = 0x0e;
    /// SVC from AArch32.
    pub const SVC32: u64 = 0x11;
    /// SVC from AArch64.
    pub const SVC64: u64 = 0x15;
    /// HVC from AArch64.
    pub const HVC64: u64 = 0x16;
    /// SMC from AArch64.
    pub const SMC64: u64 = 0x17;
    /// A trapped MRS, MSR or system instruction.
    pub const SYSTEM: u64 = 0x18;
    /// Instruction abort from a lower level.
    pub const INSTRUCTION_ABORT_LOWER: u64 = 0x20;
    /// Instruction abort from this level.
    pub const INSTRUCTION_ABORT: u64 = 0x21;
    /// Misaligned PC.
    pub const PC_ALIGNMENT: u64 = 0x22;
    /// Data abort from a lower level.
    pub const DATA_ABORT_LOWER: u64 = 0x24;
    /// Data abort from this level.
    pub const DATA_ABORT: u64 = 0x25;
    /// Misaligned SP.
    pub const SP_ALIGNMENT: u64 = 0x26;
    /// SError.
    pub const SERROR: u64 = 0x2f;
    /// Breakpoint from a lower level.
    pub const BREAKPOINT_LOWER: u64 = 0x30;
    /// Breakpoint from this level.
    pub const BREAKPOINT: u64 = 0x31;
    /// Software step from a lower level.
    pub const STEP_LOWER: u64 = 0x32;
    /// Software step from this level.
    pub const STEP: u64 = 0x33;
    /// Watchpoint from a lower level.
    pub const WATCHPOINT_LOWER: u64 = 0x34;
    /// Watchpoint from this level.
    pub const WATCHPOINT: u64 = 0x35;
    /// BKPT from AArch32.
    pub const BKPT32: u64 = 0x38;
    /// BRK from AArch64.
    pub const BRK64: u64 = 0x3c;
}

/// An exception: its syndrome, unfiltered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fault(pub u64);

impl Fault {
    /// What an undefined instruction gives: no class, no detail, a 32-bit instruction.
    pub const UNDEFINED: Fault = Fault::new(ec::UNKNOWN, 0);

    /// A fault of class `ec` with `iss`, by a 32-bit instruction (IL = 1).
    pub const fn new(ec: u64, iss: u64) -> Self {
        Fault(ec << 26 | 1 << 25 | iss)
    }

    /// SVC with immediate `imm`, from AArch64.
    pub const fn svc(imm: u16) -> Self {
        Fault::new(ec::SVC64, imm as u64)
    }

    /// Exception class.
    pub const fn ec(self) -> u64 {
        self.0 >> 26 & 0x3f
    }

    /// IL: the instruction has 32 bits, or the exception has no instruction.
    pub const fn il(self) -> bool {
        self.0 >> 25 & 1 != 0
    }

    /// Instruction specific syndrome.
    pub const fn iss(self) -> u64 {
        self.0 & 0x1ff_ffff
    }

    /// DFSC or IFSC of an abort.
    pub const fn status(self) -> u64 {
        self.0 & 0x3f
    }

    /// WnR of a data abort or watchpoint.
    pub const fn is_write(self) -> bool {
        self.0 >> 6 & 1 != 0
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "EC {:#04x}, IL {}, ISS {:#x}",
            self.ec(),
            u8::from(self.il()),
            self.iss()
        )
    }
}

/// Which vector took an exception: its offset from VBAR.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Vector(pub u64);

impl Vector {
    /// Synchronous, same level, SP_EL0.
    pub const SP0_SYNC: Vector = Vector(0x000);
    /// Synchronous, same level, SP_ELx.
    pub const SPX_SYNC: Vector = Vector(0x200);
    /// IRQ, same level, SP_ELx.
    pub const SPX_IRQ: Vector = Vector(0x280);
    /// FIQ, same level, SP_ELx.
    pub const SPX_FIQ: Vector = Vector(0x300);
    /// SError, same level, SP_ELx.
    pub const SPX_SERROR: Vector = Vector(0x380);
    /// Synchronous, lower level in AArch64.
    pub const LOWER64_SYNC: Vector = Vector(0x400);
    /// IRQ, lower level in AArch64.
    pub const LOWER64_IRQ: Vector = Vector(0x480);
    /// Synchronous, lower level in AArch32.
    pub const LOWER32_SYNC: Vector = Vector(0x600);
}

/// The interrupted state. A handler may change it; it is loaded again on return.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Frame {
    /// x0 to x30.
    pub x: [u64; 31],
    /// SP_ELx at the time of the exception. Changes are ignored.
    pub sp: u64,
    /// SP_EL0.
    pub sp_el0: u64,
    /// Return address.
    pub elr: u64,
    /// PSTATE.
    pub spsr: u64,
    /// Syndrome.
    pub esr: u64,
    /// Fault address.
    pub far: u64,
    /// Vector.
    pub vector: Vector,
    /// DAIF as the handler found it.
    pub daif: u64,
    /// Other PSTATE of the handler: CurrentEL | SPSel.
    pub level: u64,
}

impl Frame {
    /// The syndrome as a fault.
    pub fn fault(&self) -> Fault {
        Fault(self.esr)
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "ELR {:#x}, FAR {:#x}, SPSR {:#x}, vector {:#05x}",
            boot::link_address(self.elr as usize),
            self.far,
            self.spsr,
            self.vector.0
        )
    }
}

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

const FRAME_SIZE: usize = (size_of::<Frame>() + 15) & !15;

global_asm!(
    ".pushsection .text.arm64_vectors, \"ax\"",
    ".macro arm64_vector offset",
    ".balign 128",
    "msr tpidr_el0, x0",
    "mrs x0, tpidr_el1",
    "str x1, [x0, #{scratch}]",
    "mov x1, #\\offset",
    "b arm64_exception_entry",
    ".endm",
    ".balign 2048",
    ".global arm64_vectors",
    "arm64_vectors:",
    "arm64_vector 0x000",
    "arm64_vector 0x080",
    "arm64_vector 0x100",
    "arm64_vector 0x180",
    "arm64_vector 0x200",
    "arm64_vector 0x280",
    "arm64_vector 0x300",
    "arm64_vector 0x380",
    "arm64_vector 0x400",
    "arm64_vector 0x480",
    "arm64_vector 0x500",
    "arm64_vector 0x580",
    "arm64_vector 0x600",
    "arm64_vector 0x680",
    "arm64_vector 0x700",
    "arm64_vector 0x780",
    ".balign 128",
    // x0 = PerCpu, x1 = vector, old x0 in TPIDR_EL0, old x1 in scratch[0].
    "arm64_exception_entry:",
    "str x2, [x0, #{scratch} + 8]",
    "mov x2, sp",
    "str x2, [x0, #{scratch} + 16]",
    // The first exception gets the exception stack; one inside a handler stays on it.
    "ldr x2, [x0, #{depth}]",
    "cbnz x2, 1f",
    "ldr x2, [x0, #{exception_top}]",
    "mov sp, x2",
    "mov x2, #0",
    "1: add x2, x2, #1",
    "str x2, [x0, #{depth}]",
    "sub sp, sp, #{frame_size}",
    "stp x3, x4, [sp, #24]",
    "stp x5, x6, [sp, #40]",
    "stp x7, x8, [sp, #56]",
    "stp x9, x10, [sp, #72]",
    "stp x11, x12, [sp, #88]",
    "stp x13, x14, [sp, #104]",
    "stp x15, x16, [sp, #120]",
    "stp x17, x18, [sp, #136]",
    "stp x19, x20, [sp, #152]",
    "stp x21, x22, [sp, #168]",
    "stp x23, x24, [sp, #184]",
    "stp x25, x26, [sp, #200]",
    "stp x27, x28, [sp, #216]",
    "stp x29, x30, [sp, #232]",
    "str x1, [sp, #{vector}]",
    "mrs x3, tpidr_el0",
    "ldp x4, x5, [x0, #{scratch}]",
    "stp x3, x4, [sp]",
    "str x5, [sp, #16]",
    "ldr x3, [x0, #{scratch} + 16]",
    "mrs x4, sp_el0",
    "stp x3, x4, [sp, #{sp}]",
    "mrs x3, elr_el1",
    "mrs x4, spsr_el1",
    "stp x3, x4, [sp, #{elr}]",
    "mrs x3, esr_el1",
    "mrs x4, far_el1",
    "stp x3, x4, [sp, #{esr}]",
    "mrs x3, daif",
    "str x3, [sp, #{daif}]",
    "mrs x3, CurrentEL",
    "mrs x4, SPSel",
    "orr x3, x3, x4",
    "str x3, [sp, #{level}]",
    // A frame record, so that a backtrace goes on in the interrupted code.
    "mov x0, sp",
    "bl {handle}",
    "msr daifset, #0xf",
    "mrs x0, tpidr_el1",
    "ldr x2, [x0, #{depth}]",
    "sub x2, x2, #1",
    "str x2, [x0, #{depth}]",
    "ldr x2, [sp, #{sp}]",
    "str x2, [x0, #{scratch} + 16]",
    "ldr x4, [sp, #{sp} + 8]",
    "msr sp_el0, x4",
    "ldp x3, x4, [sp, #{elr}]",
    "msr elr_el1, x3",
    "msr spsr_el1, x4",
    "ldp x3, x4, [sp, #24]",
    "ldp x5, x6, [sp, #40]",
    "ldp x7, x8, [sp, #56]",
    "ldp x9, x10, [sp, #72]",
    "ldp x11, x12, [sp, #88]",
    "ldp x13, x14, [sp, #104]",
    "ldp x15, x16, [sp, #120]",
    "ldp x17, x18, [sp, #136]",
    "ldp x19, x20, [sp, #152]",
    "ldp x21, x22, [sp, #168]",
    "ldp x23, x24, [sp, #184]",
    "ldp x25, x26, [sp, #200]",
    "ldp x27, x28, [sp, #216]",
    "ldp x29, x30, [sp, #232]",
    "ldp x1, x2, [sp]",
    "msr tpidr_el0, x1",
    "str x2, [x0, #{scratch}]",
    "ldr x2, [sp, #16]",
    "ldr x1, [x0, #{scratch} + 16]",
    "mov sp, x1",
    "ldr x1, [x0, #{scratch}]",
    "mrs x0, tpidr_el0",
    "eret",

    // x0 = recovery, x1 = body, x2 = argument.
    ".global arm64_try",
    "arm64_try:",
    "stp x19, x20, [x0]",
    "stp x21, x22, [x0, #16]",
    "stp x23, x24, [x0, #32]",
    "stp x25, x26, [x0, #48]",
    "stp x27, x28, [x0, #64]",
    "stp x29, x30, [x0, #80]",
    "mov x9, sp",
    "str x9, [x0, #96]",
    "stp x29, x30, [sp, #-16]!",
    "mov x29, sp",
    "mov x0, x2",
    "blr x1",
    "ldp x29, x30, [sp], #16",
    "mov x0, #0",
    "ret",

    // x0 = recovery, x1 = result.
    ".global arm64_resume",
    "arm64_resume:",
    "ldp x19, x20, [x0]",
    "ldp x21, x22, [x0, #16]",
    "ldp x23, x24, [x0, #32]",
    "ldp x25, x26, [x0, #48]",
    "ldp x27, x28, [x0, #64]",
    "ldp x29, x30, [x0, #80]",
    "ldr x9, [x0, #96]",
    "mov sp, x9",
    "mov x0, x1",
    "ret",

    // x0 = recovery, x1 = body, x2 = argument, x3 = stack, x4 = PSTATE, x5 = TTBR0. The handler
    // comes back through arm64_resume, with 0 when the body reached arm64_user_end.
    ".global arm64_try_user",
    "arm64_try_user:",
    "stp x19, x20, [x0]",
    "stp x21, x22, [x0, #16]",
    "stp x23, x24, [x0, #32]",
    "stp x25, x26, [x0, #48]",
    "stp x27, x28, [x0, #64]",
    "stp x29, x30, [x0, #80]",
    "mov x9, sp",
    "str x9, [x0, #96]",
    "msr daifset, #0xf",
    "msr ttbr0_el1, x5",
    "isb",
    "msr sp_el0, x3",
    "msr spsr_el1, x4",
    "adr x9, arm64_user_begin",
    "msr elr_el1, x9",
    "mov x0, x2",
    "mov x29, xzr",
    "eret",
    ".global arm64_user_begin",
    "arm64_user_begin:",
    "blr x1",
    ".global arm64_user_end",
    "arm64_user_end:",
    "svc #0xffff",
    "b arm64_user_end",
    ".popsection",
    scratch = const offset_of!(smp::PerCpu, scratch),
    depth = const offset_of!(smp::PerCpu, depth),
    exception_top = const offset_of!(smp::PerCpu, exception_top),
    frame_size = const FRAME_SIZE,
    sp = const offset_of!(Frame, sp),
    elr = const offset_of!(Frame, elr),
    esr = const offset_of!(Frame, esr),
    vector = const offset_of!(Frame, vector),
    daif = const offset_of!(Frame, daif),
    level = const offset_of!(Frame, level),
    handle = sym handle,
);

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
    // SAFETY: `catch` and `catch_user_with` pass a `Call` of these types, alive until they return.
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

/// Runs `body` and returns its result, or the exception it ran into.
pub fn catch<T>(body: impl FnOnce() -> T) -> Result<T, Fault> {
    fn inner<F: FnOnce() -> T, T>(body: F) -> Result<T, Fault> {
        let mut recovery = recovery();
        let mut argument = Call {
            body: Some(body),
            result: None,
        };
        let own = smp::per_cpu();
        own.fault.recovery.set(&raw const recovery);
        // SAFETY: recovery and argument live in this frame; a fault inside comes back here.
        let faulted = unsafe {
            arm64_try(
                (&raw mut recovery).cast(),
                call::<F, T>,
                (&raw mut argument).cast(),
            )
        };
        own.fault.recovery.set(recovery.outer);
        match faulted {
            0 => Ok(argument.result.expect("the body returned")),
            _ => Err(details().fault()),
        }
    }
    inner(body)
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
    fn inner<F: FnOnce() -> T, T>(spsr: u64, ttbr0: u64, body: F) -> Result<T, Fault> {
        let stack = Frames::new(8);
        let mut recovery = recovery();
        let mut argument = Call {
            body: Some(body),
            result: None,
        };
        let own = smp::per_cpu();
        own.fault.recovery.set(&raw const recovery);
        // SAFETY: as in `catch`; the stack is ours until after the call.
        let faulted = unsafe {
            arm64_try_user(
                (&raw mut recovery).cast(),
                call::<F, T>,
                (&raw mut argument).cast(),
                stack.address() + stack.len() as u64,
                spsr,
                ttbr0,
            )
        };
        match faulted {
            0 => Ok(argument.result.expect("the body returned")),
            _ => Err(details().fault()),
        }
    }
    inner(spsr, ttbr0, body)
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
