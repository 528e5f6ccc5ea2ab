//! The prefix area: where each processor finds its new PSWs and leaves its old ones.
//!
//! Every processor has its own 8 KiB, so fields in it are per-processor variables that any code
//! can reach without knowing which processor runs it: real addresses below 8 KiB are prefixed.
//! The architecture leaves 0x200 to 0x11af to the program; the runtime keeps its own fields there.

use super::boot::MASK;
use core::arch::global_asm;

/// Real addresses in the prefix area.
pub mod offset {
    /// External interruption: parameter (32 bits).
    pub const EXTERNAL_PARAMETER: u64 = 0x80;
    /// External interruption: processor address, then code (16 bits each).
    pub const EXTERNAL_CPU: u64 = 0x84;
    /// SVC: instruction length, then number (16 bits each).
    pub const SVC: u64 = 0x88;
    /// Program interruption: instruction length, then code (16 bits each).
    pub const PROGRAM: u64 = 0x8c;
    /// Data-exception code (32 bits).
    pub const DATA_EXCEPTION: u64 = 0x90;
    /// Exception access identification.
    pub const EXCEPTION_ACCESS: u64 = 0xa0;
    /// Operand access identification.
    pub const OPERAND_ACCESS: u64 = 0xa2;
    /// Translation-exception identification.
    pub const TRANSLATION_EXCEPTION: u64 = 0xa8;
    /// I/O interruption: subsystem identification, parameter, word.
    pub const IO: u64 = 0xb8;
    /// Where STORE FACILITY LIST puts its word.
    pub const STFL: u64 = 0xc8;
    /// External interruption: 64-bit parameter.
    pub const EXTERNAL_PARAMETER_64: u64 = 0x11b8;
    /// Old PSWs.
    pub const RESTART_OLD: u64 = 0x120;
    /// External old PSW.
    pub const EXTERNAL_OLD: u64 = 0x130;
    /// Supervisor-call old PSW.
    pub const SVC_OLD: u64 = 0x140;
    /// Program old PSW.
    pub const PROGRAM_OLD: u64 = 0x150;
    /// Machine-check old PSW.
    pub const MACHINE_CHECK_OLD: u64 = 0x160;
    /// I/O old PSW.
    pub const IO_OLD: u64 = 0x170;
    /// New PSWs.
    pub const RESTART_NEW: u64 = 0x1a0;
    /// External new PSW.
    pub const EXTERNAL_NEW: u64 = 0x1b0;
    /// Supervisor-call new PSW.
    pub const SVC_NEW: u64 = 0x1c0;
    /// Program new PSW.
    pub const PROGRAM_NEW: u64 = 0x1d0;
    /// Machine-check new PSW.
    pub const MACHINE_CHECK_NEW: u64 = 0x1e0;
    /// I/O new PSW.
    pub const IO_NEW: u64 = 0x1f0;

    // The runtime's own fields.
    /// General registers at an interruption, by class.
    pub(crate) const SAVE_PROGRAM: u64 = 0x400;
    pub(crate) const SAVE_EXTERNAL: u64 = 0x480;
    pub(crate) const SAVE_IO: u64 = 0x500;
    pub(crate) const SAVE_SVC: u64 = 0x580;
    pub(crate) const SAVE_MACHINE_CHECK: u64 = 0x600;
    pub(crate) const SAVE_RESTART: u64 = 0x680;
    /// The PSW that an interruption handler returns to.
    pub(crate) const RETURN_PSW: u64 = 0x700;
    /// The innermost `catch` of this processor, or 0.
    pub(crate) const RECOVERY: u64 = 0x710;
    /// This processor's place in the platform's list.
    pub(crate) const CPU_INDEX: u64 = 0x718;
    /// Stack for reports about faults that nobody caught.
    pub(crate) const EMERGENCY_STACK: u64 = 0x720;
    /// Stack of a processor that is being started.
    pub(crate) const START_STACK: u64 = 0x728;
    /// The PSW key that `exec::execute` gives to the instruction.
    pub(crate) const OPERAND_KEY: u64 = 0x730;
    /// The instruction buffer of `exec::execute`; away from fields that change all the time.
    pub(crate) const CODE: u64 = 0x1f00;
    /// What the last caught fault left at 0x8c to 0xb0, and its old PSW.
    pub(crate) const FAULT: u64 = 0x740;
    pub(crate) const FAULT_PSW: u64 = 0x770;
}

