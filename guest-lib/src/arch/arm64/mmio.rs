//! Device registers: volatile accesses of one width, each one instruction of a known form.
//!
//! A hypervisor decodes the plain forms from the syndrome alone (ISV = 1), so the runtime uses only
//! those: base register without writeback. [`forms`] has the others, for cases about them.

use core::arch::asm;

/// A block of device registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mmio {
    base: u64,
}

macro_rules! accesses {
    ($($read:ident $write:ident $type:ty, $load:literal, $store:literal, $shape:literal;)*) => { $(
        /// One load at `offset`.
        #[inline(always)]
        pub fn $read(self, offset: u64) -> $type {
            let value: $type;
            // SAFETY: S2, S3, S5; devices are mapped one to one, and a wrong address is a fault.
            unsafe {
                asm!(
                    concat!($load, " {v", $shape, "}, [{a}]"),
                    v = out(reg) value, a = in(reg) self.base + offset,
                    options(nostack, preserves_flags),
                );
            }
            value
        }

        /// One store at `offset`.
        #[inline(always)]
        pub fn $write(self, offset: u64, value: $type) {
            // SAFETY: S2, S3, S5; as above. The caller names the device it owns.
            unsafe {
                asm!(
                    concat!($store, " {v", $shape, "}, [{a}]"),
                    v = in(reg) value, a = in(reg) self.base + offset,
                    options(nostack, preserves_flags),
                );
            }
        }
    )* };
}

impl Mmio {
    /// The registers at `base`.
    pub const fn new(base: u64) -> Self {
        Mmio { base }
    }

    /// Address of the first register.
    pub const fn base(self) -> u64 {
        self.base
    }

    /// The registers `offset` further on.
    pub const fn at(self, offset: u64) -> Self {
        Mmio {
            base: self.base + offset,
        }
    }

    accesses! {
        read8 write8 u8, "ldrb", "strb", ":w";
        read16 write16 u16, "ldrh", "strh", ":w";
        read32 write32 u32, "ldr", "str", ":w";
        read64 write64 u64, "ldr", "str", ":x";
    }
}

/// Loads and stores of less plain forms. Each is one instruction on `address`.
pub mod forms {
    use super::asm;

