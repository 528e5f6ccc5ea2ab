//! CPU_ON. Spec: DEN0022 5.6, 6.4.
//!
//! The call is a hand-over between two processors, and both sides can be wrong: the caller must get
//! exactly one SUCCESS per start whoever else calls at the same time, and the new processor must begin
//! at the entry point with the context id in x0 and in the architected state, every time.

use guest_lib::arch::psci::{self, Status, id};
use guest_lib::arch::smp;
use guest_lib::prelude::*;
use guest_lib::sync::Barrier;

const TARGET: Cpu = Cpu(1);

fn target() -> u64 {
    smp::mpidr(TARGET.0)
}

fn is_off(cpu: Cpu) -> bool {
    psci::affinity_info(smp::mpidr(cpu.0), 0) == 1
}

fn park() -> Verdict {
    cpus::park_all().map_err(|c| Failure::new(format!("CPU {} stays on", c.0)).into())
}

/// Starts the target at the echo entry and returns what arrived in x0 there.
fn echo(function: u64, context: u64) -> Result<u64, Stop> {
    let entry = smp::echo_entry();
    expect_eq!(
        psci::psci(function, [target(), entry, context]),
        Status::SUCCESS
    )?;
    if !time::wait_until(time::PATIENCE, || smp::echo() != 0 && is_off(TARGET)) {
        return fail!("the processor does not arrive at its entry point");
    }
    Ok(smp::echo())
}

/// A processor starts at the entry point with the context id in x0.
#[case(spec = "DEN0022 5.6 CPU_ON", needs("arm64.psci", "cpus>=2"))]
fn starts_at_entry_with_context_id() -> Verdict {
    for context in [1, 0xffff_ffff, 0x1234_5678_9abc_def0, !0] {
        expect_eq!(echo(id::CPU_ON, context)?, context)?;
    }
    Ok(())
}

/// The 32-bit call takes 32-bit arguments and extends the context id with zeroes.
#[case(spec = "DEN0022 5.6 CPU_ON", needs("arm64.psci", "cpus>=2"))]
fn id_32_zero_extends_the_context_id() -> Verdict {
    if smp::echo_entry() >> 32 != 0 || target() >> 32 != 0 {
        return fail!("the payload lies above 4 GiB, where the 32-bit call cannot start anything");
    }
    expect_eq!(echo(id::CPU_ON_32, 0x8765_4321)?, 0x8765_4321)
}

/// The 32-bit call ignores the upper halves of its argument registers.
#[case(spec = "DEN0028 2.6", needs("arm64.psci", "cpus>=2"))]
fn id_32_ignores_upper_halves() -> Verdict {
    const GARBAGE: u64 = 0xdead_beef << 32;
    let entry = smp::echo_entry();
    let arguments = [target() | GARBAGE, entry | GARBAGE, 0x11 | GARBAGE];
    expect_eq!(psci::psci(id::CPU_ON_32, arguments), Status::SUCCESS)?;
    let arrived = time::wait_until(time::PATIENCE, || smp::echo() != 0 && is_off(TARGET));
    expect_eq!(arrived, true, "the processor arrives")?;
    expect_eq!(smp::echo(), 0x11, "x0 at the entry point")
}

/// A new processor has MMU and caches off, everything masked, and SP_ELx selected.
#[case(spec = "DEN0022 6.4", needs("arm64.psci", "cpus>=2"))]
fn entry_state_is_architected() -> Verdict {
    for cpu in cpus::others() {
        cpus::start(cpu)?;
        let entry = smp::entry_of(cpu.0);
        expect_eq!(entry.sctlr & 0x1005, 0, "SCTLR.M, C, I of CPU {}", cpu.0)?;
        expect_eq!(entry.sctlr & 1 << 25, 0, "SCTLR.EE of CPU {}", cpu.0)?;
        expect_eq!(entry.daif, 0x3c0, "DAIF of CPU {}", cpu.0)?;
        expect_eq!(entry.spsel, 1, "SPSel of CPU {}", cpu.0)?;
    }
    Ok(())
}

/// A new processor starts at the exception level at which the boot processor was entered.
#[case(spec = "DEN0022 6.4", needs("arm64.psci", "cpus>=2"))]
fn entry_level_is_that_of_the_boot_cpu() -> Verdict {
    cpus::start(TARGET)?;
    expect_eq!(
        smp::entry_of(TARGET.0).current_el,
        arch::cpu::entry_el() << 2
    )
}

