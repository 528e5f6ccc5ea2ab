//! From the hypervisor's entry to [`crate::runner::main`].
//!
//! The hypervisor loads the ELF file and starts one processor at 0x10000 with DAT off, all
//! interrupts masked and key 0. Nothing else is promised: the entry makes sure of z/Architecture
//! and 64-bit addressing, clears .bss (a reset by DIAGNOSE 0x308 enters here again with memory as
//! it was), fills the lowcore and calls Rust.

use super::lowcore;
use super::registers::{Cr0, Psw};
use super::{platform, smp};

/// Bytes that the hypervisor may use for the command line; published at 0x10430.
pub const COMMAND_LINE_SIZE: usize = 16384;

const STACK_SIZE: usize = 128 * 1024;
const EMERGENCY_STACK_SIZE: usize = 16 * 1024;

#[repr(C, align(4096))]
struct Stack<const N: usize>([u8; N]);

static mut STACK: Stack<STACK_SIZE> = Stack([0; STACK_SIZE]);
static mut EMERGENCY_STACK: Stack<EMERGENCY_STACK_SIZE> = Stack([0; EMERGENCY_STACK_SIZE]);

core::arch::global_asm!(
    ".section .boot, \"awx\"",
    ".globl _start",
    "_start:",
    // z/Architecture mode; a processor that is in it already answers with a status.
    "lghi %r1, 1",
    "sigp %r0, %r0, 18",
    "sam64",
    // .bss, including the stack.
    "larl %r2, __bss_start",
    "larl %r3, __bss_end",
    "0: xc 0(256, %r2), 0(%r2)",
    "la %r2, 256(%r2)",
    "clgr %r2, %r3",
    "jl 0b",
    // CR0: floating-point registers beyond the first four.
    "larl %r1, 2f",
    "lctlg %c0, %c0, 0(%r1)",
    "larl %r15, {stack}",
    "lgfi %r1, {top}",
    "agr %r15, %r1",
    "xc 0(8, %r15), 0(%r15)",
    "brasl %r14, {main}",
    "1: j 1b",
    ".balign 8",
    "2: .quad {cr0}",
    // Where the hypervisor looks for the command line's limit, and where it puts the line.
    ".org 0x430",
    ".quad {size}",
    ".org 0x480",
    ".globl __assay_command_line",
    "__assay_command_line:",
    ".zero {size}",
    ".text",
    stack = sym STACK,
    top = const STACK_SIZE - 160,
    main = sym main,
    cr0 = const Cr0::AT_RESET.bits() | Cr0::AFP.bits(),
    size = const COMMAND_LINE_SIZE,
);

unsafe extern "C" {
    static __assay_command_line: u8;
    static __image_end: u8;
}

/// The command line as the hypervisor left it.
pub(super) fn command_line() -> &'static [u8] {
    // SAFETY: the area is COMMAND_LINE_SIZE bytes of the image; nothing writes it after boot.
    unsafe { core::slice::from_raw_parts(&raw const __assay_command_line, COMMAND_LINE_SIZE) }
}

/// The addresses of the image, but for its first bytes.
pub(super) fn image() -> core::ops::Range<u64> {
    0x10010..&raw const __image_end as u64
}

extern "C" fn main() -> ! {
    // SAFETY: S4; only the addresses are taken.
    let emergency = &raw const EMERGENCY_STACK as u64 + EMERGENCY_STACK_SIZE as u64;
    // SAFETY: S4; the lowcore at 0 is ours, no other processor runs.
    unsafe { lowcore::fill(0, 0, emergency - lowcore::STACK_BIAS) };
    platform::init();
    smp::init();
    let end = &raw const __image_end as usize;
    let ram = platform::memory_map()[0].1 as usize;
    crate::memory::init(end, ram);
    crate::runner::main()
}

/// The PSW mask that the runtime runs under.
pub(super) const MASK: u64 = Psw::EA.bits() | Psw::BA.bits();
