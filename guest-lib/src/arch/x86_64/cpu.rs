//! Privileged instructions and the small change of a processor.

use crate::fault::{self, Fault};
use core::arch::asm;

/// How many pauses there are between two looks at a device: some hundred microseconds on an
/// emulator.
pub(crate) const RELAXES_BETWEEN_POLLS: u32 = 500;

/// PAUSE.
pub fn relax() {
    core::hint::spin_loop();
}

/// Spinning processors see memory at once; nothing to do.
pub fn wake_others() {}

/// Calls `visit` with return addresses, innermost first, by frame pointers.
pub fn backtrace(mut visit: impl FnMut(u64)) {
    let mut frame: u64;
    // SAFETY: reads RBP.
    unsafe { asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack, preserves_flags)) };
    for _ in 0..16 {
        // Frames live in RAM that is mapped one to one (S2); anything else ends the walk.
        if !(0x1000..0xc000_0000).contains(&frame) || frame & 7 != 0 {
            return;
        }
        // SAFETY: S2; two words of a stack frame, only read.
        let [next, address] = unsafe { core::ptr::read_volatile(frame as *const [u64; 2]) };
        if address == 0 {
            return;
        }
        visit(address);
        if next <= frame {
            return;
        }
        frame = next;
    }
}

macro_rules! control {
    ($($read:ident $write:ident $name:literal;)*) => {$(
        #[doc = concat!("MOV from ", $name, ".")]
        pub fn $read() -> u64 {
            let value;
            // SAFETY: S1; only reads.
            unsafe {
                asm!(concat!("mov {}, ", $name), out(reg) value,
                    options(nomem, nostack, preserves_flags));
            }
            value
        }
        #[doc = concat!("MOV to ", $name, "; any value.")]
        pub fn $write(value: u64) -> Result<(), Fault> {
            fault::catch(|| {
                // SAFETY: S1; what the register does is the case's business.
                unsafe { asm!(concat!("mov ", $name, ", {}"), in(reg) value, options(nostack)) }
            })
        }
    )*};
}

control! {
    read_cr0 write_cr0 "cr0";
    read_cr2 write_cr2 "cr2";
    read_cr3 write_cr3 "cr3";
    read_cr4 write_cr4 "cr4";
    read_cr8 write_cr8 "cr8";
    read_dr0 write_dr0 "dr0";
    read_dr1 write_dr1 "dr1";
    read_dr2 write_dr2 "dr2";
    read_dr3 write_dr3 "dr3";
    read_dr6 write_dr6 "dr6";
    read_dr7 write_dr7 "dr7";
}

/// RFLAGS.
pub fn rflags() -> u64 {
    let value;
    // SAFETY: pushes and pops one word.
    unsafe { asm!("pushfq", "pop {}", out(reg) value, options(preserves_flags)) };
    value
}

/// STI.
pub fn enable_interrupts() {
    // SAFETY: S1; handlers keep the registers.
    unsafe { asm!("sti", options(nostack)) };
}

/// CLI.
pub fn disable_interrupts() {
    // SAFETY: S1.
    unsafe { asm!("cli", options(nostack)) };
}

/// STI; HLT: waits for an interrupt without a window in which it could be lost; then CLI.
pub fn wait_for_interrupt() {
    // SAFETY: S1; handlers keep the registers.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
}

/// Runs `f` with interrupts on.
pub fn with_interrupts<T>(f: impl FnOnce() -> T) -> T {
    enable_interrupts();
    let result = f();
    disable_interrupts();
    result
}

/// OUT of a byte.
pub fn outb(port: u16, value: u8) {
    // SAFETY: S3.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack, preserves_flags)) };
}

/// REP OUTSB: all `bytes`, one after the other.
pub fn outsb(port: u16, bytes: &[u8]) {
    // SAFETY: S3; reads the slice; DF is clear.
    unsafe {
        asm!("rep outsb", in("dx") port, inout("rsi") bytes.as_ptr() => _,
            inout("rcx") bytes.len() => _, options(nostack, preserves_flags, readonly));
    };
}

/// OUT of a word.
pub fn outw(port: u16, value: u16) {
    // SAFETY: S3.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nostack, preserves_flags)) };
}

/// OUT of a doubleword.
pub fn outl(port: u16, value: u32) {
    // SAFETY: S3.
    unsafe {
        asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack, preserves_flags));
    };
}

/// IN of a byte.
pub fn inb(port: u16) -> u8 {
    let value;
    // SAFETY: S3.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nostack, preserves_flags)) };
    value
}

/// IN of a word.
pub fn inw(port: u16) -> u16 {
    let value;
    // SAFETY: S3.
    unsafe { asm!("in ax, dx", in("dx") port, out("ax") value, options(nostack, preserves_flags)) };
    value
}

/// IN of a doubleword.
pub fn inl(port: u16) -> u32 {
    let value;
    // SAFETY: S3.
    unsafe {
        asm!("in eax, dx", in("dx") port, out("eax") value, options(nostack, preserves_flags));
    };
    value
}