/// Size and alignment of a prefix area.
pub const SIZE: usize = 8192;

/// Room that a stack pointer leaves above it for the function it calls.
pub(super) const STACK_BIAS: u64 = 160;

/// Reads 64 bits at a real address of this processor's prefix area.
pub fn read64(offset: u64) -> u64 {
    debug_assert!(offset < SIZE as u64);
    // SAFETY: S2; the prefix area is RAM. `asm` because a null-based pointer is none to Rust.
    unsafe {
        let value;
        core::arch::asm!("lg {v}, 0({a})", v = out(reg) value, a = in(reg_addr) offset,
            options(nostack, preserves_flags, readonly));
        value
    }
}

/// Writes 64 bits at a real address of this processor's prefix area.
///
/// New PSWs and the runtime's own fields can be overwritten with this.
pub fn write64(offset: u64, value: u64) {
    debug_assert!(offset < SIZE as u64);
    // SAFETY: S2; as `read64`.
    unsafe {
        core::arch::asm!("stg {v}, 0({a})", v = in(reg) value, a = in(reg_addr) offset,
            options(nostack, preserves_flags));
    }
}

/// Reads 32 bits of this processor's prefix area.
pub fn read32(offset: u64) -> u32 {
    let word = read64(offset & !7);
    if offset & 4 == 0 {
        (word >> 32) as u32
    } else {
        word as u32
    }
}

/// Reads 16 bits of this processor's prefix area.
pub fn read16(offset: u64) -> u16 {
    let word = read32(offset & !3);
    if offset & 2 == 0 {
        (word >> 16) as u16
    } else {
        word as u16
    }
}

/// Writes 32 bits of this processor's prefix area.
pub fn write32(offset: u64, value: u32) {
    let word = read64(offset & !7);
    let value = u64::from(value);
    write64(
        offset & !7,
        if offset & 4 == 0 {
            word & 0xffff_ffff | value << 32
        } else {
            word & !0xffff_ffff | value
        },
    );
}

unsafe extern "C" {
    fn __assay_program();
    fn __assay_external();
    fn __assay_io();
    fn __assay_svc();
    fn __assay_machine_check();
    fn __assay_restart();
}

/// Makes the prefix area at absolute address `area` ready for a processor.
///
/// # Safety
///
/// The area is RAM that nothing else uses, and no processor runs with it.
pub(super) unsafe fn fill(area: u64, index: usize, emergency_stack: u64) {
    let put = |offset: u64, value: u64| {
        let target = area + offset;
        // SAFETY: the caller owns the area; S2. `asm` because the area may be at 0.
        unsafe {
            core::arch::asm!("stg {v}, 0({a})", v = in(reg) value, a = in(reg_addr) target,
                options(nostack, preserves_flags));
        }
    };
    for (new, handler) in [
        (offset::PROGRAM_NEW, __assay_program as *const () as u64),
        (offset::EXTERNAL_NEW, __assay_external as *const () as u64),
        (offset::IO_NEW, __assay_io as *const () as u64),
        (offset::SVC_NEW, __assay_svc as *const () as u64),
        (
            offset::MACHINE_CHECK_NEW,
            __assay_machine_check as *const () as u64,
        ),
        (offset::RESTART_NEW, __assay_restart as *const () as u64),
    ] {
        put(new, MASK);
        put(new + 8, handler);
    }
    put(offset::RECOVERY, 0);
    put(offset::OPERAND_KEY, 0);
    put(offset::CPU_INDEX, index as u64);
    put(offset::EMERGENCY_STACK, emergency_stack);
}

