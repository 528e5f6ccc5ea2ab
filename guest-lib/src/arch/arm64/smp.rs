//! Processors: what each owns, and how PSCI starts and stops them.

use super::{boot, cpu, fault, platform, psci};
use crate::cpus::MAX;
use crate::memory::Frames;
use crate::time;
use core::arch::asm;
use core::cell::{Cell, UnsafeCell};
use core::fmt;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// Bytes of the boot processor's stack.
pub(super) const BOOT_STACK_SIZE: usize = 64 * 1024;
const EXCEPTION_STACK_SIZE: usize = 16 * 1024;
/// Frames of a secondary processor: 12 for its stack, 4 for exceptions.
const SECONDARY_FRAMES: usize = 16;

#[repr(C, align(4096))]
pub(super) struct Stack<const N: usize>([u8; N]);

pub(super) static mut BOOT_STACK: Stack<BOOT_STACK_SIZE> = Stack([0; BOOT_STACK_SIZE]);
pub(super) static mut BOOT_EXCEPTION_STACK: Stack<EXCEPTION_STACK_SIZE> =
    Stack([0; EXCEPTION_STACK_SIZE]);

/// What a processor found when it was entered, before it changed anything.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry {
    /// x0.
    pub x0: u64,
    /// CurrentEL.
    pub current_el: u64,
    /// DAIF.
    pub daif: u64,
    /// SPSel.
    pub spsel: u64,
    /// SCTLR of the level of entry.
    pub sctlr: u64,
    /// x1, x2 and x3 of the boot processor, one or another: the boot protocol has them zero.
    pub rest: u64,
}

/// What one processor owns. TPIDR_EL1 points to it; the vectors know its layout.
#[repr(C)]
pub(super) struct PerCpu {
    /// Where the vectors keep x1, x2 and sp before they have a stack.
    pub scratch: UnsafeCell<[u64; 3]>,
    /// How many exceptions are being handled.
    pub depth: Cell<u64>,
    /// Top of the stack for exceptions.
    pub exception_top: Cell<u64>,
    /// Top of the stack for all else.
    pub stack_top: Cell<u64>,
    /// Number of the processor.
    pub index: u64,
    /// What entry found.
    pub entry: Entry,
    /// Faults: where to go on, and who wants to look.
    pub fault: fault::PerCpuFault,
    /// A secondary processor's stacks.
    frames: Option<Frames>,
}

pub(super) static mut BOOT_CPU: PerCpu = PerCpu {
    scratch: UnsafeCell::new([0; 3]),
    depth: Cell::new(0),
    exception_top: Cell::new(0),
    stack_top: Cell::new(0),
    index: 0,
    entry: Entry {
        x0: 0,
        current_el: 0,
        daif: 0,
        spsel: 0,
        sctlr: 0,
        rest: 0,
    },
    fault: fault::PerCpuFault::new(),
    frames: None,
};

static SECONDARIES: [AtomicPtr<PerCpu>; MAX] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX];

/// How many processors the device tree lists.
pub fn count() -> usize {
    platform::info().cpu_count.min(MAX)
}

/// This processor's number. Works at EL0 too.
pub fn this() -> usize {
    let index: usize;
    // SAFETY: S5; reads a register that boot code set.
    unsafe {
        asm!("mrs {}, tpidrro_el0", out(reg) index, options(nomem, nostack, preserves_flags));
    };
    index
}

/// MPIDR affinity of processor `index`, from the device tree.
pub fn mpidr(index: usize) -> u64 {
    platform::info().mpidr[index]
}

/// This processor's record.
pub(super) fn per_cpu() -> &'static PerCpu {
    let record: *const PerCpu;
    // SAFETY: boot code points TPIDR_EL1 to the processor's record, which lives for ever.
    unsafe {
        asm!("mrs {}, tpidr_el1", out(reg) record, options(nomem, nostack, preserves_flags));
        &*record
    }
}

/// What processor `index` found when it was last started: by the runtime, or, the boot processor, by the
/// hypervisor.
pub fn entry_of(index: usize) -> Entry {
    if index == 0 {
        // SAFETY: boot code wrote it before any Rust ran, by assembly, so the read is volatile.
        return unsafe { core::ptr::read_volatile(&raw const BOOT_CPU.entry) };
    }
    let record = SECONDARIES[index].load(Ordering::Acquire);
    assert!(!record.is_null(), "CPU {index} was never started");
    // SAFETY: records are never freed; the processor wrote its part before it reported itself. The
    // read is volatile because assembly wrote it.
    unsafe { core::ptr::read_volatile(&raw const (*record).entry) }
}

/// The context id with which the runtime starts processor `index`, once it has been started.
pub fn context_of(index: usize) -> u64 {
    SECONDARIES[index].load(Ordering::Acquire) as u64
}

