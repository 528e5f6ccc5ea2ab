//! Faults as values, interrupts with typed handlers.
//!
//! [`catch`] calls a closure through an asm trampoline that notes where the stack stands. When the closure
//! faults, the exception handler records the fault, puts the stack back and returns to the
//! trampoline, which returns "faulted". Nothing unwinds: what the closure owned is leaked.

mod catch;
mod entry;

pub use catch::{catch, catch_user, catch_user_with};
pub(super) use entry::{STUB_SIZE, stub_address};

use super::segments::{PER_CPU, this_cpu};
use super::{cpu, segments};
use crate::runner;
use alloc::boxed::Box;
use assay_protocol::line::EXCEPTION;
use core::cell::UnsafeCell;
use core::fmt;
use core::sync::atomic::{AtomicPtr, Ordering};
use entry::{assay_recover, assay_user_end};

/// An exception: its vector, and its error code (0 for vectors that have none).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fault {
    /// Vector, 0 to 31.
    pub vector: u8,
    /// Error code as pushed.
    pub error: u32,
}

#[expect(missing_docs, reason = "named by the manual's mnemonics")]
impl Fault {
    pub const DE: Fault = Fault::new(0, 0);
    pub const DB: Fault = Fault::new(1, 0);
    pub const NMI: Fault = Fault::new(2, 0);
    pub const BP: Fault = Fault::new(3, 0);
    pub const OF: Fault = Fault::new(4, 0);
    pub const BR: Fault = Fault::new(5, 0);
    pub const UD: Fault = Fault::new(6, 0);
    pub const NM: Fault = Fault::new(7, 0);
    pub const DF: Fault = Fault::new(8, 0);
    pub const GP0: Fault = Fault::gp(0);
    pub const MF: Fault = Fault::new(16, 0);
    pub const AC: Fault = Fault::new(17, 0);
    pub const MC: Fault = Fault::new(18, 0);
    pub const XM: Fault = Fault::new(19, 0);

    pub const fn new(vector: u8, error: u32) -> Self {
        Fault { vector, error }
    }
    pub const fn ts(error: u32) -> Self {
        Fault::new(10, error)
    }
    pub const fn np(error: u32) -> Self {
        Fault::new(11, error)
    }
    pub const fn ss(error: u32) -> Self {
        Fault::new(12, error)
    }
    pub const fn gp(error: u32) -> Self {
        Fault::new(13, error)
    }
    pub const fn pf(error: u32) -> Self {
        Fault::new(14, error)
    }
    pub const fn cp(error: u32) -> Self {
        Fault::new(21, error)
    }
}

const MNEMONICS: [&str; 32] = [
    "DE", "DB", "NMI", "BP", "OF", "BR", "UD", "NM", "DF", "9", "TS", "NP", "SS", "GP", "PF", "15",
    "MF", "AC", "MC", "XM", "VE", "CP", "22", "23", "24", "25", "26", "27", "HV", "VC", "SX", "31",
];

/// Whether the processor pushes an error code for `vector`.
pub const fn has_error_code(vector: u8) -> bool {
    matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30)
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "#{}", MNEMONICS[usize::from(self.vector & 31)])?;
        if has_error_code(self.vector) {
            write!(f, "({:#x})", self.error)?;
        }
        Ok(())
    }
}

/// Where and how the last caught fault of a processor happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the registers they hold")]
pub struct Details {
    pub rip: u64,
    pub rsp: u64,
    pub rflags: u64,
    pub cs: u16,
    pub ss: u16,
    pub cr2: u64,
}

impl Details {
    pub(super) const NONE: Details = Details {
        rip: 0,
        rsp: 0,
        rflags: 0,
        cs: 0,
        ss: 0,
        cr2: 0,
    };
}

impl fmt::Display for Details {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "rip {:#x}, cs {:#x}, cr2 {:#x}",
            self.rip, self.cs, self.cr2
        )
    }
}

/// The circumstances of the fault that this processor caught last.
pub fn details() -> Details {
    // SAFETY: a processor's details are its own.
    unsafe { *PER_CPU[this_cpu()].details.get() }
}

/// The machine state that an exception or interrupt saved; a handler may change it.
#[repr(C)]
#[derive(Debug)]
#[expect(missing_docs, reason = "named as the registers they hold")]
pub struct Frame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    pub vector: u64,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// Where a processor goes when what it runs faults.
#[repr(C)]
pub(super) struct Recovery {
    /// Stack pointer inside the trampoline; 0 when nothing is to be caught.
    pub(super) rsp: u64,
}

impl Recovery {
    pub(super) const NONE: Recovery = Recovery { rsp: 0 };
}

/// What [`trap`] takes the end of user code for: no vector of the processor's.
const USER_RETURN: usize = 256;

/// The software interrupt by which user code ends that a case has written as bytes.
pub(super) const USER_END: usize = 0x81;

/// Handles a vector instead of the runtime.
type HandlerFn = dyn Fn(&mut Frame) + Sync;

static HANDLERS: [AtomicPtr<Box<HandlerFn>>; 256] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; 256];

/// A handler for one vector, on all processors, until dropped.
pub struct Handler {
    vector: u8,
}

