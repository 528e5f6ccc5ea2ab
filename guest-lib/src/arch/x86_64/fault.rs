//! Faults as values, interrupts with typed handlers.
//!
//! [`catch`] calls a closure through an asm trampoline that notes where the stack stands. When the closure
//! faults, the exception handler records the fault, puts the stack back and returns to the
//! trampoline, which returns "faulted". Nothing unwinds: what the closure owned is leaked.

use super::segments::{PER_CPU, this_cpu};
use super::{cpu, segments};
use crate::runner;
use alloc::boxed::Box;
use assay_protocol::line::EXCEPTION;
use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::fmt;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::sync::atomic::{AtomicPtr, Ordering};

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

unsafe extern "C" {
    fn assay_catch(f: extern "C" fn(*mut u8), data: *mut u8, slot: *mut Recovery) -> u64;
    fn assay_user(
        f: extern "C" fn(*mut u8),
        data: *mut u8,
        slot: *mut Recovery,
        cr3: u64,
        stack: u64,
        rsp0: *mut u64,
    ) -> u64;
    fn assay_recover();
    static assay_stubs: u8;
    static assay_user_end: u8;
}

const STUB_SIZE: usize = 16;

pub(super) fn stub_address(vector: usize) -> u64 {
    (&raw const assay_stubs) as u64 + (vector * STUB_SIZE) as u64
}

global_asm!(
    ".global assay_catch, assay_user, assay_user_end, assay_recover, assay_stubs",
    ".macro ASSAY_SAVE_CONTEXT",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "pushfq",
    "mov rax, cr3",
    "push rax",
    "push qword ptr [rdx]",
    "push rdx",
    "mov [rdx], rsp",
    ".endm",
    "assay_catch:",
    "ASSAY_SAVE_CONTEXT",
    "sub rsp, 8",
    "mov rax, rdi",
    "mov rdi, rsi",
    "call rax",
    "add rsp, 8",
    "xor eax, eax",
    // No fault: CR3 and RFLAGS stay as the closure left them.
    "pop rdx",
    "pop qword ptr [rdx]",
    "add rsp, 16",
    "jmp 3f",
    // A fault, or the end of user code: EAX says which.
    "assay_recover:",
    "cld",
    "mov ecx, {data}",
    "mov ds, ecx",
    "mov es, ecx",
    "pop rdx",
    "pop qword ptr [rdx]",
    "pop rcx",
    "mov rdx, cr3",
    "cmp rdx, rcx",
    "je 2f",
    "mov cr3, rcx",
    "2:",
    "popfq",
    "3:",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
    // rdi f, rsi data, rdx slot, rcx cr3, r8 stack, r9 &tss.rsp0
    "assay_user:",
    "ASSAY_SAVE_CONTEXT",
    "mov [r9], rsp",
    "mov cr3, rcx",
    "push {user_data}",
    "push r8",
    "pushfq",
    "push {user_code}",
    "lea rax, [rip + assay_user_thunk]",
    "push rax",
    "mov r12, rdi",
    "mov rdi, rsi",
    "xor ebp, ebp",
    "iretq",
    "assay_user_thunk:",
    "call r12",
    // The end of user code: a fault at a known address, because some instruction emulators have
    // neither INT n nor SYSCALL.
    "assay_user_end:",
    "ud2",
    // One stub per vector, all of one size; those without an error code push a zero.
    ".balign 16",
    "assay_stubs:",
    ".set assay_vector, 0",
    ".rept 256",
    ".balign 16",
    // ENDBR64: cases turn indirect-branch tracking on.
    ".byte 0xf3, 0x0f, 0x1e, 0xfa",
    ".if !(assay_vector == 8 || (assay_vector >= 10 && assay_vector <= 14) || assay_vector == 17 || assay_vector == 21 || assay_vector == 29 || assay_vector == 30)",
    "push 0",
    ".endif",
    "push assay_vector",
    "jmp assay_common",
    ".set assay_vector, assay_vector + 1",
    ".endr",
    "assay_common:",
    "push rax",
    "push rbx",
    "push rcx",
    "push rdx",
    "push rsi",
    "push rdi",
    "push rbp",
    "push r8",
    "push r9",
    "push r10",
    "push r11",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "cld",
    "mov rdi, rsp",
    // The frame is as aligned as the processor made it; Rust wants 16 bytes.
    "mov rbp, rsp",
    "and rsp, -16",
    "call {trap}",
    "mov rsp, rbp",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop r11",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rbp",
    "pop rdi",
    "pop rsi",
    "pop rdx",
    "pop rcx",
    "pop rbx",
    "pop rax",
    "add rsp, 16",
    "iretq",
    data = const segments::KERNEL_DATA,
    user_data = const segments::USER_DATA,
    user_code = const segments::USER_CODE,
    trap = sym trap,
);

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

