//! Fields of PSTATE that have a register of their own, to be read where they are in force.

use core::arch::asm;

macro_rules! fields {
    ($($(#[doc = $doc:literal])+ $name:ident = $asm:literal;)*) => { $(
        $(#[doc = $doc])+
        pub fn $name() -> u64 {
            let value: u64;
            // SAFETY: S5; a read, or a fault that is caught.
            unsafe {
                asm!(concat!("mrs {}, ", $asm), out(reg) value, options(nostack, preserves_flags));
            }
            value
        }
    )* };
}

fields! {
    /// PAN, bit 22 (FEAT_PAN).
    pan = "S3_0_C4_C2_3";
    /// UAO, bit 23 (FEAT_UAO).
    uao = "S3_0_C4_C2_4";
    /// DIT, bit 24 (FEAT_DIT).
    dit = "S3_3_C4_C2_5";
    /// SSBS, bit 12 (FEAT_SSBS2).
    ssbs = "S3_3_C4_C2_6";
    /// TCO, bit 25 (FEAT_MTE).
    tco = "S3_3_C4_C2_7";
    /// D, A, I and F, bits 9 to 6.
    daif = "daif";
}
