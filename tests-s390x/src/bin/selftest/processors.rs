//! Processors: each starts, has its own prefix area and address, and comes back after each case.
//!
//! Spec: SA22-7832 3 Prefixing, 4 Signal-Processor Orders.

use core::sync::atomic::{AtomicUsize, Ordering};
use guest_lib::arch::{cpu, exec, lowcore, sigp, smp};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;
use guest_lib::sync::Barrier;

fn stored_address() -> Result<u16, Fault> {
    let page = Frames::new(1);
    cpu::store_cpu_address(page.address())?;
    Ok(page.read(0))
}

fn stored_prefix() -> Result<u32, Fault> {
    let page = Frames::new(1);
    cpu::store_prefix(page.address())?;
    Ok(page.read(0))
}

/// Every processor that the SCLP lists runs code and stores the address it is listed with.
#[case(spec = "SA22-7832 10 STORE CPU ADDRESS")]
fn every_listed_processor_runs() -> Verdict {
    for (cpu, address) in cpus::all().zip(cpus::on_all(|_| stored_address())?) {
        expect_eq!(address, Ok(smp::address(cpu.0)), "{cpu:?}")?;
    }
    Ok(())
}

/// Each processor has a prefix area of its own.
#[case(spec = "SA22-7832 3 Prefixing")]
fn prefix_areas_are_apart() -> Verdict {
    let mut prefixes = cpus::on_all(|_| stored_prefix())?;
    for (cpu, prefix) in cpus::all().zip(&prefixes).skip(1) {
        expect_eq!(prefix.map(u64::from), Ok(smp::prefix_of(cpu.0)), "{cpu:?}")?;
    }
    let count = prefixes.len();
    prefixes.sort_unstable_by_key(|p| p.unwrap_or(0));
    prefixes.dedup();
    expect_eq!(prefixes.len(), count)
}

/// Every processor catches its own faults, all at the same time.
#[case(spec = "SA22-7832 6 Program Interruption")]
fn faults_are_caught_on_every_processor() -> Verdict {
    let end = guest_lib::memory::total();
    let faults = cpus::on_all(|cpu| {
        (0..100).all(|_| exec::load(end + 4096 * cpu.0 as u64) == Err(Fault::ADDRESSING))
    })?;
    expect!(faults.iter().all(|&ok| ok), "{faults:?}")
}

/// Processors meet at a barrier again and again, and lose no update.
#[case(spec = "SA22-7832 5 Storage-Operand Consistency")]
fn processors_meet_at_a_barrier() -> Verdict {
    let barrier = Barrier::new(cpus::count());
    let sum = AtomicUsize::new(0);
    cpus::on_all(|_| {
        for _ in 0..20 {
            sum.fetch_add(1, Ordering::Relaxed);
            barrier.wait();
        }
    })?;
    expect_eq!(sum.load(Ordering::Relaxed), 20 * cpus::count())
}

/// A parked processor is stopped, and starts again.
#[case(spec = "SA22-7832 4 Signal-Processor Orders", needs("cpus>=2"))]
fn parked_processor_is_stopped_and_starts_again() -> Verdict {
    for _ in 0..5 {
        expect_eq!(cpus::run_on(Cpu(1), smp::this)?, 1)?;
        expect!(!sigp::is_stopped(smp::address(1)), "it runs")?;
        expect_eq!(cpus::park_all(), Ok(()))?;
        expect!(sigp::is_stopped(smp::address(1)), "it is stopped")?;
    }
    Ok(())
}

/// The runtime's own field and STORE CPU ADDRESS tell the same processor, in problem state too.
#[case(spec = "SA22-7832 3 Prefixing")]
fn processors_know_themselves() -> Verdict {
    let inside = cpus::on_all(|_| fault::catch_user(cpus::this))?;
    for (cpu, this) in cpus::all().zip(inside) {
        expect_eq!(this, Ok(cpu))?;
    }
    expect_eq!(lowcore::read64(lowcore::offset::PROGRAM_NEW) >> 63, 0)
}
