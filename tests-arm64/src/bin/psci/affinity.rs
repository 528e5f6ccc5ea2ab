//! AFFINITY_INFO. Spec: DEN0022 5.7.
//!
//! It is how a guest learns that another processor is really off. An answer that is early lets a guest
//! free the stack a processor still runs on; one that is late hangs it.

use core::sync::atomic::{AtomicBool, Ordering::SeqCst};
use guest_lib::arch::psci::{self, Status, id};
use guest_lib::arch::smp;
use guest_lib::prelude::*;
use guest_lib::sync::Barrier;

const ON: i32 = 0;
const OFF: i32 = 1;

fn own() -> u64 {
    smp::mpidr(0)
}

/// The caller is on.
#[case(
    spec = "DEN0022 5.7 AFFINITY_INFO",
    needs("arm64.psci"),
    rows(id_32: id::AFFINITY_INFO_32, id_64: id::AFFINITY_INFO)
)]
fn caller_is_on(function: u64) -> Verdict {
    expect_eq!(psci::psci(function, [own(), 0, 0]).0, ON)
}

/// A processor that was never started is off, one that runs is on, and one that stopped is off.
#[case(
    spec = "DEN0022 5.7 AFFINITY_INFO",
    needs("arm64.psci", "cpus>=2"),
    rows(id_32: id::AFFINITY_INFO_32, id_64: id::AFFINITY_INFO)
)]
fn state_follows_the_cpu(function: u64) -> Verdict {
    for cpu in cpus::others() {
        let state = || psci::psci(function, [smp::mpidr(cpu.0), 0, 0]).0;
        expect_eq!(state(), OFF, "CPU {} before its start", cpu.0)?;
        cpus::start(cpu)?;
        expect_eq!(state(), ON, "CPU {} while it runs", cpu.0)?;
        cpus::park_all().map_err(|c| Failure::new(format!("CPU {} stays on", c.0)))?;
        expect_eq!(state(), OFF, "CPU {} after CPU_OFF", cpu.0)?;
    }
    Ok(())
}

/// From CPU_ON's return on, whoever asks sees the processor on or pending, never off.
#[case(spec = "DEN0022 5.7 AFFINITY_INFO", needs("arm64.psci", "cpus>=2"))]
fn started_cpu_is_never_off() -> Verdict {
    const TARGET: Cpu = Cpu(1);
    let target = smp::mpidr(TARGET.0);
    for round in 0..30 {
        let (entry, context) = smp::arguments(TARGET.0);
        cpus::claim(TARGET);
        // All others ask all the time, so that a state that is published late shows.
        let (started, asking) = (AtomicBool::new(false), Barrier::new(cpus::count() - 1));
        let seen = cpus::on_each(cpus::all().filter(|&c| c != TARGET), |cpu| {
            asking.wait();
            let state = || psci::affinity_info(target, 0);
            if cpu == Cpu::BOOT {
                // The first question follows CPU_ON at once.
                let status = psci::cpu_on(target, entry, context);
                let first = state();
                started.store(true, SeqCst);
                return (status, true, [first, state(), state(), state()]);
            }
            let in_time = time::wait_until(time::PATIENCE, || {
                state();
                started.load(SeqCst)
            });
            (Status::SUCCESS, in_time, [(); 4].map(|()| state()))
        })?;
        for (status, in_time, states) in seen {
            expect_eq!(
                (status, in_time),
                (Status::SUCCESS, true),
                "CPU_ON in round {round}"
            )?;
            expect_eq!(states.contains(&OFF), false, "{states:?} in round {round}")?;
        }
        cpus::start(TARGET)?;
        cpus::park_all().map_err(|c| Failure::new(format!("CPU {} stays on", c.0)))?;
    }
    Ok(())
}

/// Every processor sees the state of every other one.
#[case(spec = "DEN0022 5.7 AFFINITY_INFO", needs("arm64.psci", "cpus>=2"))]
fn state_is_seen_from_every_cpu() -> Verdict {
    let seen = cpus::on_all(|_| {
        cpus::all()
            .map(|c| psci::affinity_info(smp::mpidr(c.0), 0))
            .collect::<Vec<_>>()
    })?;
    for (i, states) in seen.into_iter().enumerate() {
        expect_eq!(states, vec![ON; cpus::count()], "as CPU {i} sees it")?;
    }
    Ok(())
}

/// An affinity that no processor has is refused.
#[case(
    spec = "DEN0022 5.7 AFFINITY_INFO",
    needs("arm64.psci"),
    rows(
        absent_aff0: 0xfe,
        absent_aff1: 0xfe00,
        absent_aff2: 0xfe_0000,
        absent_aff3: 0xfe_0000_0000,
        reserved_bits_31_24: 1 << 31,
        reserved_bits_63_40: 1 << 63,
    )
)]
fn absent_affinity_is_refused(spoil: u64) -> Verdict {
    expect_eq!(psci::affinity_info(own(), 0), ON)?;
    let status = Status(psci::affinity_info(own() ^ spoil, 0));
    expect_eq!(status, Status::INVALID_PARAMETERS)
}

/// Levels 1 to 3 answer on, or are refused by PSCI 1.0 and later.
#[case(
    spec = "DEN0022 5.7 AFFINITY_INFO",
    needs("arm64.psci"),
    rows(level_1: 1, level_2: 2, level_3: 3)
)]
fn higher_level_is_on_or_refused(level: u64) -> Verdict {
    let state = psci::affinity_info(own(), level);
    expect_eq!(
        [ON, Status::INVALID_PARAMETERS.0].contains(&state),
        true,
        "answer {state} for a level that holds the caller"
    )
}

/// An affinity level above 3 does not exist and is refused.
#[case(spec = "DEN0022 5.7 AFFINITY_INFO", needs("arm64.psci"))]
fn level_above_3_is_refused() -> Verdict {
    expect_eq!(psci::affinity_info(own(), 0), ON)?;
    for level in [4, 5, 0x8000_0000] {
        let status = Status(psci::affinity_info(own(), level));
        expect_eq!(status, Status::INVALID_PARAMETERS, "level {level}")?;
    }
    Ok(())
}
