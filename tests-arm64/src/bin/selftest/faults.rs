//! Exceptions taken to the level of the runtime. Spec: DDI0487 D1.4.
//!
//! `catch` is the ground that every other case stands on: it must give the exact syndrome and the
//! exact address, come back with stack and masks as they were, nest, and leave no trace. A runtime
//! that only notices "some fault" could not tell a right hypervisor from a wrong one.

use core::sync::atomic::{AtomicU64, Ordering};
use guest_lib::arch::fault::{Vector, ec};
use guest_lib::arch::probe::{self, Instruction, Registers, observed};
use guest_lib::arch::registers::{Daif, Pstate};
use guest_lib::prelude::*;

/// An undefined instruction gives class 0 with IL set, at its own address.
#[case(spec = "DDI0487 D1.4")]
fn undefined_instruction_is_exact() -> Verdict {
    fault::forget();
    expect_eq!(
        fault::catch(|| probe::UNDEFINED.run(0, 0)),
        Err(Fault::UNDEFINED)
    )?;
    let seen = fault::details();
    expect_eq!(seen.elr, probe::UNDEFINED.address())?;
    expect_eq!(seen.vector, Vector::SPX_SYNC)
}

/// SVC gives its immediate, and returns behind itself.
#[case(spec = "DDI0487 D1.4 SVC")]
fn svc_is_exact() -> Verdict {
    fault::forget();
    expect_eq!(fault::catch(|| probe::SVC.run(0, 0)), Err(Fault::svc(123)))?;
    expect_eq!(fault::details().elr, probe::SVC.address() + 4)
}

/// BRK gives its comment field, at its own address.
#[case(spec = "DDI0487 D2.7 BRK")]
fn brk_is_exact() -> Verdict {
    fault::forget();
    expect_eq!(
        fault::catch(|| probe::BRK.run(0, 0)),
        Err(Fault::new(ec::BRK64, 0x5a5a))
    )?;
    expect_eq!(fault::details().elr, probe::BRK.address())
}

/// A closure without a fault gives its value, and its fault record stays untouched.
#[case(spec = "DDI0487 D1.4")]
fn no_fault_is_no_fault() -> Verdict {
    fault::forget();
    let words = fault::catch(|| vec![1u32, 2, 3]);
    expect_eq!(words, Ok(vec![1, 2, 3]))?;
    expect_eq!(fault::details().vector, Vector(0))
}

/// A fault inside a nested catch ends that one only; the outer one goes on and can fault itself.
#[case(spec = "DDI0487 D1.4")]
fn catches_nest() -> Verdict {
    let outer = fault::catch(|| {
        let inner = fault::catch(|| probe::SVC.run(0, 0));
        if inner != Err(Fault::svc(123)) {
            return Err(inner);
        }
        probe::BRK.run(0, 0);
        Ok(())
    });
    expect_eq!(outer, Err(Fault::new(ec::BRK64, 0x5a5a)))?;
    expect_eq!(
        fault::catch(|| probe::UNDEFINED.run(0, 0)),
        Err(Fault::UNDEFINED)
    )
}

/// A thousand faults in a row leave the stack pointer and the masks as they were.
#[case(spec = "DDI0487 D1.4")]
fn recovery_leaks_nothing() -> Verdict {
    let daif = Daif::read();
    let marker = [0x5au8; 64];
    for _ in 0..1000 {
        expect_eq!(fault::catch(|| probe::UDF.run(0, 0)), Err(Fault::UNDEFINED))?;
    }
    expect_eq!(Daif::read(), daif)?;
    expect_eq!(marker, [0x5a; 64])
}

/// A hook sees the exception first and can resume behind it.
#[case(spec = "DDI0487 D1.4")]
fn hooks_resume() -> Verdict {
    let value = fault::with_hook(
        |frame| {
            frame.x[0] = 77;
            frame.elr += 4;
            frame.fault() == Fault::UNDEFINED
        },
        || probe::UNDEFINED.run(0, 0),
    );
    expect_eq!(value, 77)?;
    expect_eq!(
        fault::catch(|| probe::UNDEFINED.run(0, 0)),
        Err(Fault::UNDEFINED)
    )
}

/// A hook that declines leaves the exception to `catch`, and is gone afterwards.
#[case(spec = "DDI0487 D1.4")]
fn declined_faults_are_caught() -> Verdict {
    let caught = fault::catch(|| fault::with_hook(|_| false, || probe::SVC.run(0, 0)));
    expect_eq!(caught, Err(Fault::svc(123)))?;
    let again = fault::catch(|| probe::SVC.run(0, 0));
    expect_eq!(
        again,
        Err(Fault::svc(123)),
        "a stale hook would have been called"
    )
}

/// A fault inside a hook is caught where the outer catch stands.
#[case(spec = "DDI0487 D1.4")]
fn faults_in_hooks_are_caught() -> Verdict {
    let caught = fault::catch(|| {
        fault::with_hook(
            |_| fault::catch(|| probe::SVC.run(0, 0)).is_ok(),
            || probe::BRK.run(0, 0),
        )
    });
    expect_eq!(caught, Err(Fault::new(ec::BRK64, 0x5a5a)))?;
    expect_eq!(fault::catch(|| 1), Ok(1))
}

/// x0 to x30, SP, NZCV and the FP registers survive an exception and its return.
#[case(spec = "DDI0487 D1.4", needs("arm64.fp"))]
fn frames_restore_every_register() -> Verdict {
    let mut before = Registers::pattern();
    let after = fault::with_hook(|_| true, || observed(Instruction::Svc, &before));
    // The vectors use TPIDR_EL0.
    before.tpidr_el0 = after.tpidr_el0;
    expect_eq!(after, before)
}

/// The frame of an exception shows the interrupted PSTATE.
#[case(spec = "DDI0487 D1.5")]
fn spsr_is_the_interrupted_pstate() -> Verdict {
    let before = Registers::pattern();
    let spsr = AtomicU64::new(0);
    fault::with_hook(
        |frame| {
            spsr.store(frame.spsr, Ordering::Relaxed);
            true
        },
        || observed(Instruction::Svc, &before),
    );
    let spsr = Pstate::from_bits_retain(spsr.into_inner());
    expect_eq!(spsr & Pstate::NZCV, Pstate::N | Pstate::C)?;
    expect_eq!(spsr & Pstate::DAIF, Pstate::DAIF)?;
    expect_eq!(spsr.bits() & 0xf, arch::cpu::current_el() << 2 | 1)
}
