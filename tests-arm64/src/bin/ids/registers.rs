//! The identification registers themselves. Spec: DDI0487 D24.1, D24.2.
//!
//! All encodings op0 = 3, op1 = 0, CRn = 0, CRm = 1 to 7 can be read at EL1; those without a meaning read
//! as zero, so that old software can run on new processors. A hypervisor that forgets one of the
//! fifty-six kills a guest that asks; one that fills them differently per processor confuses it.

use guest_lib::arch::code::{Code, RET, Register};
use guest_lib::arch::registers::{IdAa64mmfr0El1, IdAa64pfr0El1, MidrEl1, MpidrEl1, field};
use guest_lib::arch::{psci, smp};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// The feature registers: CRm 1 to 7, op2 0 to 7.
fn space() -> Vec<Register> {
    (1..8)
        .flat_map(|crm| (0..8).map(move |op2| Register(3, 0, 0, crm, op2)))
        .collect()
}

/// What must be the same on all processors of a machine whose processors are alike.
fn uniform() -> Vec<Register> {
    let mut all = space();
    all.extend([
        Register(3, 0, 0, 0, 0),
        Register(3, 0, 0, 0, 6),
        Register(3, 1, 0, 0, 1),
        Register(3, 1, 0, 0, 7),
        Register(3, 3, 0, 0, 1),
        Register(3, 3, 0, 0, 7),
        Register(3, 3, 14, 0, 0),
    ]);
    all
}

/// A function that reads `registers` into the words at x0.
fn reader(registers: &[Register]) -> Code {
    // mrs x2, ...; str x2, [x0], #8
    let mut words: Vec<u32> = registers
        .iter()
        .flat_map(|r| [r.mrs(2), 0xf800_8402])
        .collect();
    words.push(RET);
    Code::new(&words)
}

fn values(code: &Code, count: usize) -> Result<Vec<u64>, Fault> {
    let buffer = Frames::new(1);
    fault::catch(|| code.run(buffer.address(), 0))?;
    Ok((0..count).map(|i| buffer.read(i * 8)).collect())
}

/// Every encoding of the feature registers can be read at EL1, and does not change.
#[case(spec = "DDI0487 D24.1")]
fn feature_space_is_readable() -> Verdict {
    for register in space() {
        let first = fault::catch(|| register.read());
        expect!(first.is_ok(), "{register:?} gives {first:?}")?;
        expect_eq!(
            fault::catch(|| register.read()),
            first,
            "{register:?}, again"
        )?;
    }
    Ok(())
}

/// Encodings of the feature registers that are reserved read as zero.
#[case(spec = "DDI0487 D24.1")]
fn reserved_encodings_read_as_zero() -> Verdict {
    for (crm, op2) in [
        (3, 3),
        (3, 7),
        (4, 3),
        (4, 6),
        (5, 3),
        (5, 6),
        (5, 7),
        (6, 4),
        (6, 5),
        (6, 6),
        (6, 7),
        (7, 5),
        (7, 6),
        (7, 7),
    ] {
        let register = Register(3, 0, 0, crm, op2);
        expect_eq!(fault::catch(|| register.read())?, 0, "{register:?}")?;
    }
    // One that is not: the processor has a feature register at all.
    expect_ne!(Register(3, 0, 0, 4, 0).read(), 0, "ID_AA64PFR0_EL1")
}

/// All processors identify themselves alike, but for their affinity.
#[case(spec = "DDI0487 D24.2", needs("cpus>=2"))]
fn processors_are_alike() -> Verdict {
    let registers = uniform();
    let code = reader(&registers);
    let here = values(&code, registers.len())?;
    for (cpu, there) in cpus::on_all(|_| values(&code, registers.len()))?
        .into_iter()
        .enumerate()
    {
        for ((register, here), there) in registers.iter().zip(&here).zip(there?) {
            expect_eq!(there, *here, "{register:?} on CPU {cpu}")?;
        }
    }
    Ok(())
}

