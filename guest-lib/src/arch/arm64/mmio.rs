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