// Every handler but the program's: save the registers, build a `Context` on the interrupted
// stack, call Rust with it, and go where the context then says.
global_asm!(
    ".macro ASSAY_INTERRUPTION name, save, old, handler",
    ".globl \\name",
    ".balign 8",
    "\\name:",
    "stmg %r0, %r15, \\save",
    "aghi %r15, -(160 + 16 + 128)",
    "mvc 160(16, %r15), \\old",
    "mvc 176(128, %r15), \\save",
    "xc 0(8, %r15), 0(%r15)",
    "la %r2, 160(%r15)",
    "brasl %r14, \\handler",
    "mvc {return_psw}(16), 160(%r15)",
    "lmg %r0, %r15, 176(%r15)",
    "lpswe {return_psw}",
    ".endm",
    "ASSAY_INTERRUPTION __assay_external, {save_external}, {external_old}, {external}",
    "ASSAY_INTERRUPTION __assay_io, {save_io}, {io_old}, {io}",
    "ASSAY_INTERRUPTION __assay_svc, {save_svc}, {svc_old}, {svc}",
    "ASSAY_INTERRUPTION __assay_machine_check, {save_mc}, {mc_old}, {machine_check}",
    "ASSAY_INTERRUPTION __assay_restart, {save_restart}, {restart_old}, {restart}",
    return_psw = const offset::RETURN_PSW,
    save_external = const offset::SAVE_EXTERNAL,
    external_old = const offset::EXTERNAL_OLD,
    external = sym super::interrupts::external,
    save_io = const offset::SAVE_IO,
    io_old = const offset::IO_OLD,
    io = sym super::interrupts::io,
    save_svc = const offset::SAVE_SVC,
    svc_old = const offset::SVC_OLD,
    svc = sym super::interrupts::svc,
    save_mc = const offset::SAVE_MACHINE_CHECK,
    mc_old = const offset::MACHINE_CHECK_OLD,
    machine_check = sym super::interrupts::machine_check,
    save_restart = const offset::SAVE_RESTART,
    restart_old = const offset::RESTART_OLD,
    restart = sym super::interrupts::restart,
);

/// A spare prefix area: a copy of the current one, which this processor can live with. The prefix
/// is as before when this is dropped.
pub struct PrefixArea {
    frames: crate::memory::Frames,
    before: u32,
}

impl PrefixArea {
    /// Its absolute address.
    pub fn address(&self) -> u64 {
        self.frames.address()
    }

    /// Its bytes, by absolute address while it is not the current prefix area.
    pub fn frames(&self) -> &crate::memory::Frames {
        &self.frames
    }

    /// The current prefix, by STORE PREFIX.
    pub fn current(&self) -> Result<u64, super::fault::Fault> {
        let word = crate::memory::Frames::new(1);
        super::cpu::store_prefix(word.address())?;
        Ok(word.read::<u32>(0).into())
    }

    /// Makes it the current one.
    pub fn enter(&self) -> Result<(), super::fault::Fault> {
        self.load(self.address() as u32)
    }

    /// Makes the prefix area as it was at first the current one.
    pub fn back(&self) -> Result<(), super::fault::Fault> {
        self.load(self.before)
    }

    fn load(&self, prefix: u32) -> Result<(), super::fault::Fault> {
        let word = crate::memory::Frames::new(1);
        word.write(0, prefix);
        super::cpu::set_prefix(word.address())
    }
}

impl crate::case::Fixture for PrefixArea {
    fn fresh() -> Result<Self, crate::case::Stop> {
        let frames = crate::memory::Frames::aligned(SIZE / 4096, SIZE);
        for offset in (0..SIZE).step_by(8) {
            frames.write(offset, read64(offset as u64));
        }
        let mut area = PrefixArea { frames, before: 0 };
        area.before = area.current()? as u32;
        Ok(area)
    }
}

impl Drop for PrefixArea {
    fn drop(&mut self) {
        // The old prefix was in use, so it is good.
        let _ = self.back();
    }
}
