//! CPU_SUSPEND. Spec: DEN0022 5.4.
//!
//! Most hypervisors treat it as WFI. Then it must at least behave like a standby state: come back with
//! SUCCESS on a wake-up event, and refuse a power state with reserved bits.

use guest_lib::arch::gic::{Gic, Intid};
use guest_lib::arch::psci::{self, Status, id};
use guest_lib::arch::registers::TimerControl;
use guest_lib::arch::smp;
use guest_lib::arch::timer::Timers;
use guest_lib::prelude::*;

/// A standby state ends with SUCCESS when a timer fires, masked or not.
#[case(
    spec = "DEN0022 5.4 CPU_SUSPEND",
    needs("arm64.psci"),
    rows(id_32: id::CPU_SUSPEND_32, id_64: id::CPU_SUSPEND)
)]
fn standby_ends_on_a_timer(gic: &mut Gic, timers: &mut Timers, function: u64) -> Verdict {
    let timer = timers.phys;
    gic.set_enabled(timer.intid()?, true);
    let deadline = timer.count() + time::ticks(time::ms(5));
    timer.set_deadline(deadline);
    timer.set_control(TimerControl::ENABLE);
    // A standby state may end early; it must end at all, and always with SUCCESS.
    let ended = time::wait_until(time::PATIENCE, || {
        psci::psci(function, [0; 3]) != Status::SUCCESS || timer.is_met()
    });
    expect_eq!(ended, true)?;
    expect_eq!(
        psci::psci(function, [0; 3]),
        Status::SUCCESS,
        "with the interrupt pending"
    )?;
    expect_eq!(timer.count() >= deadline, true)
}

/// A power state with reserved bits is refused.
#[case(
    spec = "DEN0022 5.4 CPU_SUSPEND",
    needs("arm64.psci"),
    rows(bit_17: 1 << 17, bit_23: 1 << 23, bit_26: 1 << 26, bit_31: 1 << 31)
)]
fn reserved_power_state_is_refused(gic: &mut Gic, state: u64) -> Verdict {
    let extended = psci::features(id::CPU_SUSPEND).0 & 2 != 0;
    // In the extended format only bits 31, 29 and 28 are reserved.
    let state = if extended { 1 << 31 } else { state };
    gic.set_enabled(Intid::sgi(0), true);
    // A wake-up event is pending, so that a hypervisor that accepts the state returns too.
    gic.send(0, Cpu::BOOT);
    expect_eq!(
        psci::psci(id::CPU_SUSPEND, [state, 0, 0]),
        Status::INVALID_PARAMETERS
    )?;
    expect_eq!(
        psci::psci(id::CPU_SUSPEND, [0; 3]),
        Status::SUCCESS,
        "mended"
    )
}

/// A power-down state ends at its entry point, or is taken as standby and returns.
#[case(spec = "DEN0022 5.4 CPU_SUSPEND", needs("arm64.psci", "cpus>=2"))]
fn power_down_resumes_at_entry_or_returns(gic: &mut Gic) -> Verdict {
    const CONTEXT: u64 = 0x77;
    let entry = smp::echo_entry();
    let gic = &*gic;
    cpus::run_on(Cpu(1), || {
        gic.init_cpu();
        gic.set_enabled(Intid::sgi(0), true);
    })?;
    let job = cpus::spawn_on(Cpu(1), move || {
        psci::psci(id::CPU_SUSPEND, [1 << 16, entry, CONTEXT])
    })?;
    gic.send(0, Cpu(1));
    let off = || psci::affinity_info(smp::mpidr(1), 0) == 1;
    let ended = time::wait_until(time::PATIENCE, || {
        job.is_done() || smp::echo() != 0 && off()
    });
    expect_eq!(ended, true, "the processor wakes up")?;
    if job.is_done() {
        let status = job.join();
        let known = [Status::SUCCESS, Status::INVALID_PARAMETERS, Status::DENIED];
        note!("returned {status:?}");
        return expect_eq!(known.contains(&status), true, "answer {status:?}");
    }
    cpus::forget(Cpu(1));
    note!("resumed at the entry point");
    expect_eq!(smp::echo(), CONTEXT)
}
