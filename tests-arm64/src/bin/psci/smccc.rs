//! The calling convention itself. Spec: DEN0028.
//!
//! Every service shares it: the function is named by W0 alone, a 32-bit call has 32-bit arguments, an
//! unknown id answers -1 and does nothing else, and a call keeps the caller's registers. A hypervisor
//! that saves too little shows up as corruption far from the call.

use guest_lib::arch::probe::{self, Instruction, Registers, observed};
use guest_lib::arch::psci::{self, Conduit, id};
use guest_lib::arch::smp;
use guest_lib::prelude::*;

const NOT_SUPPORTED: i32 = -1;

fn answer(function: u64) -> i32 {
    psci::call([function, 0, 0, 0])[0] as i32
}

/// The upper half of x0 does not belong to the function id.
#[case(
    spec = "DEN0028 2.5",
    needs("arm64.psci"),
    rows(psci_version: id::VERSION, psci_features: id::FEATURES, affinity_info: id::AFFINITY_INFO)
)]
fn function_id_is_w0_alone(function: u64) -> Verdict {
    let arguments = match function {
        id::FEATURES => [id::VERSION, 0, 0],
        _ => [smp::mpidr(0), 0, 0],
    };
    let call = |upper: u64| {
        let [a, b, c] = arguments;
        psci::call([function | upper << 32, a, b, c])[0] as i32
    };
    let plain = call(0);
    expect_ne!(plain, NOT_SUPPORTED)?;
    for upper in [1, 0x8000_0000, 0xffff_ffff] {
        expect_eq!(
            call(upper),
            plain,
            "with {upper:#x} in the upper half of x0"
        )?;
    }
    Ok(())
}

/// A 32-bit call ignores the upper halves of its arguments.
#[case(spec = "DEN0028 2.6", needs("arm64.psci"))]
fn arguments_of_32_bit_calls_have_32_bits() -> Verdict {
    const GARBAGE: u64 = 0xa5a5_a5a5 << 32;
    let plain = psci::psci(id::AFFINITY_INFO_32, [smp::mpidr(0), 0, 0]);
    expect_eq!(plain.0, 0, "the caller is on")?;
    let spoiled = psci::psci(
        id::AFFINITY_INFO_32,
        [smp::mpidr(0) | GARBAGE, GARBAGE, GARBAGE],
    );
    expect_eq!(spoiled, plain)?;
    let features = psci::psci(id::FEATURES, [id::VERSION | GARBAGE, 0, 0]);
    expect_eq!(features, psci::features(id::VERSION), "PSCI_FEATURES")
}

/// An id that nobody owns or implements answers -1.
#[case(
    spec = "DEN0028 5.2",
    needs("arm64.psci"),
    rows(
        arm_architecture: 0x8000_1234,
        cpu_service: 0x8100_1234,
        sip_service: 0x8200_1234,
        oem_service: 0x8300_1234,
        standard_secure: 0x8400_0fee,
        standard_hypervisor: 0x8500_1234,
        vendor_hypervisor: 0x8600_1234,
        reserved_owner: 0x8700_1234,
        trusted_application: 0xb000_1234,
        trusted_os: 0xb200_1234,
        yielding: 0x0200_1337,
        with_reserved_bits: 0x84ff_0fee,
    )
)]
fn unknown_id_is_not_supported(function: u64) -> Verdict {
    expect_ne!(answer(id::VERSION), NOT_SUPPORTED, "a known id")?;
    expect_eq!(answer(function), NOT_SUPPORTED)
}

/// An unknown 64-bit call answers -1 in all 64 bits of x0.
#[case(
    spec = "DEN0028 5.2",
    needs("arm64.psci"),
    rows(
        arm_architecture: 0xc000_1234,
        standard_secure: 0xc400_0fee,
        standard_hypervisor: 0xc500_1234,
        vendor_hypervisor: 0xc600_1234,
    )
)]
fn unknown_64_bit_id_answers_in_64_bits(function: u64) -> Verdict {
    expect_eq!(psci::call([function, 0, 0, 0])[0], !0)
}

