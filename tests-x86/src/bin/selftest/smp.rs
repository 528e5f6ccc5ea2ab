//! Every processor. Spec: SDM 3A 9.4, 11.6.
//!
//! Other processors are started by INIT-SIPI-SIPI when a case asks for them and parked after it.
//! They must come up each time, fault on their own, and hear IPIs.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use guest_lib::arch::{apic, cpu, paging, smp};
use guest_lib::prelude::*;
use guest_lib::sync::{Barrier, SpinLock};

/// Every processor can be started, run code and stopped again.
#[case(spec = "SDM 3A 9.4.4", needs("cpus>=2"))]
fn all_processors_run_code() -> Verdict {
    for _ in 0..2 {
        let seen = cpus::on_all(|cpu| (cpu, cpus::this(), apic::initial_id()))?;
        expect_eq!(seen.len(), cpus::count())?;
        for (asked, ran, id) in seen {
            expect_eq!(ran, asked)?;
            expect_eq!(id, smp::apic_id(asked.0), "APIC id of {asked:?}")?;
        }
    }
    Ok(())
}

/// Processors that were parked start again by INIT and SIPI.
#[case(spec = "SDM 3A 9.4.3", needs("cpus>=2"))]
fn parked_processors_start_again() -> Verdict {
    for round in 0..3u64 {
        for cpu in cpus::others() {
            expect_eq!(cpus::run_on(cpu, || round)?, round)?;
        }
        let parked = cpus::park_all().map_err(|cpu| Failure::new(format!("{cpu:?} is lost")));
        parked?;
    }
    Ok(())
}

/// No processor leaves a barrier before all have come.
#[case(spec = "SDM 3A 8.1", needs("cpus>=2"))]
fn barrier_holds_until_all_have_come() -> Verdict {
    let n = cpus::count() as u32;
    let barrier = Barrier::new(n as usize);
    let arrived = AtomicU32::new(0);
    let early = cpus::on_all(|_| {
        (1..=50)
            .filter(|round| {
                arrived.fetch_add(1, Ordering::SeqCst);
                barrier.wait();
                let seen = arrived.load(Ordering::SeqCst);
                barrier.wait();
                seen != round * n
            })
            .count()
    })?;
    expect!(
        early.iter().all(|&e| e == 0),
        "rounds left early: {early:?}"
    )
}

/// A lock-protected counter loses no increment.
#[case(spec = "SDM 3A 8.1.2", needs("cpus>=2"))]
fn lock_loses_no_increment() -> Verdict {
    let counter = SpinLock::new(0u64);
    cpus::on_all(|_| {
        for _ in 0..500 {
            *counter.lock() += 1;
        }
    })?;
    let total = *counter.lock();
    expect_eq!(total, 500 * cpus::count() as u64)
}

/// Faults on all processors at once stay apart: each sees its own vector, code and CR2.
#[case(spec = "SDM 3A 6.15 #PF", needs("cpus>=2"))]
fn faults_on_all_processors_stay_apart() -> Verdict {
    let wrong = cpus::on_all(|cpu| {
        let address = paging::FREE_BASE + 0x1000 * cpu.0 as u64;
        (0..200)
            .filter(|i| {
                if (i + cpu.0) % 2 == 0 {
                    let read = cpu::peek(address);
                    read != Err(Fault::pf(0)) || fault::details().cr2 != address
                } else {
                    fault::catch(cpu::ud2) != Err(Fault::UD)
                }
            })
            .count()
    })?;
    expect!(wrong.iter().all(|&w| w == 0), "wrong faults: {wrong:?}")
}

/// User mode works on every processor at once.
#[case(spec = "SDM 3A 5.9", needs("cpus>=2"))]
fn user_mode_runs_on_all_processors() -> Verdict {
    let wrong = cpus::on_all(|cpu| {
        (0..50)
            .filter(|&i| {
                fault::catch_user(|| i + cpu.0) != Ok(i + cpu.0)
                    || fault::catch_user(cpu::disable_interrupts) != Err(Fault::GP0)
            })
            .count()
    })?;
    expect!(wrong.iter().all(|&w| w == 0), "wrong returns: {wrong:?}")
}

/// A fixed IPI and an NMI reach exactly the processor they name.
#[case(spec = "SDM 3A 11.6.1 ICR", needs("cpus>=2"))]
fn ipi_reaches_the_processor_it_names() -> Verdict {
    static HEARD: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];
    HEARD[0].store(0, Ordering::SeqCst);
    HEARD[1].store(0, Ordering::SeqCst);
    let mark = |what: usize| {
        // Two bits per processor suffice for 0, 1 and "more".
        let shift = 2 * (cpus::this().0 % 32);
        HEARD[what].fetch_add(1 << shift, Ordering::SeqCst);
    };
    let _fixed = fault::Handler::new(0x76, move |_| {
        mark(0);
        apic::eoi();
    });
    let _nmi = fault::Handler::new(2, move |_| mark(1));
    let stop = AtomicU32::new(0);
    let ready = AtomicU32::new(0);
    let n = cpus::count().min(32);
    let send = || {
        for (what, command) in [(0, apic::ICR_FIXED | 0x76), (1, apic::ICR_NMI)] {
            let mut expected = 0;
            for target in 1..n {
                apic::send_ipi(smp::apic_id(target), command);
                expected += 1u64 << (2 * target);
                let heard = || HEARD[what].load(Ordering::SeqCst) == expected;
                expect!(
                    time::wait_until(time::PATIENCE, heard),
                    "command {command:#x} to CPU {target}: heard {:#x} instead of {expected:#x}",
                    HEARD[what].load(Ordering::SeqCst)
                )?;
            }
        }
        Ok(())
    };
    let verdicts = cpus::on_each((0..n).map(Cpu), |cpu| {
        if cpu == Cpu::BOOT {
            let all = || ready.load(Ordering::SeqCst) as usize == n - 1;
            let verdict = if time::wait_until(time::PATIENCE, all) {
                send()
            } else {
                fail!("not all processors are ready")
            };
            stop.store(1, Ordering::SeqCst);
            return verdict.err().map(|stop| format!("{stop:?}"));
        }
        apic::enable(0xff);
        cpu::with_interrupts(|| {
            ready.fetch_add(1, Ordering::SeqCst);
            while stop.load(Ordering::SeqCst) == 0 {
                cpu::relax();
            }
        });
        None
    })?;
    expect!(
        verdicts[0].is_none(),
        "{}",
        verdicts[0].as_deref().unwrap_or("")
    )
}
