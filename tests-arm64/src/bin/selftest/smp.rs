//! Other processors. Spec: DEN0022 5.6, DDI0487 B2.6.
//!
//! Every processor that the device tree lists must start, know who it is, take faults and interrupts
//! of its own, meet the others at a barrier, and stop and start again. All of them at once,
//! because races between processors are what such code gets wrong.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use guest_lib::arch::registers::MpidrEl1;
use guest_lib::arch::{platform, probe, psci, smp};
use guest_lib::prelude::*;
use guest_lib::sync::{Barrier, SpinLock};

fn asked_for(word: &str) -> Result<u64, Stop> {
    match guest_lib::cmdline::value(word).and_then(|v| v.parse().ok()) {
        Some(n) => Ok(n),
        None => fail!("the unit must pass {word}=N"),
    }
}

/// The device tree lists as many processors as the machine was asked to have.
#[case(spec = "Devicetree 0.4 5")]
fn tree_lists_all_cpus() -> Verdict {
    expect_eq!(cpus::count() as u64, asked_for("cpus")?)
}

/// The device tree lists as much memory as the machine was asked to have.
#[case(spec = "Devicetree 0.4 5")]
fn tree_lists_all_memory() -> Verdict {
    expect_eq!(guest_lib::memory::total() >> 20, asked_for("memory_mib")?)?;
    let edges = platform::memory_map()
        .iter()
        .all(|&(a, l)| a % 4096 == 0 && l % 4096 == 0);
    expect_eq!(edges, true, "regions begin and end on pages")
}

/// Every processor runs a closure, and its MPIDR is the one that the device tree lists.
#[case(spec = "DDI0487 D24.2 MPIDR_EL1")]
fn every_cpu_is_itself() -> Verdict {
    let found = cpus::on_all(|cpu| (cpus::this(), cpu, MpidrEl1::read() & psci::AFFINITY))?;
    for (this, cpu, mpidr) in found {
        expect_eq!(this, cpu)?;
        expect_eq!(mpidr, smp::mpidr(cpu.0), "MPIDR of CPU {}", cpu.0)?;
    }
    Ok(())
}

/// Atomic additions of all processors add up.
#[case(spec = "DDI0487 B2.12")]
fn atomics_add_up() -> Verdict {
    let sum = AtomicU64::new(0);
    cpus::on_all(|_| {
        for _ in 0..1000 {
            sum.fetch_add(1, Relaxed);
        }
    })?;
    expect_eq!(sum.load(Relaxed), 1000 * cpus::count() as u64)
}

/// A lock lets one processor in at a time.
#[case(spec = "DDI0487 B2.12")]
fn locks_exclude() -> Verdict {
    let pair = SpinLock::new((0u64, 0u64));
    let torn = cpus::on_all(|_| {
        (0..300).any(|_| {
            let mut both = pair.lock();
            both.0 += 1;
            both.1 += 1;
            both.0 != both.1
        })
    })?;
    expect_eq!(torn.contains(&true), false)?;
    expect_eq!(pair.lock().0, 300 * cpus::count() as u64)
}

/// Nobody leaves a barrier before all have come, round after round.
#[case(spec = "DDI0487 B2.6")]
fn barriers_hold() -> Verdict {
    let n = cpus::count() as u64;
    let barrier = Barrier::new(n as usize);
    let arrived = AtomicU64::new(0);
    let early = cpus::on_all(|_| {
        (1..=20).find(|round| {
            arrived.fetch_add(1, Relaxed);
            barrier.wait();
            let seen = arrived.load(Relaxed);
            barrier.wait();
            seen != round * n
        })
    })?;
    expect_eq!(early.iter().find(|e| e.is_some()), None)
}

/// Every processor catches faults of its own, all at once.
#[case(spec = "DDI0487 D1.4")]
fn faults_are_per_cpu() -> Verdict {
    let wrong = cpus::on_all(|cpu| {
        (0..100).any(|i| match (i + cpu.0) % 3 {
            0 => fault::catch(|| probe::SVC.run(0, 0)) != Err(Fault::svc(123)),
            1 => fault::catch(|| probe::UNDEFINED.run(0, 0)) != Err(Fault::UNDEFINED),
            _ => fault::catch_user(|| cpu.0) != Ok(cpu.0),
        })
    })?;
    expect_eq!(wrong.contains(&true), false)
}

/// Parked processors are off, and start again.
#[case(spec = "DEN0022 5.5", needs("cpus>=2"))]
fn parked_cpus_start_again() -> Verdict {
    for round in 0..3u64 {
        for cpu in cpus::others() {
            expect_eq!(
                psci::affinity_info(smp::mpidr(cpu.0), 0),
                1,
                "before round {round}"
            )?;
        }
        let got = cpus::on_all(|cpu| cpu.0 as u64 + round)?;
        for cpu in cpus::others() {
            expect_eq!(
                psci::affinity_info(smp::mpidr(cpu.0), 0),
                0,
                "in round {round}"
            )?;
        }
        expect_eq!(
            got,
            cpus::all().map(|c| c.0 as u64 + round).collect::<Vec<_>>()
        )?;
        cpus::park_all().map_err(|cpu| Failure::new(format!("CPU {} stays on", cpu.0)))?;
    }
    Ok(())
}