/// Two words at `frame`, if they lie on a stack of this processor.
pub(super) fn stack_words(frame: usize) -> Option<[usize; 2]> {
    let own = per_cpu();
    let within = |top: u64, size: usize| {
        let top = top as usize;
        frame.is_multiple_of(8)
            && frame >= top.saturating_sub(size)
            && frame < top.saturating_sub(15)
    };
    let stack = own.stack_top.get();
    if !within(stack, BOOT_STACK_SIZE) && !within(own.exception_top.get(), EXCEPTION_STACK_SIZE) {
        return None;
    }
    // SAFETY: S2; the words lie on a stack of this processor.
    Some(unsafe { core::ptr::read_volatile(frame as *const [usize; 2]) })
}

/// Why a processor could not be started.
#[derive(Clone, Copy, Debug)]
pub struct StartError(psci::Status);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "PSCI CPU_ON answers {:?}", self.0)
    }
}

/// Makes the record of processor `index`, if it has none, and returns it.
pub(super) fn prepare(index: usize) -> *mut PerCpu {
    let slot = &SECONDARIES[index];
    let mut record = slot.load(Ordering::Acquire);
    if record.is_null() {
        let frames = Frames::new(SECONDARY_FRAMES);
        let top = frames.address() + frames.len() as u64;
        record = alloc::boxed::Box::into_raw(alloc::boxed::Box::new(PerCpu {
            scratch: UnsafeCell::new([0; 3]),
            depth: Cell::new(0),
            exception_top: Cell::new(top),
            stack_top: Cell::new(top - EXCEPTION_STACK_SIZE as u64),
            index: index as u64,
            entry: Entry::default(),
            fault: fault::PerCpuFault::new(),
            frames: Some(frames),
        }));
        slot.store(record, Ordering::Release);
    }
    // SAFETY: the processor is off, so nobody else uses its record.
    unsafe {
        (*record).fault.reset();
        (*record).depth.set(0)
    };
    // The processor reads the record while its MMU is off.
    cpu::clean_to_memory(record as usize, size_of::<PerCpu>());
    record
}

/// Entry point and context id that bring processor `index` into the runtime: for cases that call
/// CPU_ON themselves. The processor counts as started only when `cpus::start` did it.
pub fn arguments(index: usize) -> (u64, u64) {
    (boot::secondary_entry(), prepare(index) as u64)
}

core::arch::global_asm!(
    // Keeps x0 and turns the processor off again, without a stack and with the MMU off.
    ".pushsection .text.arm64_echo, \"ax\"",
    ".balign 64",
    ".global arm64_echo_hvc",
    "arm64_echo_hvc:",
    "adrp x1, ARM64_ECHO",
    "str x0, [x1, :lo12:ARM64_ECHO]",
    "dsb sy",
    "1: mov w0, #0x84000000",
    "add w0, w0, #2",
    "hvc #0",
    "b 1b",
    ".global arm64_echo_smc",
    "arm64_echo_smc:",
    "adrp x1, ARM64_ECHO",
    "str x0, [x1, :lo12:ARM64_ECHO]",
    "dsb sy",
    "1: mov w0, #0x84000000",
    "add w0, w0, #2",
    "smc #0",
    "b 1b",
    ".popsection",
);

unsafe extern "C" {
    fn arm64_echo_hvc();
    fn arm64_echo_smc();
}

#[unsafe(no_mangle)]
static ARM64_ECHO: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

/// An entry point for CPU_ON that keeps its context id and calls CPU_OFF.
pub fn echo_entry() -> u64 {
    ARM64_ECHO.store(0, Ordering::SeqCst);
    cpu::clean_to_memory(&raw const ARM64_ECHO as usize, 8);
    match psci::conduit() {
        psci::Conduit::Hvc => arm64_echo_hvc as *const () as u64,
        psci::Conduit::Smc => arm64_echo_smc as *const () as u64,
    }
}

/// The context id that the last processor brought to [`echo_entry`], or 0.
pub fn echo() -> u64 {
    let address = &raw const ARM64_ECHO as usize;
    // SAFETY: S5; the line was written with the MMU off, and is clean here.
    unsafe { asm!("dc civac, {}", "dsb sy", in(reg) address, options(nostack, preserves_flags)) };
    ARM64_ECHO.load(Ordering::SeqCst)
}

/// Starts processor `index`, which must be off.
pub(crate) fn start(index: usize) -> Result<(), StartError> {
    let (entry, context) = arguments(index);
    match psci::cpu_on(mpidr(index), entry, context) {
        psci::Status::SUCCESS => Ok(()),
        other => Err(StartError(other)),
    }
}

/// Turns this processor off. `state` becomes `value` as late as that is possible.
pub(crate) fn park(state: &AtomicU32, value: u32) -> ! {
    super::interrupts::mask_all();
    state.store(value, Ordering::Release);
    psci::cpu_off();
    panic!("PSCI CPU_OFF returned");
}

/// Waits until the hypervisor agrees that processor `index` is off.
pub(crate) fn wait_parked(index: usize) -> bool {
    time::wait_until(time::ms(2000), || psci::affinity_info(mpidr(index), 0) == 1)
}
