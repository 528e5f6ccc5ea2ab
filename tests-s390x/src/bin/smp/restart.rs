//! RESTART: the processor swaps its PSW with the restart new PSW. Spec: SA22-7832 4 Restart, 6
//! Restart Interruption.

use crate::target::Other;
use core::sync::atomic::{AtomicU32, Ordering};
use guest_lib::arch::interrupts::{Class, Context, Handler, Interruption};
use guest_lib::arch::sigp::{self, Answer};
use guest_lib::prelude::*;

static RESTARTS: AtomicU32 = AtomicU32::new(0);

fn counted(_: &mut Context, _: Interruption) {
    RESTARTS.fetch_add(1, Ordering::AcqRel);
}

fn arrived(count: u32) -> bool {
    time::wait_until(time::PATIENCE, || RESTARTS.load(Ordering::Acquire) == count)
}

/// A running processor takes the restart interruption and returns to its program.
#[case(spec = "SA22-7832 4 Restart", needs("cpus>=2"))]
fn running_processor_is_interrupted(other: &mut Other) -> Verdict {
    RESTARTS.store(0, Ordering::Release);
    let _handler = Handler::install(Class::Restart, counted);
    let beating = other.beat()?;
    for round in 1..=3 {
        expect_eq!(other.order(sigp::RESTART, 0), Answer::Accepted)?;
        expect!(arrived(round), "restart {round}")?;
        expect!(beating.advances(), "the program goes on")?;
    }
    beating.end()
}

/// A stopped processor takes the restart interruption and is operating afterwards.
#[case(spec = "SA22-7832 4 Restart", needs("cpus>=2"))]
fn stopped_processor_is_started(other: &mut Other) -> Verdict {
    RESTARTS.store(0, Ordering::Release);
    let _handler = Handler::install(Class::Restart, counted);
    let beating = other.beat()?;
    other.stop()?;
    expect_eq!(RESTARTS.load(Ordering::Acquire), 0)?;
    expect_eq!(other.order(sigp::RESTART, 0), Answer::Accepted)?;
    expect!(arrived(1), "the interruption")?;
    expect!(!other.is_stopped(), "it is operating")?;
    expect!(beating.advances(), "the program goes on")?;
    beating.end()
}

/// A processor restarts itself.
#[case(spec = "SA22-7832 4 Restart")]
fn processor_restarts_itself() -> Verdict {
    RESTARTS.store(0, Ordering::Release);
    let _handler = Handler::install(Class::Restart, counted);
    let own = guest_lib::arch::smp::address(0);
    expect_eq!(
        sigp::until_accepted(sigp::RESTART, own, 0),
        Answer::Accepted
    )?;
    expect!(arrived(1), "the interruption")
}
