//! DIAGNOSE 0x288: the watchdog. Register R1 holds the function (0 start, 1 change, 2 stop), the
//! next one the seconds, R3 the action.
//!
//! It is started with an hour and stopped before the end of each case, so it never bites here.

use guest_lib::arch::diag::{diagnose, diagnose_fields};
use guest_lib::arch::exec::registers;
use guest_lib::prelude::*;

const INIT: u64 = 0;
const CHANGE: u64 = 1;
const STOP: u64 = 2;

fn watchdog(function: u64, seconds: u64, action: u64) -> Result<(), Fault> {
    diagnose(0x288, function, seconds, action).map(|_| ())
}

/// A stopped watchdog, stopped again at the end.
pub struct Watchdog;

impl Fixture for Watchdog {
    fn fresh() -> Result<Self, Stop> {
        Ok(Watchdog)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // Refused when it does not run.
        let _ = watchdog(STOP, 0, 0);
    }
}

/// The watchdog is started, changed and stopped.
#[case(spec = "S390-DIAG 0x288", needs("s390x.diag288"))]
fn watchdog_starts_changes_and_stops(_dog: &mut Watchdog) -> Verdict {
    expect_eq!(watchdog(INIT, 3600, 0), Ok(()))?;
    expect_eq!(watchdog(CHANGE, 7200, 0), Ok(()))?;
    expect_eq!(watchdog(STOP, 0, 0), Ok(()))
}

/// An odd R1 field is refused.
#[case(spec = "S390-DIAG 0x288", needs("s390x.diag288"))]
fn odd_register_is_refused(_dog: &mut Watchdog) -> Verdict {
    let with = registers([(3, INIT), (4, 3600), (6, 0)]);
    expect_eq!(
        diagnose_fields(0x36, 0x288, with).err(),
        Some(Fault::SPECIFICATION)
    )?;
    expect_eq!(watchdog(INIT, 3600, 0), Ok(()))
}

/// An unknown function or action is refused.
#[case(spec = "S390-DIAG 0x288", needs("s390x.diag288"), rows(
    function: (42, 0), action: (INIT, 42),
))]
fn unknown_word_is_refused(_dog: &mut Watchdog, (function, action): (u64, u64)) -> Verdict {
    expect_eq!(watchdog(function, 3600, action), Err(Fault::SPECIFICATION))?;
    expect_eq!(watchdog(INIT, 3600, 0), Ok(()))
}

/// A change before the start is refused.
#[case(spec = "S390-DIAG 0x288", needs("s390x.diag288"))]
fn change_before_start_is_refused(_dog: &mut Watchdog) -> Verdict {
    expect_eq!(watchdog(CHANGE, 3600, 0), Err(Fault::SPECIFICATION))?;
    expect_eq!(watchdog(INIT, 3600, 0), Ok(()))?;
    expect_eq!(watchdog(CHANGE, 3600, 0), Ok(()))
}

/// Less than 15 seconds are refused.
#[case(spec = "S390-DIAG 0x288", needs("s390x.diag288"))]
fn short_time_is_refused(_dog: &mut Watchdog) -> Verdict {
    expect_eq!(watchdog(INIT, 14, 0), Err(Fault::SPECIFICATION))?;
    expect_eq!(watchdog(INIT, 3600, 0), Ok(()))
}