    macro_rules! loads {
        ($($(#[doc = $doc:literal])+ $name:ident $text:literal;)*) => { $(
            $(#[doc = $doc])+
            ///
            /// The destination held all ones before, so that an extension that is missing shows.
            pub fn $name(address: u64) -> u64 {
                let value: u64;
                // SAFETY: S2, S3, S5; a load; a wrong address is a fault.
                unsafe {
                    asm!(
                        $text, v = inout(reg) !0u64 => value, a = in(reg) address,
                        options(nostack, preserves_flags),
                    );
                }
                value
            }
        )* };
    }

    loads! {
        /// LDRB to a W register: zero-extended.
        ldrb "ldrb {v:w}, [{a}]";
        /// LDRH to a W register: zero-extended.
        ldrh "ldrh {v:w}, [{a}]";
        /// LDR to a W register: zero-extended.
        ldr_w "ldr {v:w}, [{a}]";
        /// LDR to an X register.
        ldr_x "ldr {v:x}, [{a}]";
        /// LDRSB to a W register: sign-extended to 32 bits, the upper half zero.
        ldrsb_w "ldrsb {v:w}, [{a}]";
        /// LDRSB to an X register: sign-extended to 64 bits.
        ldrsb_x "ldrsb {v:x}, [{a}]";
        /// LDRSH to a W register.
        ldrsh_w "ldrsh {v:w}, [{a}]";
        /// LDRSH to an X register.
        ldrsh_x "ldrsh {v:x}, [{a}]";
        /// LDRSW to an X register.
        ldrsw_x "ldrsw {v:x}, [{a}]";
        /// LDAR to a W register: a load-acquire.
        ldar_w "ldar {v:w}, [{a}]";
        /// LDUR with an offset of zero.
        ldur_w "ldur {v:w}, [{a}]";
    }

    /// LDR W, post-indexed by `4`: the value and the base register afterwards.
    pub fn ldr_post_index(address: u64) -> (u64, u64) {
        let (value, base);
        // SAFETY: S2, S3, S5; a load; a wrong address is a fault.
        unsafe {
            asm!(
                "ldr {v:w}, [{a}], #4", v = inout(reg) !0u64 => value, a = inout(reg) address => base,
                options(nostack, preserves_flags),
            );
        }
        (value, base)
    }

    /// LDR W, pre-indexed by `4` from `address - 4`: the value and the base register afterwards.
    pub fn ldr_pre_index(address: u64) -> (u64, u64) {
        let (value, base);
        // SAFETY: S2, S3, S5; a load; a wrong address is a fault.
        unsafe {
            asm!(
                "ldr {v:w}, [{a}, #4]!",
                v = inout(reg) !0u64 => value, a = inout(reg) address - 4 => base,
                options(nostack, preserves_flags),
            );
        }
        (value, base)
    }

    /// LDP of two W registers.
    pub fn ldp_w(address: u64) -> (u64, u64) {
        let (first, second);
        // SAFETY: S2, S3, S5; a load; a wrong address is a fault.
        unsafe {
            asm!(
                "ldp {v:w}, {u:w}, [{a}]",
                v = inout(reg) !0u64 => first, u = inout(reg) !0u64 => second, a = in(reg) address,
                options(nostack, preserves_flags),
            );
        }
        (first, second)
    }

    /// STP of two W registers.
    pub fn stp_w(address: u64, first: u32, second: u32) {
        // SAFETY: S2, S3, S5; a store to a device that the caller owns.
        unsafe {
            asm!(
                "stp {v:w}, {u:w}, [{a}]", v = in(reg) first, u = in(reg) second, a = in(reg) address,
                options(nostack, preserves_flags),
            );
        }
    }

    /// STR W, post-indexed by 4: the base register afterwards.
    pub fn str_post_index(address: u64, value: u32) -> u64 {
        let base;
        // SAFETY: S2, S3, S5; a store to a device that the caller owns.
        unsafe {
            asm!(
                "str {v:w}, [{a}], #4", v = in(reg) value, a = inout(reg) address => base,
                options(nostack, preserves_flags),
            );
        }
        base
    }

    /// STR WZR.
    pub fn str_wzr(address: u64) {
        // SAFETY: S2, S3, S5; a store to a device that the caller owns.
        unsafe { asm!("str wzr, [{a}]", a = in(reg) address, options(nostack, preserves_flags)) };
    }

    /// STR XZR.
    pub fn str_xzr(address: u64) {
        // SAFETY: S2, S3, S5; a store to a device that the caller owns.
        unsafe { asm!("str xzr, [{a}]", a = in(reg) address, options(nostack, preserves_flags)) };
    }

    /// LDR WZR: the value is thrown away. Returns what XZR reads as afterwards.
    pub fn ldr_wzr(address: u64) -> u64 {
        let after: u64;
        // SAFETY: S2, S3, S5; a load; a wrong address is a fault.
        unsafe {
            asm!(
                "ldr wzr, [{a}]", "mov {v}, xzr", a = in(reg) address, v = out(reg) after,
                options(nostack, preserves_flags),
            );
        }
        after
    }

    /// LDR W30 with the stack pointer as base register: destination and base that a decoder
    /// of register numbers gets wrong most easily (31 is SP here, not XZR).
    pub fn ldr_w30_sp(address: u64) -> u64 {
        let value: u64;
        // SAFETY: S2, S3, S5; SP holds the device's address for one instruction with interrupts
        // masked, and an exception uses a stack of its own.
        unsafe {
            asm!(
                "mov {s}, sp", "mov sp, {a}", "mov x30, #-1", "ldr w30, [sp]", "mov sp, {s}",
                "mov {v}, x30",
                s = out(reg) _, a = in(reg) address, v = lateout(reg) value, out("x30") _,
                options(preserves_flags),
            );
        }
        value
    }
}
