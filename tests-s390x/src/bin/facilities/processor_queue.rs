//! Adjunct processors: PQAP and its neighbours. Spec: Linux-s390 AP.
//!
//! Register 0 holds the function in its third byte from the right (bits 32-39) and the queue;
//! register 1 takes the status, whose second byte is the response code.

use guest_lib::arch::exec::{Ran, execute, registers};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

const TAPQ: u64 = 0;
const QCI: u64 = 4;
const AQIC: u64 = 3;

fn pqap(function: u64, queue: u64, r2: u64) -> Result<Ran, Fault> {
    execute(
        &[0xb2af, 0x0000],
        registers([(0, function << 24 | queue), (2, r2)]),
    )
}

fn response(ran: &Ran) -> u64 {
    ran.registers[1] >> 16 & 0xff
}

/// A queue that does not exist is condition code 3 with response 1.
#[case(spec = "Linux-s390 AP", needs("s390x.ap"), rows(test: TAPQ, interruption: AQIC))]
fn absent_queue_is_not_available(function: u64) -> Verdict {
    let ran = pqap(function, 0xffff, 0)?;
    expect_eq!((ran.cc, response(&ran)), (3, 1))
}

/// Without the facilities the instruction is an operation exception.
#[case(spec = "Linux-s390 AP")]
fn pqap_exists_with_its_facility() -> Verdict {
    use guest_lib::arch::registers::facility;
    let absent = pqap(TAPQ, 0, 0).err() == Some(Fault::OPERATION);
    note!("facilities 12 {} and 15 {}", facility(12), facility(15));
    // The facilities announce functions; the instructions can be there without them.
    expect!(
        !absent || !facility(12) && !facility(15),
        "the instruction is absent"
    )
}

/// PQAP is privileged.
#[case(spec = "Linux-s390 AP", needs("s390x.ap"))]
fn pqap_is_privileged() -> Verdict {
    let refused = fault::catch_user(|| pqap(TAPQ, 0, 0).err())?;
    expect_eq!(refused, Some(Fault::PRIVILEGED_OPERATION))
}

/// An unknown function is refused.
#[case(spec = "Linux-s390 AP", needs("s390x.ap"))]
fn unknown_function_is_refused() -> Verdict {
    expect_eq!(pqap(0x42, 0, 0).err(), Some(Fault::SPECIFICATION))
}

/// The configuration information is stored, and names no queue that a test does not find.
#[case(spec = "Linux-s390 AP", needs("s390x.ap", "s390x.ap_configuration"))]
fn configuration_is_stored() -> Verdict {
    let page = Frames::new(1);
    expect_eq!(pqap(QCI, 0, page.address())?.cc, 0)?;
    // Adapter mask at 16, domain mask at 48.
    let (adapters, domains) = (page.read::<u64>(16), page.read::<u64>(48));
    for adapter in 0..64 {
        let configured = adapters >> (63 - adapter) & 1 != 0 && domains >> 63 != 0;
        let found = pqap(TAPQ, adapter << 8, 0)?;
        expect!(configured || response(&found) == 1, "adapter {adapter}")?;
    }
    Ok(())
}
