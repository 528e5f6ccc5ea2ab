//! Control registers and flags: every bit named, none filtered.
//!
//! `read` keeps bits that have no name, and `write` writes what it is given and returns the fault,
//! if there is one. Spec: SDM 3A 2.5; APM 2 3.1.

#![expect(missing_docs, reason = "bits are named by the manual's mnemonics")]

use super::{cpu, cpuid, msr};
use crate::fault::Fault;
use bitflags::bitflags;

bitflags! {
    /// CR0.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Cr0: u64 {
        const PE = 1 << 0;
        const MP = 1 << 1;
        const EM = 1 << 2;
        const TS = 1 << 3;
        const ET = 1 << 4;
        const NE = 1 << 5;
        const WP = 1 << 16;
        const AM = 1 << 18;
        const NW = 1 << 29;
        const CD = 1 << 30;
        const PG = 1 << 31;
    }

    /// CR4.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Cr4: u64 {
        const VME = 1 << 0;
        const PVI = 1 << 1;
        const TSD = 1 << 2;
        const DE = 1 << 3;
        const PSE = 1 << 4;
        const PAE = 1 << 5;
        const MCE = 1 << 6;
        const PGE = 1 << 7;
        const PCE = 1 << 8;
        const OSFXSR = 1 << 9;
        const OSXMMEXCPT = 1 << 10;
        const UMIP = 1 << 11;
        const LA57 = 1 << 12;
        const VMXE = 1 << 13;
        const SMXE = 1 << 14;
        const FSGSBASE = 1 << 16;
        const PCIDE = 1 << 17;
        const OSXSAVE = 1 << 18;
        const SMEP = 1 << 20;
        const SMAP = 1 << 21;
        const PKE = 1 << 22;
        const CET = 1 << 23;
        const PKS = 1 << 24;
        const UINTR = 1 << 25;
    }

    /// EFER (MSR C000_0080h).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Efer: u64 {
        const SCE = 1 << 0;
        const LME = 1 << 8;
        const LMA = 1 << 10;
        const NXE = 1 << 11;
        const SVME = 1 << 12;
        const LMSLE = 1 << 13;
        const FFXSR = 1 << 14;
        const TCE = 1 << 15;
    }

    /// RFLAGS.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Rflags: u64 {
        const CF = 1 << 0;
        const FIXED = 1 << 1;
        const PF = 1 << 2;
        const AF = 1 << 4;
        const ZF = 1 << 6;
        const SF = 1 << 7;
        const TF = 1 << 8;
        const IF = 1 << 9;
        const DF = 1 << 10;
        const OF = 1 << 11;
        const IOPL = 3 << 12;
        const NT = 1 << 14;
        const RF = 1 << 16;
        const VM = 1 << 17;
        const AC = 1 << 18;
        const VIF = 1 << 19;
        const VIP = 1 << 20;
        const ID = 1 << 21;
    }
}

macro_rules! control_register {
    ($name:ident, $read:path, $write:path) => {
        impl $name {
            /// The register, with all its bits.
            pub fn read() -> Self {
                $name::from_bits_retain($read())
            }
            /// Writes the value as it is.
            pub fn write(self) -> Result<(), Fault> {
                $write(self.bits())
            }
        }
    };
}

control_register!(Cr0, cpu::read_cr0, cpu::write_cr0);
control_register!(Cr4, cpu::read_cr4, cpu::write_cr4);

impl Efer {
    /// The register, with all its bits.
    pub fn read() -> Self {
        Efer::from_bits_retain(msr::read(msr::EFER).unwrap_or(0))
    }
    /// Writes the value as it is.
    pub fn write(self) -> Result<(), Fault> {
        msr::write(msr::EFER, self.bits())
    }
}

/// Turns NX on where there is one, as the page tables of [`super::paging`] expect.
pub(super) fn init_efer() {
    if cpuid::has_nx() {
        // A processor that announces NX and refuses the bit shows up in the paging cases.
        let _ = (Efer::read() | Efer::NXE).write();
    }
}

/// Puts CR0, CR4 and EFER back when dropped: what a case that changes them holds.
#[derive(Debug)]
pub struct SavedControl {
    cr0: u64,
    cr4: u64,
    efer: u64,
}

impl SavedControl {
    /// Notes the current values.
    #[expect(clippy::new_without_default, reason = "it reads the machine")]
    pub fn new() -> Self {
        SavedControl {
            cr0: cpu::read_cr0(),
            cr4: cpu::read_cr4(),
            efer: Efer::read().bits(),
        }
    }
}

impl Drop for SavedControl {
    fn drop(&mut self) {
        // The values were in force before, so the processor takes them; if it does not, the
        // cases that follow show it.
        let _ = cpu::write_cr4(self.cr4);
        let _ = cpu::write_cr0(self.cr0);
        let _ = msr::write(msr::EFER, self.efer);
    }
}
