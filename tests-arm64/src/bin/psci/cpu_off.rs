//! CPU_OFF. Spec: DEN0022 5.5.
//!
//! The call does not return, and nothing but CPU_ON brings the processor back: an interrupt that wakes
//! it would let it run on with state that its guest has given away. Off and on again must work
//! for ever, with memory coherent on both sides.

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use guest_lib::arch::gic::{Gic, Intid};
use guest_lib::arch::{psci, smp};
use guest_lib::prelude::*;

const TARGET: Cpu = Cpu(1);

fn wait_off(cpu: Cpu) -> bool {
    time::wait_until(time::PATIENCE, || {
        psci::affinity_info(smp::mpidr(cpu.0), 0) == 1
    })
}

static RETURNED: AtomicU64 = AtomicU64::new(0);

/// Every processor that calls CPU_OFF is seen to be off, and the call does not return.
#[case(spec = "DEN0022 5.5 CPU_OFF", needs("arm64.psci", "cpus>=2"))]
fn caller_goes_off_and_does_not_return() -> Verdict {
    RETURNED.store(0, SeqCst);
    for cpu in cpus::others() {
        cpus::start(cpu)?;
    }
    for cpu in cpus::others() {
        cpus::spawn_on(cpu, || {
            psci::cpu_off();
            RETURNED.fetch_add(1, SeqCst);
        })?;
    }
    for cpu in cpus::others() {
        let off = wait_off(cpu);
        cpus::forget(cpu);
        expect_eq!(off, true, "CPU {} is off", cpu.0)?;
    }
    expect_eq!(RETURNED.load(SeqCst), 0, "calls that returned")?;
    for cpu in cpus::others() {
        expect_eq!(cpus::run_on(cpu, cpus::this)?, cpu, "after CPU_ON")?;
    }
    Ok(())
}

/// An interrupt does not wake a processor that is off.
#[case(
    spec = "DEN0022 5.5 CPU_OFF",
    needs("arm64.psci", "cpus>=2"),
    rows(sgi: Intid::sgi(4), spi: Intid::spi(40))
)]
fn interrupt_does_not_wake_an_off_cpu(gic: &mut Gic, intid: Intid) -> Verdict {
    RETURNED.store(0, SeqCst);
    if !intid.is_private() {
        gic.set_edge(intid, true);
        gic.route(intid, TARGET);
        gic.set_enabled(intid, true);
    }
    {
        let gic = &*gic;
        cpus::run_on(TARGET, || {
            gic.init_cpu();
            gic.set_enabled(Intid::sgi(4), true);
        })?;
    }
    cpus::spawn_on(TARGET, || {
        psci::cpu_off();
        RETURNED.fetch_add(1, SeqCst);
    })?;
    let off = wait_off(TARGET);
    cpus::forget(TARGET);
    expect_eq!(off, true, "the processor is off")?;
    match intid.is_private() {
        true => gic.send(4, TARGET),
        false => gic.set_pending(intid, true),
    }
    time::spin(time::ms(5));
    expect_eq!(
        psci::affinity_info(smp::mpidr(1), 0),
        1,
        "state after the interrupt"
    )?;
    expect_eq!(RETURNED.load(SeqCst), 0, "the call returned")?;
    gic.set_pending(intid, false);
    expect_eq!(cpus::run_on(TARGET, cpus::this)?, TARGET, "after CPU_ON")
}

/// Thirty times off and on again, memory stays coherent.
#[case(spec = "DEN0022 5.5 CPU_OFF", needs("arm64.psci", "cpus>=2"))]
fn off_and_on_again_keeps_memory_coherent() -> Verdict {
    let sum = AtomicU64::new(0);
    for round in 1..=30u64 {
        cpus::run_on(TARGET, || sum.fetch_add(round, SeqCst))?;
        cpus::park_all().map_err(|c| Failure::new(format!("CPU {} stays on", c.0)))?;
        expect_eq!(sum.load(SeqCst), round * (round + 1) / 2, "round {round}")?;
    }
    Ok(())
}

/// A processor that was started anew does not see the interrupt masks or stack of its former life.
#[case(spec = "DEN0022 6.4", needs("arm64.psci", "cpus>=2"))]
fn second_start_has_the_first_state() -> Verdict {
    cpus::start(TARGET)?;
    let first = smp::entry_of(1);
    cpus::run_on(TARGET, arch::interrupts::unmask_irq)?;
    cpus::park_all().map_err(|c| Failure::new(format!("CPU {} stays on", c.0)))?;
    cpus::start(TARGET)?;
    let second = smp::entry_of(1);
    expect_eq!(format!("{second:x?}"), format!("{first:x?}"))
}