struct Call<F, T> {
    f: ManuallyDrop<F>,
    result: MaybeUninit<T>,
}

extern "C" fn call<F: FnOnce() -> T, T>(data: *mut u8) {
    // SAFETY: `data` is the `Call` that `catch` or `catch_user` passes, and this runs once.
    unsafe {
        let call = &mut *data.cast::<Call<F, T>>();
        let f = ManuallyDrop::take(&mut call.f);
        call.result.write(f());
    }
}

/// Runs `f` and returns its result, or the fault that ended it.
///
/// What `f` owned at the fault is leaked, not dropped. CR3 and RFLAGS are put back after a fault.
pub fn catch<T>(f: impl FnOnce() -> T) -> Result<T, Fault> {
    fn entry<F: FnOnce() -> T, T>(_: &F) -> extern "C" fn(*mut u8) {
        call::<F, T>
    }
    let entry = entry(&f);
    let mut state = Call {
        f: ManuallyDrop::new(f),
        result: MaybeUninit::<T>::uninit(),
    };
    let slot = PER_CPU[this_cpu()].recovery.get();
    // SAFETY: `entry` fits `state`, which outlives the call; the slot is this processor's.
    let faulted = unsafe { assay_catch(entry, (&raw mut state).cast(), slot) };
    if faulted != 0 {
        return Err(LAST[this_cpu()].get());
    }
    // SAFETY: no fault, so `call` ran to its end and wrote the result.
    Ok(unsafe { state.result.assume_init() })
}

/// Runs `f` at privilege level 3 and returns its result, or the fault that ended it.
///
/// All of memory is user memory while `f` runs; `f` must not allocate locks it shares, nor use
/// privileged instructions that it does not mean to fault on. IOPL is 0.
pub fn catch_user<T>(f: impl FnOnce() -> T) -> Result<T, Fault> {
    catch_user_with(super::paging::user_root(), f)
}

/// As [`catch_user`], with page tables at `cr3`.
pub fn catch_user_with<T>(cr3: u64, f: impl FnOnce() -> T) -> Result<T, Fault> {
    fn entry<F: FnOnce() -> T, T>(_: &F) -> extern "C" fn(*mut u8) {
        call::<F, T>
    }
    let entry = entry(&f);
    let mut state = Call {
        f: ManuallyDrop::new(f),
        result: MaybeUninit::<T>::uninit(),
    };
    let stack = crate::memory::Frames::new(4);
    let per_cpu = &PER_CPU[this_cpu()];
    let slot = per_cpu.recovery.get();
    // SAFETY: `entry` fits `state`, which outlives the call; slot and TSS are this processor's;
    // the stack pointer leaves the alignment a `call` expects.
    let faulted = unsafe {
        let rsp0 = (&raw mut (*per_cpu.tss.get()).rsp).cast::<u64>();
        let top = stack.address() + stack.len() as u64;
        assay_user(entry, (&raw mut state).cast(), slot, cr3, top, rsp0)
    };
    if faulted != 0 {
        return Err(LAST[this_cpu()].get());
    }
    // SAFETY: no fault, so `call` ran to its end and wrote the result.
    Ok(unsafe { state.result.assume_init() })
}
