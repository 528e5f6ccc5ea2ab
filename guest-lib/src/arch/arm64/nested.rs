//! EL1 under the payload's own EL2: the smallest guest.
//!
//! A payload at EL2 (HCR_EL2.{E2H, TGE} = {1, 1}) has no EL1. [`Nested`] clears TGE, so that there is
//! one, with its MMU off and, unless a case asks for it, without a second stage. A piece of code is
//! entered there and ends with an exception to EL2, usually HVC. Only one thing is set at a time, so
//! a case sees what one trap bit does.

use super::enter::{MASKED, State, enter};
use super::fault::Frame;
use super::registers::HcrEl2;
use crate::case::{Fixture, Stop, skip};
use crate::memory::Frames;
use core::arch::asm;

/// Bits of HCR_EL2.
pub mod hcr {
    /// Stage 2 translation.
    pub const VM: u64 = 1 << 0;
    /// Route SError to EL2, and let VSE work.
    pub const AMO: u64 = 1 << 5;
    /// Route IRQ to EL2, and let VI work.
    pub const IMO: u64 = 1 << 4;
    /// Route FIQ to EL2, and let VF work.
    pub const FMO: u64 = 1 << 3;
    /// A virtual FIQ is pending.
    pub const VF: u64 = 1 << 6;
    /// A virtual IRQ is pending.
    pub const VI: u64 = 1 << 7;
    /// A virtual SError is pending.
    pub const VSE: u64 = 1 << 8;
    /// Trap WFI.
    pub const TWI: u64 = 1 << 13;
    /// Trap WFE.
    pub const TWE: u64 = 1 << 14;
    /// Trap ID group 1 (REVIDR, AIDR, SMIDR).
    pub const TID1: u64 = 1 << 16;
    /// Trap ID group 2 (CTR, CCSIDR, CLIDR, CSSELR).
    pub const TID2: u64 = 1 << 17;
    /// Trap ID group 3 (the ID_* registers).
    pub const TID3: u64 = 1 << 18;
    /// Trap SMC.
    pub const TSC: u64 = 1 << 19;
    /// Trap writes of EL1's virtual memory controls.
    pub const TVM: u64 = 1 << 26;
    /// Trap TLB maintenance.
    pub const TTLB: u64 = 1 << 25;
    /// General exceptions go to EL2; with E2H, EL0 belongs to EL2.
    pub const TGE: u64 = 1 << 27;
    /// HVC is undefined.
    pub const HCD: u64 = 1 << 29;
    /// Trap reads of EL1's virtual memory controls.
    pub const TRVM: u64 = 1 << 30;
    /// EL1 is AArch64.
    pub const RW: u64 = 1 << 31;
    /// EL2 hosts.
    pub const E2H: u64 = 1 << 34;
}