/// MPIDR_EL1 has its RES1 bit, and no two processors share an affinity.
#[case(spec = "DDI0487 D24.2 MPIDR_EL1", needs("cpus>=2"))]
fn affinities_are_unique() -> Verdict {
    let mut seen = cpus::on_all(|_| MpidrEl1::read())?;
    for value in &seen {
        expect_eq!(value >> 31 & 1, 1, "bit 31 of {value:#x}")?;
        expect_eq!(value >> 40, 0, "the bits above Aff3 of {value:#x}")?;
        expect_eq!(value >> 25 & 0x1f, 0, "bits 29 to 25 of {value:#x}")?;
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    expect_eq!(seen.len(), count)
}

/// MPIDR_EL1 of every processor is the one that the device tree lists.
#[case(spec = "DDI0487 D24.2 MPIDR_EL1")]
fn mpidr_is_that_of_the_tree() -> Verdict {
    for (cpu, value) in cpus::on_all(|_| MpidrEl1::read())?.into_iter().enumerate() {
        expect_eq!(value & psci::AFFINITY, smp::mpidr(cpu), "CPU {cpu}")?;
    }
    Ok(())
}

/// What this code runs on is announced: the level of entry, and pages of 4 KiB.
#[case(spec = "DDI0487 D24.2 ID_AA64PFR0_EL1")]
fn what_runs_is_announced() -> Verdict {
    let el2 = field(IdAa64pfr0El1::read(), 8);
    expect!(el2 != 0 || arch::cpu::entry_el() < 2, "EL2 is {el2}")?;
    expect_ne!(field(IdAa64mmfr0El1::read(), 28), 15, "TGran4")
}

/// MIDR_EL1 refers to the feature registers.
#[case(spec = "DDI0487 D24.2 MIDR_EL1")]
fn midr_refers_to_feature_registers() -> Verdict {
    expect_eq!(MidrEl1::read() >> 16 & 0xf, 0xf, "Architecture")?;
    expect_eq!(MidrEl1::read() >> 32, 0, "RES0")
}

/// Fields of feature registers hold values that the architecture has given out.
#[case(
    spec = "DDI0487 D24.2",
    rows(
        pfr0_el0: ((4, 0), 0, &[1, 2]),
        pfr0_el1: ((4, 0), 4, &[1, 2]),
        pfr0_el2: ((4, 0), 8, &[0, 1, 2]),
        pfr0_fp: ((4, 0), 16, &[0, 1, 15]),
        pfr0_simd: ((4, 0), 20, &[0, 1, 15]),
        pfr0_gic: ((4, 0), 24, &[0, 1, 3]),
        isar0_aes: ((6, 0), 4, &[0, 1, 2]),
        isar0_sha2: ((6, 0), 12, &[0, 1, 2]),
        isar0_atomic: ((6, 0), 20, &[0, 2, 3]),
        dfr0_debug: ((5, 0), 0, &[6, 7, 8, 9, 10, 11]),
        mmfr0_pa_range: ((7, 0), 0, &[0, 1, 2, 3, 4, 5, 6, 7]),
        mmfr0_asid_bits: ((7, 0), 4, &[0, 2]),
        mmfr0_tgran4: ((7, 0), 28, &[0, 1, 15]),
        mmfr1_vmid_bits: ((7, 1), 4, &[0, 2]),
        mmfr1_vh: ((7, 1), 8, &[0, 1]),
        mmfr1_pan: ((7, 1), 20, &[0, 1, 2, 3])
    )
)]
fn field_has_a_defined_value(row: ((u32, u32), u32, &[u64])) -> Verdict {
    let ((crm, op2), shift, defined) = row;
    let value = Register(3, 0, 0, crm, op2).read() >> shift & 0xf;
    expect!(
        defined.contains(&value),
        "the field is {value:#x}, not one of {defined:?}"
    )
}

/// Fields that belong together agree: FP with SIMD, SHA512 with SHA2, LSE2 with LSE, and so on.
#[case(spec = "DDI0487 D24.2")]
fn fields_agree() -> Verdict {
    let field = |crm, op2, shift: u32| Register(3, 0, 0, crm, op2).read() >> shift & 0xf_u64;
    expect_eq!(field(4, 0, 16), field(4, 0, 20), "FP and AdvSIMD")?;
    let implies = |what: &str, has: bool, needs: bool| expect!(!has || needs, "{what}");
    let fp = field(4, 0, 16) != 15;
    implies("AES needs SIMD", field(6, 0, 4) != 0, fp)?;
    implies(
        "SHA512 needs SHA1",
        field(6, 0, 12) == 2,
        field(6, 0, 8) == 1,
    )?;
    implies(
        "SHA2 goes with SHA1",
        field(6, 0, 12) != 0,
        field(6, 0, 8) != 0,
    )?;
    implies(
        "SHA3 needs SHA2",
        field(6, 0, 32) != 0,
        field(6, 0, 12) == 2,
    )?;
    implies(
        "SM3 goes with SM4",
        field(6, 0, 36) != 0,
        field(6, 0, 40) != 0,
    )?;
    implies(
        "SM4 goes with SM3",
        field(6, 0, 40) != 0,
        field(6, 0, 36) != 0,
    )?;
    implies("LSE2 needs LSE", field(7, 2, 32) != 0, field(6, 0, 20) >= 2)?;
    implies(
        "SVE needs half precision",
        matches!(field(4, 0, 32), 1..15),
        field(4, 0, 16) == 1,
    )?;
    implies("UAO needs PAN", field(7, 2, 4) != 0, field(7, 1, 20) != 0)?;
    implies(
        "AArch32 at EL1 needs EL0",
        field(4, 0, 4) == 2,
        field(4, 0, 0) == 2,
    )?;
    let generic = |apa: u64, gpa: u64| implies("PAC generic", apa != 0, gpa != 0);
    generic(field(6, 1, 4), field(6, 1, 24) | field(6, 1, 28))
}

/// GICv3's system registers are there when ID_AA64PFR0_EL1.GIC says so, and undefined when it does not.
#[case(spec = "DDI0487 D24.2 ID_AA64PFR0_EL1")]
fn gic_field_is_true() -> Verdict {
    let advertised = Register(3, 0, 0, 4, 0).read() >> 24 & 0xf != 0;
    // ICC_SRE_EL1 exists even when it says that the registers are not in use.
    let got = fault::catch(|| Register(3, 0, 12, 12, 5).read()).err();
    expect_eq!(got, (!advertised).then_some(Fault::UNDEFINED))
}
