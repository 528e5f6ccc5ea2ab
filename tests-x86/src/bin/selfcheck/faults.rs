//! Each way to go wrong, followed by a case that passes.
//!
//! The runner must report fail, error, error, crash, timeout and timeout for the broken cases, pass
//! for those that follow, and leave no process behind.

use guest_lib::arch::{cpu, platform};
use guest_lib::prelude::*;

/// Endless output is cut off: the case times out, and memory stays bounded.
#[case(spec = "SDM 3A 6.15", timeout_s = 2)]
fn endless_output() -> Verdict {
    loop {
        guest_lib::line!("this line comes again and again, and the case never ends");
    }
}

/// A case after endless output still runs.
#[case(spec = "SDM 3A 6.15")]
fn endless_output_then_passes() -> Verdict {
    expect_eq!(fault::catch(cpu::ud2), Err(Fault::UD))
}

/// A check that does not hold is a failure with both values.
#[case(spec = "SDM 3A 6.15")]
fn failing_assertion() -> Verdict {
    expect_eq!(fault::catch(cpu::ud2), Err(Fault::GP0))
}

/// A case after a failure still runs.
#[case(spec = "SDM 3A 6.15")]
fn failing_assertion_then_passes() -> Verdict {
    expect_eq!(fault::catch(cpu::ud2), Err(Fault::UD))
}

/// A hang is a timeout.
#[case(spec = "SDM 3A 6.15", timeout_s = 2)]
fn hang() -> Verdict {
    cpu::halt()
}

/// A case after a hang still runs.
#[case(spec = "SDM 3A 6.15")]
fn hang_then_passes() -> Verdict {
    expect_eq!(fault::catch(cpu::ud2), Err(Fault::UD))
}

/// A panic is an error of its case, with the message.
#[case(spec = "SDM 3A 6.15")]
fn panic() -> Verdict {
    panic!("this panic is on purpose")
}

/// A case after a panic still runs.
#[case(spec = "SDM 3A 6.15")]
fn panic_then_passes() -> Verdict {
    expect_eq!(fault::catch(cpu::ud2), Err(Fault::UD))
}

/// A shutdown of the processor is a crash.
#[case(spec = "SDM 3A 6.15 #DF")]
fn triple_fault() -> Verdict {
    platform::triple_fault()
}

/// A case after a triple fault still runs.
#[case(spec = "SDM 3A 6.15")]
fn triple_fault_then_passes() -> Verdict {
    expect_eq!(fault::catch(cpu::ud2), Err(Fault::UD))
}

/// An exception that nothing catches is an error of its case, with the registers.
#[case(spec = "SDM 3A 6.15")]
fn unexpected_exception() -> Verdict {
    cpu::ud2();
    Ok(())
}

/// A case after an unexpected exception still runs.
#[case(spec = "SDM 3A 6.15")]
fn unexpected_exception_then_passes() -> Verdict {
    expect_eq!(fault::catch(cpu::ud2), Err(Fault::UD))
}