/// RDTSC, after earlier loads.
pub fn rdtsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: S5.
    unsafe {
        asm!("lfence", "rdtsc", out("eax") low, out("edx") high, options(nomem, nostack));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// INVLPG.
pub fn invlpg(address: u64) {
    // SAFETY: S1; translations are only forgotten.
    unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack, preserves_flags)) };
}

/// HLT for ever with interrupts off.
pub fn halt() -> ! {
    loop {
        // SAFETY: S1.
        unsafe { asm!("cli", "hlt", options(nostack)) };
    }
}

/// UD2.
pub fn ud2() {
    // SAFETY: raises #UD, which `catch` takes.
    unsafe { asm!("ud2", options(nostack)) };
}

/// Stores a byte to any linear address; for cases that expect a fault there.
///
/// The runtime's own memory is not protected: the address is the case's responsibility.
pub fn poke(address: u64, value: u8) -> Result<(), Fault> {
    fault::catch(|| {
        // SAFETY: asm, so that the compiler knows nothing of the address.
        unsafe { asm!("mov [{}], {}", in(reg) address, in(reg_byte) value, options(nostack)) }
    })
}

/// Loads a byte from any linear address.
pub fn peek(address: u64) -> Result<u8, Fault> {
    fault::catch(|| {
        let value;
        // SAFETY: asm, so that the compiler knows nothing of the address.
        unsafe {
            asm!("mov {}, [{}]", out(reg_byte) value, in(reg) address,
                options(nostack, preserves_flags));
        }
        value
    })
}

/// Calls code at any linear address, which must end with RET and keep all registers but RAX.
/// Returns RAX.
pub fn call(address: u64) -> Result<u64, Fault> {
    fault::catch(|| {
        let value;
        // SAFETY: the case put code there that keeps the contract, or expects the fault.
        unsafe { asm!("call {}", in(reg) address, lateout("rax") value) };
        value
    })
}

/// Calls 32-bit code below 4 GiB in compatibility mode at privilege level 0. It must end with a
/// 32-bit RETF and may change EAX, ECX, EDX. `eax` goes in, EAX comes out.
pub fn call_compat(address: u64, eax: u32) -> Result<u32, Fault> {
    #[repr(C, packed)]
    struct FarPointer(u32, u16);
    let target = FarPointer(address as u32, super::segments::KERNEL_CODE32);
    fault::catch(|| {
        let value;
        // SAFETY: the case put code there that keeps the contract, or expects the fault.
        unsafe {
            asm!("call fword ptr [{}]", in(reg) &target, inlateout("eax") eax => value,
                out("ecx") _, out("edx") _);
        }
        value
    })
}

/// Sets RFLAGS to `value` and returns with them.
pub fn set_rflags(value: u64) {
    // SAFETY: S1; the case answers for what the flags do.
    unsafe { asm!("push {}", "popfq", in(reg) value) };
}

/// MOV to DS; any selector.
pub fn load_ds(selector: u16) -> Result<(), Fault> {
    // SAFETY: S1; DS has no base in 64-bit mode, so any descriptor that loads will do.
    fault::catch(|| unsafe { asm!("mov ds, {0:x}", in(reg) selector, options(nostack)) })
}

/// MOV to SS; any selector.
pub fn load_ss(selector: u16) -> Result<(), Fault> {
    // SAFETY: as `load_ds`; the runtime's own selector returns afterwards.
    fault::catch(|| unsafe {
        asm!("mov ss, {0:x}", "mov ss, {1:x}", in(reg) selector,
            in(reg) super::segments::KERNEL_DATA, options(nostack));
    })
}

/// RSP now: near enough to tell stacks apart.
pub fn stack_pointer() -> u64 {
    let value;
    // SAFETY: reads RSP.
    unsafe { asm!("mov {}, rsp", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// As [`call`], with nothing to catch a fault: for code that runs inside another `catch`.
pub fn call_raw(address: u64) -> u64 {
    let value;
    // SAFETY: the case put code there that keeps the contract, or catches the fault.
    unsafe { asm!("call {}", in(reg) address, lateout("rax") value) };
    value
}

/// As [`peek`], with nothing to catch a fault.
pub fn peek_raw(address: u64) -> u64 {
    let value: u64;
    // SAFETY: asm, so that the compiler knows nothing of the address.
    unsafe {
        asm!("movzx {0:e}, byte ptr [{1}]", out(reg) value, in(reg) address,
            options(nostack, preserves_flags));
    }
    value
}

/// As [`poke`], with nothing to catch a fault. Returns 0.
pub fn poke_raw(address: u64, value: u8) -> u64 {
    // SAFETY: asm, so that the compiler knows nothing of the address.
    unsafe { asm!("mov [{}], {}", in(reg) address, in(reg_byte) value, options(nostack)) };
    0
}
