//! Faults.
use guest_lib::arch::registers::SctlrEl3;
use guest_lib::prelude::*;

/// A register of a higher level is undefined.
#[case(spec = "DDI0487 D1.3.1")]
fn undefined_register_is_caught() -> Verdict {
    expect_eq!(fault::catch(SctlrEl3::read), Err(Fault::UNDEFINED))?;
    expect_eq!(fault::catch(|| 5), Ok(5))
}
