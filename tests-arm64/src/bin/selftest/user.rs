//! EL0. Spec: DDI0487 D1.1.
//!
//! Cases about privilege need code that really runs without any: at EL0, on its own stack, under a
//! map in which EL0 may touch RAM but no device. Each case shows the same instruction at both levels.

use guest_lib::arch::fault::{Vector, ec};
use guest_lib::arch::registers::{CurrentEl, Pstate};
use guest_lib::arch::{platform, probe};
use guest_lib::prelude::*;

/// A closure at EL0 computes, reads and writes memory, and returns its value.
#[case(spec = "DDI0487 D1.1")]
fn closures_run_and_return() -> Verdict {
    let numbers: Vec<u64> = (0..100).collect();
    let mut sum = 0;
    let product = fault::catch_user(|| {
        sum = numbers.iter().sum();
        numbers.len() * 2
    });
    expect_eq!(product, Ok(200))?;
    expect_eq!(sum, 4950)
}

/// CurrentEL is undefined at EL0 and readable above.
#[case(spec = "DDI0487 C5.2 CurrentEL")]
fn el0_is_el0() -> Verdict {
    expect_ne!(CurrentEl::read(), 0)?;
    fault::forget();
    expect_eq!(fault::catch_user(CurrentEl::read), Err(Fault::UNDEFINED))?;
    let seen = fault::details();
    expect_eq!(seen.vector, Vector::LOWER64_SYNC)?;
    let pstate = Pstate::from_bits_retain(seen.spsr);
    expect_eq!(pstate.bits() & 0x1f, 0, "mode EL0t")
}

/// SVC from EL0 arrives with its immediate by the lower-level vector.
#[case(spec = "DDI0487 D1.4 SVC")]
fn svc_from_el0_is_exact() -> Verdict {
    fault::forget();
    expect_eq!(
        fault::catch_user(|| probe::SVC.run(0, 0)),
        Err(Fault::svc(123))
    )?;
    let seen = fault::details();
    expect_eq!(seen.vector, Vector::LOWER64_SYNC)?;
    expect_eq!(seen.elr, probe::SVC.address() + 4)
}

/// A device that the runtime may read is refused to EL0 with a permission fault.
#[case(spec = "DDI0487 D8.4")]
fn devices_are_closed_to_el0() -> Verdict {
    let (platform::Uart::Pl011(base) | platform::Uart::Ns16550(base, ..)) = platform::info().uart
    else {
        return fail!("the console's device is unknown");
    };
    let read = || probe::LOAD32.run(base + 0x18, 0);
    fault::catch(read)?;
    let refused = fault::catch_user(read).err();
    expect_eq!(refused.map(Fault::ec), Some(ec::DATA_ABORT_LOWER))?;
    expect_eq!(
        refused.map(|f| f.status() & !3),
        Some(0xc),
        "a permission fault"
    )?;
    expect_eq!(fault::details().far, base + 0x18)
}

/// EL0 may not write the runtime's code, which it executes.
#[case(spec = "DDI0487 D8.4")]
fn code_is_read_only_to_el0() -> Verdict {
    let code = probe::NOPS.address();
    let word = fault::catch_user(|| probe::LOAD32.run(code, 0))?;
    expect_eq!(word, 0xd503_201f, "NOP")?;
    let refused = fault::catch_user(|| probe::STORE8.run(code, 0)).err();
    expect_eq!(refused.map(Fault::ec), Some(ec::DATA_ABORT_LOWER))?;
    expect_eq!(refused.map(Fault::is_write), Some(true))
}

/// EL0 and the runtime alternate two hundred times without losing anything.
#[case(spec = "DDI0487 D1.1")]
fn levels_alternate() -> Verdict {
    for i in 0..200u64 {
        expect_eq!(fault::catch_user(|| i * 3), Ok(i * 3))?;
        expect_eq!(
            fault::catch_user(|| probe::BRK.run(0, 0)),
            Err(Fault::new(ec::BRK64, 0x5a5a))
        )?;
    }
    Ok(())
}