/// Starting a running processor is refused, be it the caller or another.
#[case(
    spec = "DEN0022 5.6 CPU_ON",
    needs("arm64.psci", "cpus>=2"),
    rows(caller: false, other: true)
)]
fn running_cpu_is_already_on(other: bool) -> Verdict {
    let cpu = if other { TARGET } else { Cpu::BOOT };
    if other {
        cpus::start(TARGET)?;
    }
    let (entry, context) = (smp::echo_entry(), 7);
    expect_eq!(
        psci::cpu_on(smp::mpidr(cpu.0), entry, context),
        Status::ALREADY_ON
    )?;
    expect_eq!(cpus::run_on(cpu, || 5)?, 5, "the processor goes on")?;
    expect_eq!(smp::echo(), 0, "nobody was sent to the entry point")
}

/// An affinity that no processor has is refused.
#[case(
    spec = "DEN0022 5.6 CPU_ON",
    needs("arm64.psci", "cpus>=2"),
    rows(
        absent_aff0: 0xf0,
        absent_aff1: 0xfe00,
        absent_aff2: 0xfe_0000,
        absent_aff3: 0xfe_0000_0000,
        reserved_bits_31_24: 1 << 31,
        reserved_bits_63_40: 1 << 63,
    )
)]
fn absent_cpu_is_refused(spoil: u64) -> Verdict {
    let entry = smp::echo_entry();
    let refused = psci::cpu_on(target() ^ spoil, entry, 1);
    expect_eq!(refused, Status::INVALID_PARAMETERS)?;
    expect_eq!(
        is_off(TARGET),
        true,
        "the processor without the spoiled bits is off"
    )?;
    expect_eq!(echo(id::CPU_ON, 9)?, 9, "mended")
}

/// An entry point that is not a multiple of four is refused, and the processor stays off.
#[case(
    spec = "DEN0022 5.6 CPU_ON",
    needs("arm64.psci", "cpus>=2"),
    rows(by_one: 1, by_two: 2, by_three: 3)
)]
fn misaligned_entry_is_refused(by: u64) -> Verdict {
    let refused = psci::cpu_on(target(), smp::echo_entry() + by, 1);
    let known = [Status::INVALID_ADDRESS, Status::INVALID_PARAMETERS];
    expect_eq!(known.contains(&refused), true, "answer {refused:?}")?;
    expect_eq!(is_off(TARGET), true)?;
    expect_eq!(echo(id::CPU_ON, 9)?, 9, "mended")
}

/// When several processors start one at the same moment, again and again, exactly one call succeeds.
#[case(spec = "DEN0022 5.6 CPU_ON", needs("arm64.psci", "cpus>=4"))]
fn one_of_several_callers_succeeds() -> Verdict {
    for round in 0..20 {
        let (entry, context) = smp::arguments(TARGET.0);
        cpus::claim(TARGET);
        let callers = cpus::all().filter(|&c| c != TARGET);
        let barrier = Barrier::new(cpus::count() - 1);
        let answers = cpus::on_each(callers, |_| {
            barrier.wait();
            [(); 8].map(|()| psci::cpu_on(target(), entry, context))
        })?;
        let answers = answers.concat();
        let count = |status| answers.iter().filter(|&&a| a == status).count();
        let refused = count(Status::ALREADY_ON) + count(Status::ON_PENDING);
        let successes = count(Status::SUCCESS);
        expect_eq!(
            (successes, refused),
            (1, answers.len() - 1),
            "round {round}: {answers:?}"
        )?;
        cpus::start(TARGET)?;
        expect_eq!(cpus::run_on(TARGET, cpus::this)?, TARGET)?;
        park()?;
    }
    Ok(())
}

/// All processors start when one starts them without waiting in between.
#[case(spec = "DEN0022 5.6 CPU_ON", needs("arm64.psci", "cpus>=2"))]
fn all_cpus_start_at_once() -> Verdict {
    for cpu in cpus::others() {
        let (entry, context) = smp::arguments(cpu.0);
        cpus::claim(cpu);
        expect_eq!(
            psci::cpu_on(smp::mpidr(cpu.0), entry, context),
            Status::SUCCESS
        )?;
    }
    for cpu in cpus::others() {
        cpus::start(cpu)?;
        expect_eq!(
            smp::entry_of(cpu.0).x0,
            smp::context_of(cpu.0),
            "x0 of CPU {}",
            cpu.0
        )?;
    }
    Ok(())
}

/// A secondary processor can start another one.
#[case(spec = "DEN0022 5.6 CPU_ON", needs("arm64.psci", "cpus>=3"))]
fn secondary_cpu_starts_another() -> Verdict {
    let entry = smp::echo_entry();
    let status = cpus::run_on(Cpu(2), || psci::cpu_on(target(), entry, 33))?;
    expect_eq!(status, Status::SUCCESS)?;
    let arrived = time::wait_until(time::PATIENCE, || smp::echo() != 0 && is_off(TARGET));
    expect_eq!(arrived, true, "the processor arrives")?;
    expect_eq!(smp::echo(), 33)
}
