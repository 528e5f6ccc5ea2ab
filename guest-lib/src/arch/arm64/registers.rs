//! System registers, one table row each. Values are plain 64-bit integers: nothing is filtered.
//!
//! `read` and `write` execute one MRS or MSR. Where that may be refused, a case wraps it in
//! [`super::fault::catch`]: an undefined register is a fault like any other.

use bitflags::bitflags;

/// Four bits of an identification register.
pub fn field(value: u64, shift: u32) -> u64 {
    value >> shift & 0xf
}

macro_rules! registers {
    ($($(#[doc = $doc:literal])+ $name:ident = $asm:literal;)*) => { $(
        $(#[doc = $doc])+
        pub struct $name;

        impl $name {
            /// MRS.
            #[inline(always)]
            pub fn read() -> u64 {
                let value: u64;
                // SAFETY: S1, S5; a read of a system register, or a fault that is caught.
                unsafe {
                    core::arch::asm!(
                        concat!("mrs {}, ", $asm), out(reg) value,
                        options(nostack, preserves_flags),
                    );
                }
                value
            }

            /// MSR, with an ISB after it.
            #[inline(always)]
            pub fn write(value: u64) {
                // SAFETY: S1, S5; the caller changes the machine it tests on purpose.
                unsafe {
                    core::arch::asm!(
                        concat!("msr ", $asm, ", {}"), "isb", in(reg) value,
                        options(nostack, preserves_flags),
                    );
                }
            }
        }
    )* };
}

macro_rules! read_only_registers {
    ($($(#[doc = $doc:literal])+ $name:ident = $asm:literal;)*) => { $(
        $(#[doc = $doc])+
        pub struct $name;

        impl $name {
            /// MRS.
            #[inline(always)]
            pub fn read() -> u64 {
                let value: u64;
                // SAFETY: S1, S5; a read of a system register, or a fault that is caught.
                unsafe {
                    core::arch::asm!(
                        concat!("mrs {}, ", $asm), out(reg) value,
                        options(nostack, preserves_flags),
                    );
                }
                value
            }
        }
    )* };
}

registers! {
    /// Auxiliary control.
    ActlrEl1 = "actlr_el1";
    /// Fault status of the last exception taken to EL1.
    EsrEl1 = "esr_el1";
    /// Return address of the last exception taken to EL1.
    ElrEl1 = "elr_el1";
    /// PSTATE before the last exception taken to EL1.
    SpsrEl1 = "spsr_el1";
    /// Faulting address of the last exception taken to EL1.
    FarEl1 = "far_el1";
    /// System control.
    SctlrEl1 = "sctlr_el1";
    /// Access to floating point and other extensions.
    CpacrEl1 = "cpacr_el1";
    /// Translation control.
    TcrEl1 = "tcr_el1";
    /// Translation table base 0.
    Ttbr0El1 = "ttbr0_el1";
    /// Memory attributes.
    MairEl1 = "mair_el1";
    /// Vector base.
    VbarEl1 = "vbar_el1";
    /// Result of an address translation instruction.
    ParEl1 = "par_el1";
    /// Context ID.
    ContextidrEl1 = "contextidr_el1";
    /// Software thread ID of EL0.
    TpidrEl0 = "tpidr_el0";
    /// Cache size selection.
    CsselrEl1 = "csselr_el1";
    /// Control of EL0's access to counters and timers.
    CntkctlEl1 = "cntkctl_el1";
    /// Frequency of the system counter. Writable only at the highest level.
    CntfrqEl0 = "cntfrq_el0";
    /// Control of the virtual timer.
    CntvCtlEl0 = "cntv_ctl_el0";
    /// Deadline of the virtual timer.
    CntvCvalEl0 = "cntv_cval_el0";
    /// Distance to the deadline of the virtual timer.
    CntvTvalEl0 = "cntv_tval_el0";
    /// Control of the physical timer.
    CntpCtlEl0 = "cntp_ctl_el0";
    /// Deadline of the physical timer.
    CntpCvalEl0 = "cntp_cval_el0";
    /// Distance to the deadline of the physical timer.
    CntpTvalEl0 = "cntp_tval_el0";
    /// Monitor debug system control.
    MdscrEl1 = "mdscr_el1";
    /// OS lock access.
    OslarEl1 = "S2_0_C1_C0_4";
    /// OS double lock.
    OsdlrEl1 = "osdlr_el1";
    /// PSTATE.{D, A, I, F}.
    Daif = "daif";
    /// PSTATE.{N, Z, C, V}.
    Nzcv = "nzcv";
    /// Stack pointer selection.
    SpSel = "SPSel";
    /// Floating-point control.
    Fpcr = "fpcr";
    /// Floating-point status.
    Fpsr = "fpsr";
    /// CNTP_CTL_EL0 of EL1, from EL2 with E2H.
    CntpCtlEl02 = "S3_5_C14_C2_1";
    /// CNTP_CVAL_EL0 of EL1, from EL2 with E2H.
    CntpCvalEl02 = "S3_5_C14_C2_2";
    /// CNTV_CTL_EL0 of EL1, from EL2 with E2H.
    CntvCtlEl02 = "S3_5_C14_C3_1";
    /// CNTV_CVAL_EL0 of EL1, from EL2 with E2H.
    CntvCvalEl02 = "S3_5_C14_C3_2";
    /// Control of the EL2 physical timer by its own name.
    CnthpCtlEl2 = "S3_4_C14_C2_1";
    /// Deadline of the EL2 physical timer by its own name.
    CnthpCvalEl2 = "S3_4_C14_C2_2";
    /// Control of the EL2 virtual timer by its own name.
    CnthvCtlEl2 = "S3_4_C14_C3_1";
    /// Deadline of the EL2 virtual timer by its own name.
    CnthvCvalEl2 = "S3_4_C14_C3_2";
    /// Offset of the virtual counter.
    CntvoffEl2 = "S3_4_C14_C0_3";
    /// Hypervisor configuration.
    HcrEl2 = "S3_4_C1_C1_0";
    /// Vector base of EL2 by its own name.
    VbarEl2 = "S3_4_C12_C0_0";
    /// Vector base of EL1, from EL2 with E2H.
    VbarEl12 = "S3_5_C12_C0_0";
    /// Translation control of EL2 by its own name.
    TcrEl2 = "S3_4_C2_C0_2";
    /// Translation control of EL1, from EL2 with E2H.
    TcrEl12 = "S3_5_C2_C0_2";
    /// A performance monitors control register.
    PmcrEl0 = "pmcr_el0";
    /// GICv3: interrupt acknowledge, group 1. Reading acknowledges.
    IccIar1El1 = "S3_0_C12_C12_0";
    /// GICv3: end of interrupt, group 1.
    IccEoir1El1 = "S3_0_C12_C12_1";
    /// GICv3: highest pending interrupt, group 1.
    IccHppir1El1 = "S3_0_C12_C12_2";
    /// GICv3: binary point, group 1.
    IccBpr1El1 = "S3_0_C12_C12_3";
    /// GICv3: control.
    IccCtlrEl1 = "S3_0_C12_C12_4";
    /// GICv3: system register enable.
    IccSreEl1 = "S3_0_C12_C12_5";
    /// GICv3: enable of group 0.
    IccIgrpen0El1 = "S3_0_C12_C12_6";
    /// GICv3: enable of group 1.
    IccIgrpen1El1 = "S3_0_C12_C12_7";
    /// GICv3: interrupt acknowledge, group 0.
    IccIar0El1 = "S3_0_C12_C8_0";
    /// GICv3: end of interrupt, group 0.
    IccEoir0El1 = "S3_0_C12_C8_1";
    /// GICv3: highest pending interrupt, group 0.
    IccHppir0El1 = "S3_0_C12_C8_2";
    /// GICv3: binary point, group 0.
    IccBpr0El1 = "S3_0_C12_C8_3";
    /// GICv3: active priorities, group 0.
    IccAp0r0El1 = "S3_0_C12_C8_4";
    /// GICv3: active priorities, group 1.
    IccAp1r0El1 = "S3_0_C12_C9_0";
    /// GICv3: deactivate interrupt.
    IccDirEl1 = "S3_0_C12_C11_1";
    /// GICv3: running priority.
    IccRprEl1 = "S3_0_C12_C11_3";
    /// GICv3: software generated interrupt, group 1.
    IccSgi1rEl1 = "S3_0_C12_C11_5";
    /// GICv3: software generated interrupt, group 0.
    IccSgi0rEl1 = "S3_0_C12_C11_7";
    /// GICv3: priority mask.
    IccPmrEl1 = "S3_0_C4_C6_0";
}

read_only_registers! {
    /// Multiprocessor affinity.
    MpidrEl1 = "mpidr_el1";
    /// Main identification.
    MidrEl1 = "midr_el1";
    /// Revision identification.
    RevidrEl1 = "revidr_el1";
    /// Auxiliary identification.
    AidrEl1 = "aidr_el1";
    /// Processor features 0.
    IdAa64pfr0El1 = "id_aa64pfr0_el1";
    /// Processor features 1.
    IdAa64pfr1El1 = "id_aa64pfr1_el1";
    /// Scalable vector features.
    IdAa64zfr0El1 = "S3_0_C0_C4_4";
    /// Scalable matrix features.
    IdAa64smfr0El1 = "S3_0_C0_C4_5";
    /// Debug features 0.
    IdAa64dfr0El1 = "id_aa64dfr0_el1";
    /// Debug features 1.
    IdAa64dfr1El1 = "id_aa64dfr1_el1";
    /// Auxiliary features 0.
    IdAa64afr0El1 = "id_aa64afr0_el1";
    /// Auxiliary features 1.
    IdAa64afr1El1 = "id_aa64afr1_el1";
    /// Instruction set attributes 0.
    IdAa64isar0El1 = "id_aa64isar0_el1";
    /// Instruction set attributes 1.
    IdAa64isar1El1 = "id_aa64isar1_el1";
    /// Instruction set attributes 2.
    IdAa64isar2El1 = "S3_0_C0_C6_2";
    /// Memory model features 0.
    IdAa64mmfr0El1 = "id_aa64mmfr0_el1";
    /// Memory model features 1.
    IdAa64mmfr1El1 = "id_aa64mmfr1_el1";
    /// Memory model features 2.
    IdAa64mmfr2El1 = "S3_0_C0_C7_2";
    /// Memory model features 3.
    IdAa64mmfr3El1 = "S3_0_C0_C7_3";
    /// Memory model features 4.
    IdAa64mmfr4El1 = "S3_0_C0_C7_4";
    /// AArch32 processor features 0.
    IdPfr0El1 = "id_pfr0_el1";
    /// AArch32 processor features 1.
    IdPfr1El1 = "id_pfr1_el1";
    /// AArch32 debug features 0.
    IdDfr0El1 = "id_dfr0_el1";
    /// AArch32 memory model features 0.
    IdMmfr0El1 = "id_mmfr0_el1";
    /// AArch32 memory model features 1.
    IdMmfr1El1 = "id_mmfr1_el1";
    /// AArch32 memory model features 2.
    IdMmfr2El1 = "id_mmfr2_el1";
    /// AArch32 memory model features 3.
    IdMmfr3El1 = "id_mmfr3_el1";
    /// AArch32 instruction set attributes 0.
    IdIsar0El1 = "id_isar0_el1";
    /// AArch32 instruction set attributes 1.
    IdIsar1El1 = "id_isar1_el1";
    /// AArch32 instruction set attributes 2.
    IdIsar2El1 = "id_isar2_el1";
    /// AArch32 instruction set attributes 3.
    IdIsar3El1 = "id_isar3_el1";
    /// AArch32 instruction set attributes 4.
    IdIsar4El1 = "id_isar4_el1";
    /// AArch32 instruction set attributes 5.
    IdIsar5El1 = "id_isar5_el1";
    /// AArch32 media and floating-point features 0.
    Mvfr0El1 = "mvfr0_el1";
    /// AArch32 media and floating-point features 1.
    Mvfr1El1 = "mvfr1_el1";
    /// AArch32 media and floating-point features 2.
    Mvfr2El1 = "mvfr2_el1";
    /// Cache type.
    CtrEl0 = "ctr_el0";
    /// DC ZVA block size.
    DczidEl0 = "dczid_el0";
    /// Cache levels.
    ClidrEl1 = "clidr_el1";
    /// Geometry of the cache that CSSELR_EL1 selects.
    CcsidrEl1 = "ccsidr_el1";
    /// Virtual counter.
    CntvctEl0 = "cntvct_el0";
    /// Physical counter.
    CntpctEl0 = "cntpct_el0";
    /// OS lock status.
    OslsrEl1 = "oslsr_el1";
    /// Pending interrupts, masked or not.
    IsrEl1 = "isr_el1";
    /// Exception level, in bits 3:2.
    CurrentEl = "CurrentEL";
}

/// Bytes in the smallest data cache line (CTR_EL0.DminLine).
pub fn data_line() -> usize {
    4 << field(CtrEl0::read(), 16)
}

/// Counter first made to wait for all earlier instructions: CNTVCT_EL0.
pub fn virtual_count() -> u64 {
    super::cpu::isb();
    CntvctEl0::read()
}

/// As [`virtual_count`]: CNTPCT_EL0.
pub fn physical_count() -> u64 {
    super::cpu::isb();
    CntpctEl0::read()
}

bitflags! {
    /// CNTx_CTL.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct TimerControl: u64 {
        /// The timer is on.
        const ENABLE = 1;
        /// Its interrupt is masked.
        const IMASK = 2;
        /// Its condition is met.
        const ISTATUS = 4;
    }

    /// PSTATE as SPSR and DAIF show it.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Pstate: u64 {
        /// Negative.
        const N = 1 << 31;
        /// Zero.
        const Z = 1 << 30;
        /// Carry.
        const C = 1 << 29;
        /// Overflow.
        const V = 1 << 28;
        /// Tag check override.
        const TCO = 1 << 25;
        /// Data independent timing.
        const DIT = 1 << 24;
        /// User access override.
        const UAO = 1 << 23;
        /// Privileged access never.
        const PAN = 1 << 22;
        /// Software step.
        const SS = 1 << 21;
        /// Illegal execution state.
        const IL = 1 << 20;
        /// Speculative store bypass safe.
        const SSBS = 1 << 12;
        /// Debug exceptions masked.
        const D = 1 << 9;
        /// SError masked.
        const A = 1 << 8;
        /// IRQ masked.
        const I = 1 << 7;
        /// FIQ masked.
        const F = 1 << 6;
    }
}

impl Pstate {
    /// D, A, I and F.
    pub const DAIF: Pstate = Pstate::D.union(Pstate::A).union(Pstate::I).union(Pstate::F);
    /// N, Z, C and V.
    pub const NZCV: Pstate = Pstate::N.union(Pstate::Z).union(Pstate::C).union(Pstate::V);
}

macro_rules! pstate_fields {
    ($($(#[doc = $doc:literal])+ $name:ident = $asm:literal;)*) => { $(
        $(#[doc = $doc])+
        pub fn $name(on: bool) {
            let value: u64 = if on { !0 } else { 0 };
            // SAFETY: S5; a bit of PSTATE that compiled code does not depend on.
            unsafe {
                core::arch::asm!(
                    concat!("msr ", $asm, ", {}"), in(reg) value, options(nostack, preserves_flags),
                );
            }
        }
    )* };
}

pstate_fields! {
    /// PSTATE.PAN (FEAT_PAN).
    set_pan = "S3_0_C4_C2_3";
    /// PSTATE.UAO (FEAT_UAO).
    set_uao = "S3_0_C4_C2_4";
    /// PSTATE.DIT (FEAT_DIT).
    set_dit = "S3_3_C4_C2_5";
    /// PSTATE.SSBS (FEAT_SSBS2).
    set_ssbs = "S3_3_C4_C2_6";
    /// PSTATE.TCO (FEAT_MTE).
    set_tco = "S3_3_C4_C2_7";
}
