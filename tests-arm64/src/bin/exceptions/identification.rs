//! Identification registers. Spec: DDI0487 D24.1, D24.2.
//!
//! What they announce must work, what they deny must be undefined, and every processor must say the same.

use guest_lib::arch::probe;
use guest_lib::arch::registers::*;
use guest_lib::arch::{debug, psci, smp};
use guest_lib::prelude::*;

type Read = fn() -> u64;

const UNIFORM: [(&str, Read); 22] = [
    ("MIDR_EL1", MidrEl1::read),
    ("REVIDR_EL1", RevidrEl1::read),
    ("ID_AA64PFR0_EL1", IdAa64pfr0El1::read),
    ("ID_AA64PFR1_EL1", IdAa64pfr1El1::read),
    ("ID_AA64ZFR0_EL1", IdAa64zfr0El1::read),
    ("ID_AA64SMFR0_EL1", IdAa64smfr0El1::read),
    ("ID_AA64DFR0_EL1", IdAa64dfr0El1::read),
    ("ID_AA64DFR1_EL1", IdAa64dfr1El1::read),
    ("ID_AA64AFR0_EL1", IdAa64afr0El1::read),
    ("ID_AA64ISAR0_EL1", IdAa64isar0El1::read),
    ("ID_AA64ISAR1_EL1", IdAa64isar1El1::read),
    ("ID_AA64ISAR2_EL1", IdAa64isar2El1::read),
    ("ID_AA64MMFR0_EL1", IdAa64mmfr0El1::read),
    ("ID_AA64MMFR1_EL1", IdAa64mmfr1El1::read),
    ("ID_AA64MMFR2_EL1", IdAa64mmfr2El1::read),
    ("ID_AA64MMFR3_EL1", IdAa64mmfr3El1::read),
    ("ID_PFR0_EL1", IdPfr0El1::read),
    ("ID_PFR1_EL1", IdPfr1El1::read),
    ("ID_ISAR0_EL1", IdIsar0El1::read),
    ("ID_MMFR0_EL1", IdMmfr0El1::read),
    ("MVFR0_EL1", Mvfr0El1::read),
    ("DCZID_EL0", DczidEl0::read),
];

/// Every identification register reads without a fault and the same on every processor.
#[case(spec = "DDI0487 D24.1")]
fn registers_are_uniform() -> Verdict {
    let all = || UNIFORM.map(|(_, read)| read());
    let here = fault::catch(all)?;
    for (i, there) in cpus::on_all(|_| all())?.into_iter().enumerate() {
        for (n, (name, _)) in UNIFORM.into_iter().enumerate() {
            expect_eq!(there[n], here[n], "{name} on CPU {i}")?;
        }
    }
    Ok(())
}

/// Reserved encodings among the identification registers read as zero.
#[case(
    spec = "DDI0487 D23.3",
    rows(
        crm_4: IdAa64pfrReserved::read,
        crm_7: IdAa64Reserved::read,
    )
)]
fn reserved_encoding_reads_as_zero(read: fn() -> u64) -> Verdict {
    expect_eq!(fault::catch(read), Ok(0))
}

/// MPIDR_EL1 of every processor is the one that the device tree lists.
#[case(spec = "DDI0487 D24.2 MPIDR_EL1")]
fn mpidr_is_that_of_the_tree() -> Verdict {
    let found = cpus::on_all(|cpu| (cpu, MpidrEl1::read()))?;
    for (cpu, mpidr) in found {
        expect_eq!(mpidr & psci::AFFINITY, smp::mpidr(cpu.0), "CPU {}", cpu.0)?;
        expect_eq!(mpidr >> 31 & 1, 1, "bit 31 of CPU {} is RES1", cpu.0)?;
    }
    Ok(())
}

/// EL0 and EL1 in AArch64, and 4 KiB pages, are announced: this code runs on them.
#[case(spec = "DDI0487 D24.2 ID_AA64PFR0_EL1")]
fn what_runs_is_announced() -> Verdict {
    let pfr0 = IdAa64pfr0El1::read();
    expect_eq!([1, 2].contains(&field(pfr0, 0)), true, "EL0")?;
    expect_eq!([1, 2].contains(&field(pfr0, 4)), true, "EL1")?;
    let el2 = field(pfr0, 8);
    expect_eq!(el2 != 0 || arch::cpu::entry_el() < 2, true, "EL2 {el2}")?;
    let granule = field(IdAa64mmfr0El1::read(), 28);
    expect_ne!(granule, 15, "TGran4")
}

/// Floating point and Advanced SIMD come together, and work when they are announced.
#[case(spec = "DDI0487 D24.2 ID_AA64PFR0_EL1")]
fn floating_point_works_if_announced() -> Verdict {
    let pfr0 = IdAa64pfr0El1::read();
    expect_eq!(
        field(pfr0, 16) == 15,
        field(pfr0, 20) == 15,
        "FP and AdvSIMD"
    )?;
    let works = fault::catch(|| probe::FLOAT.run(0, 0)).is_ok();
    expect_eq!(works, field(pfr0, 16) != 15)
}

/// At least six breakpoints, one that compares contexts among them, and four watchpoints (BSA).
#[case(spec = "DDI0487 D24.2 ID_AA64DFR0_EL1")]
fn debug_resources_are_announced() -> Verdict {
    let (breakpoints, watchpoints) = (debug::breakpoints(), debug::watchpoints());
    let contexts = debug::context_breakpoints();
    note!("{breakpoints} breakpoints, {contexts} with context, {watchpoints} watchpoints");
    expect_eq!(
        breakpoints >= 2 && watchpoints >= 2,
        true,
        "the least that the manual allows"
    )?;
    expect_eq!(
        (1..=breakpoints).contains(&contexts),
        true,
        "context breakpoints"
    )
}

/// A register of an absent feature is undefined, or trapped by the class that FEAT_IDST gives it.
#[case(
    spec = "DDI0487 D24.2",
    rows(
        ccsidr2: (Ccsidr2El1::read, 2),
        smidr: (SmidrEl1::read, 24),
        gmid: (GmidEl1::read, 8),
    )
)]
fn absent_feature_register_is_refused(row: (fn() -> u64, u32)) -> Verdict {
    let (read, place) = row;
    let present = match place {
        2 => field(IdAa64mmfr2El1::read(), 20) != 0,
        24 => field(IdAa64pfr1El1::read(), 24) != 0,
        _ => field(IdAa64pfr1El1::read(), 8) >= 2,
    };
    let idst = field(IdAa64mmfr2El1::read(), 36) != 0;
    let refused = fault::catch(read).err();
    if present {
        return expect_eq!(refused, None, "the feature is announced");
    }
    let class = if idst {
        fault::ec::SYSTEM
    } else {
        fault::ec::UNKNOWN
    };
    expect_eq!(refused.map(Fault::ec), Some(class), "FEAT_IDST {idst}")
}
