//! The PSW, control registers and facility bits: names for bits, no filters.

use bitflags::bitflags;
use core::arch::asm;

bitflags! {
    /// Bits 0 to 63 of the PSW.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Psw: u64 {
        /// Program-event recording.
        const PER = 1 << (63 - 1);
        /// Address translation.
        const DAT = 1 << (63 - 5);
        /// I/O interruptions.
        const IO = 1 << (63 - 6);
        /// External interruptions.
        const EXTERNAL = 1 << (63 - 7);
        /// Bit 12, which must be zero in a 128-bit PSW and one in a 64-bit one.
        const SHORT = 1 << (63 - 12);
        /// Machine-check interruptions.
        const MACHINE_CHECK = 1 << (63 - 13);
        /// Wait state.
        const WAIT = 1 << (63 - 14);
        /// Problem state.
        const PROBLEM = 1 << (63 - 15);
        /// Extended addressing.
        const EA = 1 << (63 - 31);
        /// Basic addressing.
        const BA = 1 << (63 - 32);
    }

    /// Control register 0.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Cr0: u64 {
        /// Low-address protection.
        const LOW_ADDRESS_PROTECTION = 1 << (63 - 35);
        /// Fetch-protection override.
        const FETCH_PROTECTION_OVERRIDE = 1 << (63 - 38);
        /// Storage-protection override.
        const STORAGE_PROTECTION_OVERRIDE = 1 << (63 - 39);
        /// Enhanced DAT.
        const EDAT = 1 << (63 - 40);
        /// Instruction-execution protection.
        const IEP = 1 << (63 - 43);
        /// Floating-point registers beyond the first four.
        const AFP = 1 << (63 - 45);
        /// Vector registers.
        const VECTOR = 1 << (63 - 46);
        /// Emergency-signal interruptions.
        const EMERGENCY_SIGNAL = 1 << (63 - 49);
        /// External-call interruptions.
        const EXTERNAL_CALL = 1 << (63 - 50);
        /// Clock-comparator interruptions.
        const CLOCK_COMPARATOR = 1 << (63 - 52);
        /// CPU-timer interruptions.
        const CPU_TIMER = 1 << (63 - 53);
        /// Service-signal interruptions.
        const SERVICE_SIGNAL = 1 << (63 - 54);
        /// The value after a reset.
        const AT_RESET = 0xe0;
    }
}

/// Reads control register `N`.
pub fn control<const N: u8>() -> u64 {
    let mut value = 0u64;
    // SAFETY: S1; STCTG stores eight bytes at `value`.
    unsafe {
        asm!("stctg {n}, {n}, 0({p})", n = const N, p = in(reg_addr) &raw mut value,
            options(nostack, preserves_flags));
    }
    value
}

/// Loads control register `N`. A value that the runtime cannot live with ends the payload.
pub fn set_control<const N: u8>(value: u64) {
    // SAFETY: S1; LCTLG reads eight bytes at `value`.
    unsafe {
        asm!("lctlg {n}, {n}, 0({p})", n = const N, p = in(reg_addr) &raw const value,
            options(nostack, preserves_flags));
    }
}

/// A control register with a value for a while: the old one comes back on drop.
pub struct Control<const N: u8>(u64);

impl<const N: u8> Control<N> {
    /// Passes the current value through `change` and loads the result.
    pub fn changed(change: impl FnOnce(u64) -> u64) -> Self {
        let old = control::<N>();
        set_control::<N>(change(old));
        Control(old)
    }

    /// Loads `value`.
    pub fn loaded(value: u64) -> Self {
        Control::changed(|_| value)
    }

    /// The value that comes back.
    pub fn before(&self) -> u64 {
        self.0
    }
}

impl<const N: u8> Drop for Control<N> {
    fn drop(&mut self) {
        set_control::<N>(self.0);
    }
}

/// CR0 with `bits` set, for a while.
pub fn cr0_with(bits: Cr0) -> Control<0> {
    Control::changed(|old| old | bits.bits())
}

/// CR0 with `bits` cleared, for a while.
pub fn cr0_without(bits: Cr0) -> Control<0> {
    Control::changed(|old| old & !bits.bits())
}

/// The current PSW's mask, without the condition code's meaning.
pub fn psw_mask() -> u64 {
    let (high, low): (u64, u64);
    // SAFETY: EXTRACT PSW reads; S5.
    unsafe {
        asm!("epsw {a}, {b}", a = out(reg) high, b = out(reg) low,
            options(nomem, nostack, preserves_flags));
    }
    high << 32 | low & 0xffff_ffff
}

/// The facility list, 64 bits a word, as STORE FACILITY LIST EXTENDED gives it.
pub fn facilities() -> [u64; 4] {
    let mut list = [0u64; 4];
    // SAFETY: STFLE stores at most the four doublewords that GPR0 announces.
    unsafe {
        asm!("stfle 0({p})", p = in(reg_addr) &raw mut list, inout("r0") 3u64 => _,
            options(nostack));
    }
    list
}

/// Whether facility `n` is installed.
pub fn facility(n: usize) -> bool {
    n < 256 && facilities()[n / 64] >> (63 - n % 64) & 1 != 0
}
