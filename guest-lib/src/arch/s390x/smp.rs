//! Processors: SIGP initial reset, set prefix and restart bring one up; it stops itself to park.

use super::lowcore::{self, offset};
use super::registers::Cr0;
use super::sigp::{self, Answer};
use crate::cpus::MAX;
use crate::memory::{FRAME, Frames};
use core::arch::{asm, global_asm};
use core::fmt;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};

const STACK_FRAMES: usize = 16;
const EMERGENCY_FRAMES: usize = 4;

static COUNT: AtomicUsize = AtomicUsize::new(0);
static ADDRESSES: [AtomicU16; MAX] = [const { AtomicU16::new(0) }; MAX];
/// Absolute address of each processor's prefix area; 0 until it is first started.
static PREFIXES: [AtomicU64; MAX] = [const { AtomicU64::new(0) }; MAX];

/// Adds a processor to the list.
pub(super) fn list(address: u16) {
    let index = COUNT.load(Ordering::Relaxed);
    if index < MAX {
        ADDRESSES[index].store(address, Ordering::Relaxed);
        COUNT.store(index + 1, Ordering::Relaxed);
    }
}

/// Moves the booting processor to the front of the list.
pub(super) fn init() {
    let own = own_address();
    let at = (0..count()).find(|&i| address(i) == own);
    match at {
        Some(at) => {
            ADDRESSES[at].store(address(0), Ordering::Relaxed);
            ADDRESSES[0].store(own, Ordering::Relaxed);
        }
        None => list(own),
    }
}

/// STORE CPU ADDRESS.
fn own_address() -> u16 {
    let mut value = 0u16;
    // SAFETY: S1; STAP stores two bytes at `value`.
    unsafe { asm!("stap 0({p})", p = in(reg_addr) &raw mut value, options(nostack)) };
    value
}

/// How many processors the SCLP lists.
pub fn count() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// The CPU address of a processor.
pub fn address(index: usize) -> u16 {
    ADDRESSES[index].load(Ordering::Relaxed)
}

/// A CPU address that no processor has.
pub fn absent_address() -> u16 {
    (0..u16::MAX)
        .rev()
        .find(|&a| (0..count()).all(|i| address(i) != a))
        .unwrap_or(u16::MAX)
}

/// Absolute address of a processor's prefix area, when it was started at least once.
pub fn prefix_of(index: usize) -> u64 {
    PREFIXES[index].load(Ordering::Relaxed)
}

/// This processor's place in the list.
pub fn this() -> usize {
    lowcore::read64(offset::CPU_INDEX) as usize
}

global_asm!(
    ".text",
    ".globl __assay_secondary",
    ".balign 8",
    "__assay_secondary:",
    "sam64",
    "larl %r1, 2f",
    "lctlg %c0, %c0, 0(%r1)",
    "lg %r15, {stack}",
    "xc 0(8, %r15), 0(%r15)",
    "brasl %r14, {main}",
    "1: j 1b",
    ".balign 8",
    "2: .quad {cr0}",
    stack = const offset::START_STACK,
    main = sym secondary,
    cr0 = const Cr0::AT_RESET.bits() | Cr0::AFP.bits(),
);

unsafe extern "C" {
    fn __assay_secondary();
    fn __assay_restart();
}

extern "C" fn secondary() -> ! {
    lowcore::write64(offset::RESTART_NEW + 8, __assay_restart as *const () as u64);
    crate::cpus::secondary_main(this())
}

/// Why a processor does not start.
pub struct NotStarted(u8, Answer);

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "SIGP order {} answers {:?}", self.0, self.1)
    }
}

/// Starts a processor; it ends up in [`crate::cpus::secondary_main`].
pub fn start(index: usize) -> Result<(), NotStarted> {
    let mut area = prefix_of(index);
    if area == 0 {
        // The frames stay with the processor for good.
        let frames = core::mem::ManuallyDrop::new(Frames::aligned(
            lowcore::SIZE / FRAME + STACK_FRAMES + EMERGENCY_FRAMES,
            lowcore::SIZE,
        ));
        area = frames.address();
        PREFIXES[index].store(area, Ordering::Relaxed);
    }
    let order =
        |order: u8, parameter: u64| match sigp::until_accepted(order, address(index), parameter) {
            Answer::Accepted => Ok(()),
            other => Err(NotStarted(order, other)),
        };
    order(sigp::INITIAL_CPU_RESET, 0)?;
    let stack = area + (lowcore::SIZE + STACK_FRAMES * FRAME) as u64;
    let emergency = stack + (EMERGENCY_FRAMES * FRAME) as u64;
    // SAFETY: the area belongs to this processor, which is stopped.
    unsafe { lowcore::fill(area, index, emergency - lowcore::STACK_BIAS) };
    let words = area as *mut u64;
    // SAFETY: as above; S2.
    unsafe {
        words
            .add(offset::START_STACK as usize / 8)
            .write_volatile(stack - lowcore::STACK_BIAS);
        words
            .add(offset::RESTART_NEW as usize / 8 + 1)
            .write_volatile(__assay_secondary as *const () as u64);
    }
    order(sigp::SET_PREFIX, area)?;
    order(sigp::RESTART, 0)
}

/// Says that this processor is off, and stops it.
pub fn park(state: &AtomicU32, off: u32) -> ! {
    let own = u64::from(own_address());
    state.store(off, Ordering::Release);
    loop {
        // SAFETY: S1; the processor stops. It goes on only through a reset and a restart.
        unsafe {
            asm!("sigp %r2, {a}, {stop}", a = in(reg) own, stop = const sigp::STOP,
                inout("r2") 0u64 => _, in("r3") 0u64);
        }
    }
}

/// Waits until a processor that parks has stopped.
pub fn wait_parked(index: usize) -> bool {
    crate::time::wait_until(crate::time::ms(2000), || sigp::is_stopped(address(index)))
}