fn conduit() -> Instruction {
    match psci::conduit() {
        Conduit::Hvc => Instruction::Hvc,
        Conduit::Smc => Instruction::Smc,
    }
}

fn call_with(function: u64, argument: u64) -> (Registers, Registers) {
    let mut before = Registers::pattern();
    before.x[0] = function;
    before.x[1] = argument;
    (observed(conduit(), &before), before)
}

/// A call keeps x18 to x30, SP and the other stack pointer.
#[case(
    spec = "DEN0028 3.1",
    needs("arm64.psci"),
    rows(
        psci_version: (id::VERSION, 0),
        psci_features: (id::FEATURES, id::VERSION),
        affinity_info: (id::AFFINITY_INFO, 0),
        cpu_on_refused: (id::CPU_ON, 0xff_ffff),
        unknown_32: (0x8400_0fee, 0),
        unknown_64: (0xc600_1234, 0),
    )
)]
fn saved_registers_survive(call: (u64, u64)) -> Verdict {
    let (after, before) = call_with(call.0, call.1);
    for i in 18..31 {
        expect_eq!(after.x[i], before.x[i], "x{i}")?;
    }
    expect_eq!(after.sp, 0, "change of SP")?;
    expect_eq!(
        (after.sp_el0, after.tpidr_el0),
        (before.sp_el0, before.tpidr_el0)
    )
}

/// A call keeps the floating-point registers.
#[case(
    spec = "DEN0028 3.1",
    needs("arm64.psci", "arm64.fp"),
    rows(psci_version: id::VERSION, unknown: 0x8400_0fee)
)]
fn floating_point_registers_survive(function: u64) -> Verdict {
    let (after, before) = call_with(function, 0);
    let lost = (0..32).find(|&i| after.q[i] != before.q[i]);
    expect_eq!(lost, None, "the first Q register that changed")?;
    expect_eq!(after.fp, before.fp, "FPCR and FPSR")
}

/// From SMCCC 1.1 on, a call keeps x4 to x17 too.
#[case(
    spec = "DEN0028 3.1",
    needs("arm64.psci", "arm64.smccc11"),
    rows(psci_version: id::VERSION, smccc_version: id::SMCCC_VERSION, unknown: 0x8400_0fee)
)]
fn temporary_registers_survive(function: u64) -> Verdict {
    let (after, before) = call_with(function, 0);
    for i in 4..18 {
        expect_eq!(after.x[i], before.x[i], "x{i}")?;
    }
    Ok(())
}

/// What HVC gives when nobody above answers: at EL2 it is a call to EL2 itself.
fn refused_hvc(imm: u64) -> Fault {
    match arch::cpu::current_el() {
        2 => Fault::new(fault::ec::HVC64, imm),
        _ => Fault::UNDEFINED,
    }
}

/// HVC with an immediate other than zero returns or is undefined, and keeps the caller's registers.
#[case(spec = "DEN0028 2.9 (implementation defined)", needs("arm64.psci"))]
fn hvc_immediate_other_than_zero_does_no_harm() -> Verdict {
    let mut before = Registers::pattern();
    before.x[0] = id::VERSION;
    match fault::catch(|| observed(Instruction::Hvc1, &before)) {
        Err(fault) => {
            note!("HVC #1 is refused");
            expect_eq!(fault, refused_hvc(1))
        }
        Ok(after) => {
            note!("HVC #1 answers {:#x} to PSCI_VERSION", after.x[0]);
            expect_eq!(after.x[19..].to_vec(), before.x[19..].to_vec())?;
            expect_eq!(after.sp, 0, "change of SP")
        }
    }
}