macro_rules! el2_registers {
    ($($(#[doc = $doc:literal])+ $name:ident = $asm:literal;)*) => { $(
        $(#[doc = $doc])+
        pub struct $name;
        impl $name {
            /// MRS.
            pub fn read() -> u64 {
                let value: u64;
                // SAFETY: S1, S5; a read, or a fault that is caught.
                unsafe {
                    asm!(concat!("mrs {}, ", $asm), out(reg) value,
                        options(nostack, preserves_flags));
                }
                value
            }

            /// MSR, with an ISB after it.
            pub fn write(value: u64) {
                // SAFETY: S1, S5; the caller changes the machine it tests on purpose.
                unsafe {
                    asm!(concat!("msr ", $asm, ", {}"), "isb", in(reg) value,
                        options(nostack, preserves_flags));
                }
            }
        }
    )* };
}

el2_registers! {
    /// System control of EL1.
    SctlrEl12 = "S3_5_C1_C0_0";
    /// Return address of EL1.
    ElrEl12 = "S3_5_C4_C0_1";
    /// Saved PSTATE of EL1.
    SpsrEl12 = "S3_5_C4_C0_0";
    /// Syndrome of EL1.
    EsrEl12 = "S3_5_C5_C2_0";
    /// Fault address of EL1.
    FarEl12 = "S3_5_C6_C0_0";
    /// Vector base of EL1.
    VbarEl12 = "S3_5_C12_C0_0";
    /// System control of EL2 by its own name.
    SctlrEl2 = "S3_4_C1_C0_0";
    /// Stage 2 control.
    VtcrEl2 = "S3_4_C2_C1_2";
    /// Stage 2 base.
    VttbrEl2 = "S3_4_C2_C1_0";
    /// Faulting intermediate address.
    HpfarEl2 = "S3_4_C6_C0_4";
    /// MIDR_EL1 as EL1 reads it.
    VpidrEl2 = "S3_4_C0_C0_0";
    /// MPIDR_EL1 as EL1 reads it.
    VmpidrEl2 = "S3_4_C0_C0_5";
    /// Syndrome of a virtual SError (FEAT_RAS).
    VsesrEl2 = "S3_4_C5_C2_3";
}

/// EL1 as a guest.
pub struct Nested {
    host: u64,
    offset: u64,
    midr: u64,
    mpidr: u64,
    vectors: Frames,
}

/// SCTLR_EL1 with MMU and caches off.
const SCTLR_OFF: u64 = 1 << 29 | 1 << 28 | 1 << 23 | 1 << 22 | 1 << 20 | 1 << 11;
/// PSTATE of EL1 with its own stack pointer.
pub const EL1H: u64 = MASKED | 5;

impl Fixture for Nested {
    fn fresh() -> Result<Self, Stop> {
        if super::cpu::current_el() != 2 {
            return skip("arm64.el2");
        }
        let nested = Nested {
            host: HcrEl2::read(),
            offset: super::registers::CntvoffEl2::read(),
            midr: VpidrEl2::read(),
            mpidr: VmpidrEl2::read(),
            vectors: Frames::new(1),
        };
        // Each vector of EL1 is HVC #(0x100 | its number): what EL1 takes is told to EL2 at once.
        for i in 0..nested.vectors.len() / 4 {
            let vector = (i as u16 * 4) / 0x80;
            nested
                .vectors
                .write(i * 4, super::code::hvc(0x100 | vector));
        }
        super::cpu::sync_code(nested.vectors.address() as usize, nested.vectors.len());
        SctlrEl12::write(SCTLR_OFF);
        VbarEl12::write(nested.vectors.address());
        VttbrEl2::write(0);
        nested.forget();
        Ok(nested)
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        HcrEl2::write(self.host);
        super::registers::CntvoffEl2::write(self.offset);
        VpidrEl2::write(self.midr);
        VmpidrEl2::write(self.mpidr);
        VttbrEl2::write(0);
        super::paging::flush();
    }
}

impl Nested {
    /// Values that no exception to EL1 leaves.
    pub fn forget(&self) {
        EsrEl12::write(0xdead_beef);
        FarEl12::write(0xdead_beef_dead_beef);
        ElrEl12::write(0xdead_beef_dead_beef);
        SpsrEl12::write(0);
    }

    /// A state at EL1 that runs `pc`.
    pub fn state(&self, pc: u64) -> State {
        State {
            spsr: EL1H,
            ..State::here(pc)
        }
    }

    /// Runs `state` with HCR_EL2 = E2H, RW and `bits` (TGE is not among them unless a case wants
    /// that), and returns the exception that EL2 took.
    pub fn run(&self, bits: u64, state: &State) -> Frame {
        self.run_and_look(bits, state).0
    }

    /// As [`Nested::run`], with HCR_EL2 as the exception left it.
    pub fn run_and_look(&self, bits: u64, state: &State) -> (Frame, u64) {
        HcrEl2::write(self.host & !hcr::TGE | hcr::E2H | hcr::RW | bits);
        let frame = enter(state);
        let after = HcrEl2::read();
        HcrEl2::write(self.host);
        (frame, after)
    }

    /// The vector of EL1, counted from 0, that `frame` tells of; `None` when it came otherwise.
    pub fn vector_of(frame: &Frame) -> Option<u64> {
        let fault = frame.fault();
        (fault.ec() == super::fault::ec::HVC64 && fault.iss() >> 8 == 1)
            .then_some(fault.iss() & 0xff)
    }
}

/// A second stage that shows all below 512 GiB one to one, but for what a case changes.
pub struct Stage2 {
    root: Frames,
    fine: Frames,
    page: Frames,
    at: u64,
}

/// S2AP read and write, memory attribute write-back, shareable, access flag.
const STAGE2_BLOCK: u64 = 1 | 0xf << 2 | 3 << 6 | 3 << 8 | 1 << 10;

impl Stage2 {
    /// The map, with 4 KiB pages around `at`.
    pub fn around(at: u64) -> Self {
        let stage2 = Stage2 {
            root: Frames::new(1),
            fine: Frames::new(1),
            page: Frames::new(1),
            at,
        };
        for i in 0..512u64 {
            stage2.root.write(i as usize * 8, i << 30 | STAGE2_BLOCK);
            let two = (at >> 30 << 30) + (i << 21);
            stage2.fine.write(i as usize * 8, two | STAGE2_BLOCK);
            let four = (at >> 21 << 21) + (i << 12);
            stage2.page.write(i as usize * 8, four | STAGE2_BLOCK | 2);
        }
        stage2
            .root
            .write((at >> 30) as usize * 8, stage2.fine.address() | 3);
        let second = (at >> 21 & 511) as usize * 8;
        stage2.fine.write(second, stage2.page.address() | 3);
        stage2.install();
        stage2
    }

    fn install(&self) {
        super::cpu::dsb();
        // 39-bit input from level 1, cacheable and shareable walks, 4 KiB, 40-bit output.
        VtcrEl2::write(25 | 1 << 6 | 1 << 8 | 1 << 10 | 3 << 12 | 2 << 16 | 1 << 31);
        VttbrEl2::write(self.root.address());
        // SAFETY: S5; TLB entries are caches of tables. The maintenance is for EL1's regime, so TGE is
        // clear around it.
        let host = HcrEl2::read();
        HcrEl2::write(host & !hcr::TGE);
        // SAFETY: S5; as above.
        unsafe {
            asm!(
                "tlbi vmalls12e1is",
                "dsb ish",
                "isb",
                options(nostack, preserves_flags)
            )
        };
        HcrEl2::write(host);
    }

    /// Replaces the page of `at`: `change` gets its descriptor and returns the new one.
    pub fn change(&self, change: impl FnOnce(u64) -> u64) {
        let slot = (self.at >> 12 & 511) as usize * 8;
        self.page.write(slot, change(self.page.read::<u64>(slot)));
        self.install();
    }

    /// Leaves the page of `at` as `descriptor` says, without any change when it is the same.
    pub fn descriptor(&self) -> u64 {
        self.page.read((self.at >> 12 & 511) as usize * 8)
    }
}
