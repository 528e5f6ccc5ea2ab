//! Model-specific registers: numbers, and access that returns the fault.

use crate::fault::{self, Fault};
use core::arch::asm;

/// RDMSR.
pub fn read(number: u32) -> Result<u64, Fault> {
    let mut value = 0u64;
    let target = &mut value;
    fault::catch(move || {
        let (low, high): (u32, u32);
        // SAFETY: S1; RDMSR changes EAX and EDX only.
        unsafe {
            asm!("rdmsr", in("ecx") number, out("eax") low, out("edx") high,
                options(nomem, nostack, preserves_flags));
        }
        *target = u64::from(high) << 32 | u64::from(low);
    })?;
    Ok(value)
}

/// WRMSR.
pub fn write(number: u32, value: u64) -> Result<(), Fault> {
    fault::catch(|| {
        // SAFETY: S1; what the register does is the case's business.
        unsafe {
            asm!("wrmsr", in("ecx") number, in("eax") value as u32, in("edx") (value >> 32) as u32,
                options(nostack, preserves_flags));
        }
    })
}

macro_rules! msrs {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        $($(#[$doc])* pub const $name: u32 = $number;)*
    };
}

msrs! {
    /// IA32_TIME_STAMP_COUNTER.
    TSC = 0x10;
    /// IA32_APIC_BASE.
    APIC_BASE = 0x1b;
    /// IA32_FEATURE_CONTROL.
    FEATURE_CONTROL = 0x3a;
    /// IA32_SYSENTER_CS.
    SYSENTER_CS = 0x174;
    /// IA32_SYSENTER_ESP.
    SYSENTER_ESP = 0x175;
    /// IA32_SYSENTER_EIP.
    SYSENTER_EIP = 0x176;
    /// IA32_DEBUGCTL.
    DEBUGCTL = 0x1d9;
    /// IA32_PAT.
    PAT = 0x277;
    /// IA32_EFER.
    EFER = 0xc000_0080;
    /// STAR.
    STAR = 0xc000_0081;
    /// LSTAR.
    LSTAR = 0xc000_0082;
    /// CSTAR.
    CSTAR = 0xc000_0083;
    /// SFMASK.
    SFMASK = 0xc000_0084;
    /// FS.Base.
    FS_BASE = 0xc000_0100;
    /// GS.Base.
    GS_BASE = 0xc000_0101;
    /// KernelGSBase.
    KERNEL_GS_BASE = 0xc000_0102;
    /// TSC_AUX.
    TSC_AUX = 0xc000_0103;
    /// VM_CR.
    VM_CR = 0xc001_0114;
    /// VM_HSAVE_PA.
    VM_HSAVE_PA = 0xc001_0117;
}
