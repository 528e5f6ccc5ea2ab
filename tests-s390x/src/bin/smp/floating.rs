//! Floating interruptions: one pending for the whole machine, taken by exactly one processor.
//!
//! Spec: SA22-7832 6 Floating Interruption Conditions. The service signal of a completed service
//! call is one.

use guest_lib::arch::interrupts::{self, Interruption, external_code};
use guest_lib::arch::registers::{Cr0, Psw, cr0_with};
use guest_lib::arch::sclp;
use guest_lib::arch::sigp;
use guest_lib::arch::smp;
use guest_lib::prelude::*;

/// Has the service signal pending: an unknown command completes at once with a response.
fn make_pending() -> Verdict {
    let block = sclp::block(8);
    expect_eq!(sclp::service_call(0xdead_0001, block.address()), Ok(0))
}

fn is_service_signal(what: Option<Interruption>) -> bool {
    what.and_then(|i| i.external_code()) == Some(external_code::SERVICE_SIGNAL)
}

/// The service signal of this processor's call can be taken by another one, and then it is gone.
#[case(
    spec = "SA22-7832 6 Floating Interruption Conditions",
    needs("cpus>=2")
)]
fn another_processor_takes_it() -> Verdict {
    cpus::start(Cpu(1))?;
    make_pending()?;
    let there = cpus::run_on(Cpu(1), || {
        let _subclass = cr0_with(Cr0::SERVICE_SIGNAL);
        interrupts::wait(Psw::EXTERNAL, time::PATIENCE)
    })?;
    let _subclass = cr0_with(Cr0::SERVICE_SIGNAL);
    let here = interrupts::take(Psw::EXTERNAL);
    expect!(is_service_signal(there), "{there:?}")?;
    expect_eq!(here, None)
}

/// Of all processors that wait for it exactly one gets it.
#[case(
    spec = "SA22-7832 6 Floating Interruption Conditions",
    needs("cpus>=2")
)]
fn exactly_one_processor_takes_it() -> Verdict {
    for cpu in cpus::others() {
        cpus::start(cpu)?;
    }
    for round in 0..5 {
        make_pending()?;
        let taken = cpus::on_all(|_| {
            let _subclass = cr0_with(Cr0::SERVICE_SIGNAL);
            interrupts::wait(Psw::EXTERNAL, time::ms(20))
        })?;
        let count = taken
            .iter()
            .filter(|&&what| is_service_signal(what))
            .count();
        expect_eq!(count, 1, "takers in round {round}")?;
    }
    Ok(())
}

/// A stopped processor does not take it: it waits for one that runs.
#[case(
    spec = "SA22-7832 6 Floating Interruption Conditions",
    needs("cpus>=3")
)]
fn stopped_processor_does_not_take_it() -> Verdict {
    use guest_lib::arch::sigp::Answer;
    // The second processor would be open for it, but is stopped.
    let open = cpus::spawn_on(Cpu(1), || {
        let _subclass = cr0_with(Cr0::SERVICE_SIGNAL);
        interrupts::wait(Psw::EXTERNAL, 6 * time::PATIENCE)
    })?;
    cpus::start(Cpu(2))?;
    expect_eq!(
        sigp::until_accepted(sigp::STOP, smp::address(1), 0),
        Answer::Accepted
    )?;
    let stopped = || sigp::is_stopped(smp::address(1));
    expect!(time::wait_until(time::PATIENCE, stopped), "it stops")?;
    make_pending()?;
    let third = cpus::run_on(Cpu(2), || {
        let _subclass = cr0_with(Cr0::SERVICE_SIGNAL);
        interrupts::wait(Psw::EXTERNAL, time::PATIENCE)
    })?;
    // A second signal ends the wait of the first one after it was started again.
    make_pending()?;
    sigp::until_accepted(sigp::START, smp::address(1), 0);
    let second = open.join_within(time::PATIENCE)?;
    expect!(is_service_signal(third), "the running one: {third:?}")?;
    expect!(
        is_service_signal(second),
        "the stopped one, once started: {second:?}"
    )
}