/// The conduit that the device tree does not name is undefined or answers, and returns to the next
/// instruction either way.
#[case(spec = "DEN0028 5.2 (implementation defined)", needs("arm64.psci"))]
fn other_conduit_does_no_harm() -> Verdict {
    let (probe, instruction) = match psci::conduit() {
        Conduit::Hvc => (probe::SMC, Instruction::Smc),
        Conduit::Smc => (probe::HVC, Instruction::Hvc),
    };
    fault::forget();
    match fault::catch(|| probe.run(0x8400_0fee, 0)) {
        Err(fault) => {
            note!("refused");
            let taken = instruction == Instruction::Hvc && arch::cpu::current_el() == 2;
            expect_eq!(
                fault,
                if taken {
                    refused_hvc(0)
                } else {
                    Fault::UNDEFINED
                }
            )?;
            expect_eq!(fault::details().elr, probe.address() + u64::from(taken) * 4)
        }
        Ok(value) => {
            note!("answers {value:#x}");
            expect_eq!(value as i32, NOT_SUPPORTED)?;
            let mut before = Registers::pattern();
            before.x[0] = 0x8400_0fee;
            let after = observed(instruction, &before);
            expect_eq!(after.x[19..].to_vec(), before.x[19..].to_vec())
        }
    }
}

/// SMCCC_VERSION is implemented, PSCI_FEATURES says so, and the version is 1.1 or later.
#[case(spec = "DEN0028 7.2 SMCCC_VERSION", needs("arm64.psci"))]
fn smccc_version_is_1_1_or_later() -> Verdict {
    expect_eq!(
        psci::features(id::SMCCC_VERSION).0,
        0,
        "PSCI_FEATURES(SMCCC_VERSION)"
    )?;
    let version = answer(id::SMCCC_VERSION);
    note!("SMCCC {}.{}", version >> 16, version & 0xffff);
    expect_eq!(version >= 0x1_0001, true, "{version:#x} is 1.1 or later")
}

/// SMCCC_ARCH_FEATURES knows itself and SMCCC_VERSION, and no function that does not exist.
#[case(spec = "DEN0028 7.3 SMCCC_ARCH_FEATURES", needs("arm64.smccc11"))]
fn arch_features_knows_the_mandatory_functions() -> Verdict {
    let features = |function| psci::call([id::ARCH_FEATURES, function, 0, 0])[0] as i32;
    expect_eq!(features(id::SMCCC_VERSION), 0)?;
    expect_eq!(features(id::ARCH_FEATURES), 0)?;
    expect_eq!(features(0x8000_1234), NOT_SUPPORTED)
}

/// The state of a workaround is one that the convention has, the same on every processor, and
/// calling it is harmless.
#[case(
    spec = "DEN0028 7.5 SMCCC_ARCH_WORKAROUND_1",
    needs("arm64.psci"),
    rows(one: id::WORKAROUND_1, two: id::WORKAROUND_2, three: id::WORKAROUND_3)
)]
fn workaround_state_is_consistent(function: u64) -> Verdict {
    let state = || psci::call([id::ARCH_FEATURES, function, 0, 0])[0] as i32;
    let here = state();
    let known: &[i32] = if function == id::WORKAROUND_2 {
        &[-2, -1, 0, 1]
    } else {
        &[-1, 0, 1]
    };
    note!("state {here}");
    expect_eq!(known.contains(&here), true, "state {here}")?;
    for (i, there) in cpus::on_all(|_| state())?.into_iter().enumerate() {
        expect_eq!(there, here, "on CPU {i}")?;
    }
    let called = fault::catch(|| psci::call([function, 1, 0, 0])[0] as i32)?;
    if here < 0 {
        expect_eq!(
            [0, NOT_SUPPORTED].contains(&called),
            true,
            "answer {called}"
        )?;
    }
    Ok(())
}

/// SMCCC_ARCH_SOC_ID answers exactly when SMCCC_ARCH_FEATURES reports it.
#[case(spec = "DEN0028 7.4 SMCCC_ARCH_SOC_ID", needs("arm64.psci"))]
fn soc_id_agrees_with_arch_features() -> Verdict {
    let reported = psci::call([id::ARCH_FEATURES, id::ARCH_SOC_ID, 0, 0])[0] as i32 >= 0;
    let answered = psci::call([id::ARCH_SOC_ID, 0, 0, 0])[0] as i32 >= 0;
    expect_eq!(answered, reported)
}
