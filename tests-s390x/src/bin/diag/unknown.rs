//! Function codes that nobody offers, and privilege of all of them.

use guest_lib::arch::diag::{diagnose, diagnose_by_register};
use guest_lib::arch::sclp;
use guest_lib::prelude::*;

/// A function code that is not there is a specification exception.
#[case(spec = "SA22-7832 10 DIAGNOSE", rows(code_0042: 0x42, code_0fff: 0xfff, code_abcd: 0xabcd))]
fn unknown_code_is_refused(code: u64) -> Verdict {
    expect_eq!(diagnose(code, 0, 0, 0).err(), Some(Fault::SPECIFICATION))?;
    expect!(diagnose(0x44, 0, 0, 0).is_ok(), "a known one")
}

/// The function code is the second-operand address, so it can come from a base register.
#[case(spec = "S390-DIAG general")]
fn code_may_be_in_a_register() -> Verdict {
    expect!(diagnose(0x44, 0, 0, 0).is_ok(), "as a displacement")?;
    expect_eq!(diagnose_by_register(0x44, 0, 0, 0).map(|_| ()), Ok(()))
}

/// Every function code is privileged, known or not.
#[case(spec = "SA22-7832 10 DIAGNOSE", rows(
    release_pages: 0x10, time_slice_end: 0x44, directed_yield: 0x9c, page_reference: 0x258,
    watchdog: 0x288, reset: 0x308, control_program_name: 0x318, notify: 0x500, unknown: 0xabcd,
))]
fn diagnose_is_privileged(code: u64) -> Verdict {
    // Operands that no function code could take for something destructive: no page at 1, no reset or
    // watchdog action 0xffff.
    let refused = fault::catch_user(|| diagnose(code, 1, 1, 0xffff).err())?;
    expect_eq!(refused, Some(Fault::PRIVILEGED_OPERATION))?;
    let supervisor = diagnose(code, 1, 1, 0xffff).err();
    expect_ne!(supervisor, Some(Fault::PRIVILEGED_OPERATION))
}

/// The control-program name is taken where the SCLP announces the call, and refused where it does
/// not.
#[case(spec = "S390-DIAG 0x318")]
fn control_program_name_is_as_announced() -> Verdict {
    let announced = sclp::info_byte(134) & 0x80 != 0;
    let answer = diagnose(0x318, 0, 0, 0).map(|_| ());
    expect_eq!(
        answer,
        if announced {
            Ok(())
        } else {
            Err(Fault::SPECIFICATION)
        }
    )
}