impl Handler {
    /// Lets `handle` take `vector`: interrupts and exceptions alike. For an interrupt of the local
    /// APIC, `handle` sends the EOI itself.
    pub fn new(vector: u8, handle: impl Fn(&mut Frame) + Sync + 'static) -> Self {
        let boxed: Box<Box<HandlerFn>> = Box::new(Box::new(handle));
        let old = HANDLERS[usize::from(vector)].swap(Box::into_raw(boxed), Ordering::AcqRel);
        assert!(old.is_null(), "vector {vector:#x} has a handler already");
        Handler { vector }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        let pointer =
            HANDLERS[usize::from(self.vector)].swap(core::ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: it came from `Box::into_raw`; a case drops a handler only after it has stopped
        // the source of its interrupts.
        drop(unsafe { Box::from_raw(pointer) });
    }
}

/// Entered from the stubs for every exception and interrupt.
extern "C" fn trap(frame: &mut Frame) {
    let at_end = frame.vector == u64::from(Fault::UD.vector)
        && frame.rip == (&raw const assay_user_end) as u64;
    let ends_user = frame.cs & 3 == 3 && (at_end || frame.vector == USER_END as u64);
    let vector = match ends_user {
        true => USER_RETURN,
        false => frame.vector as usize & 0xff,
    };
    let handler = HANDLERS
        .get(vector)
        .map_or(core::ptr::null_mut(), |slot| slot.load(Ordering::Acquire));
    if !handler.is_null() {
        // SAFETY: non-null pointers come from `Handler::new` and live until its drop.
        (unsafe { &*handler })(frame);
        return;
    }
    if super::svm::fix_up(frame) {
        return;
    }
    let per_cpu = &PER_CPU[this_cpu()];
    // SAFETY: a processor's recovery slot is its own; plain integers.
    let rsp = unsafe { (*per_cpu.recovery.get()).rsp };
    if rsp != 0 && (vector < 32 || vector == USER_RETURN) {
        let faulted = vector < 32;
        if faulted {
            let details = Details {
                rip: frame.rip,
                rsp: frame.rsp,
                rflags: frame.rflags,
                cs: frame.cs as u16,
                ss: frame.ss as u16,
                cr2: if vector == 14 { cpu::read_cr2() } else { 0 },
            };
            // SAFETY: as above.
            unsafe { *per_cpu.details.get() = details };
        }
        // The trampoline expects "faulted" in EAX; vector and error code travel in the slot's
        // neighbour, which `caught` reads.
        LAST[this_cpu()].set(Fault::new(vector as u8, frame.error as u32));
        frame.rax = u64::from(faulted);
        frame.rip = assay_recover as *const () as u64;
        frame.cs = u64::from(segments::KERNEL_CODE);
        frame.ss = u64::from(segments::KERNEL_DATA);
        frame.rsp = rsp;
        // Interrupts stay off until the trampoline restores RFLAGS.
        frame.rflags = 2;
        super::cet::abandon_supervisor();
        return;
    }
    unexpected(frame)
}

struct LastFault(UnsafeCell<Fault>);
// SAFETY: each element is used by its own processor only.
unsafe impl Sync for LastFault {}

impl LastFault {
    fn set(&self, fault: Fault) {
        // SAFETY: this processor's own element.
        unsafe { *self.0.get() = fault };
    }
    fn get(&self) -> Fault {
        // SAFETY: this processor's own element.
        unsafe { *self.0.get() }
    }
}

static LAST: [LastFault; crate::cpus::MAX] =
    [const { LastFault(UnsafeCell::new(Fault::new(0, 0))) }; crate::cpus::MAX];

/// The fault that this processor caught last.
pub(super) fn last() -> Fault {
    LAST[this_cpu()].get()
}

fn unexpected(frame: &Frame) -> ! {
    let vector = frame.vector as u8;
    let name = if vector < 32 {
        MNEMONICS[usize::from(vector)]
    } else {
        "interrupt"
    };
    let f = frame;
    runner::give_up_with(
        EXCEPTION,
        format_args!(
            "#{name} vector {vector:#x} error {:#x} at {:#x} on CPU {}",
            f.error,
            f.rip,
            this_cpu()
        ),
        |line| {
            line(format_args!(
                "rip {:#018x} cs  {:#06x} rflags {:#x}",
                f.rip, f.cs, f.rflags
            ));
            line(format_args!(
                "rsp {:#018x} ss  {:#06x} cr2 {:#x}",
                f.rsp,
                f.ss,
                cpu::read_cr2()
            ));
            line(format_args!(
                "rax {:#018x} rbx {:#018x} rcx {:#018x}",
                f.rax, f.rbx, f.rcx
            ));
            line(format_args!(
                "rdx {:#018x} rsi {:#018x} rdi {:#018x}",
                f.rdx, f.rsi, f.rdi
            ));
            line(format_args!(
                "rbp {:#018x} r8  {:#018x} r9  {:#018x}",
                f.rbp, f.r8, f.r9
            ));
            line(format_args!(
                "r10 {:#018x} r11 {:#018x} r12 {:#018x}",
                f.r10, f.r11, f.r12
            ));
            line(format_args!(
                "r13 {:#018x} r14 {:#018x} r15 {:#018x}",
                f.r13, f.r14, f.r15
            ));
            line(format_args!(
                "cr0 {:#x} cr3 {:#x} cr4 {:#x}",
                cpu::read_cr0(),
                cpu::read_cr3(),
                cpu::read_cr4()
            ));
            line(format_args!("at {:#x}", f.rip));
        },
    )
}
