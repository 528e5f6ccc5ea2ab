//! PERFORM TOPOLOGY FUNCTION: polarisation on request, and a report when topology changed.
//!
//! Spec: SA22-7832 10 PERFORM TOPOLOGY FUNCTION, STORE SYSTEM INFORMATION (SYSIB 15.1.x).

use guest_lib::arch::cpu::store_system_information as stsi;
use guest_lib::arch::diag::reset_and_resume;
use guest_lib::arch::exec::{Ran, execute, registers};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

fn ptf(r1: u64) -> Result<Ran, Fault> {
    execute(&[0xb9a2, 0x0020], registers([(2, r1)]))
}

const HORIZONTAL: u64 = 0;
const VERTICAL: u64 = 1;
const CHECK: u64 = 2;

/// Condition code and reason of a refused request.
fn answer(request: u64) -> Result<(u8, u8), Stop> {
    let ran = ptf(request)?;
    Ok((ran.cc, (ran.registers[2] >> 8) as u8))
}

const ALREADY_POLARISED: u8 = 1;

/// PTF is privileged.
#[case(
    spec = "SA22-7832 10 PERFORM TOPOLOGY FUNCTION",
    needs("s390x.topology")
)]
fn ptf_is_privileged() -> Verdict {
    for function in [HORIZONTAL, VERTICAL, CHECK] {
        let refused = fault::catch_user(|| ptf(function).err())?;
        expect_eq!(
            refused,
            Some(Fault::PRIVILEGED_OPERATION),
            "function {function}"
        )?;
    }
    expect!(ptf(CHECK).is_ok(), "supervisor state may")
}

/// Undefined functions and reserved bits are refused.
#[case(
    spec = "SA22-7832 10 PERFORM TOPOLOGY FUNCTION",
    needs("s390x.topology")
)]
fn undefined_functions_are_refused() -> Verdict {
    for function in 3..256 {
        expect_eq!(
            ptf(function).err(),
            Some(Fault::SPECIFICATION),
            "function {function}"
        )?;
    }
    for bit in 0..56 {
        let refused = ptf(CHECK | 1 << (63 - bit)).err();
        expect_eq!(refused, Some(Fault::SPECIFICATION), "bit {bit}")?;
    }
    Ok(())
}

/// A change of polarisation is reported once; a request for what is there is refused with a
/// reason.
#[case(
    spec = "SA22-7832 10 PERFORM TOPOLOGY FUNCTION",
    needs("s390x.topology")
)]
fn polarisation_changes_are_reported() -> Verdict {
    // A reset makes the polarisation horizontal and clears the report.
    reset_and_resume(1, || ())?;
    expect_eq!(answer(CHECK)?.0, 0, "after a reset")?;
    expect_eq!(answer(HORIZONTAL)?, (2, ALREADY_POLARISED))?;
    expect_eq!(answer(VERTICAL)?.0, 0)?;
    expect_eq!(answer(CHECK)?.0, 1, "the change")?;
    expect_eq!(answer(CHECK)?.0, 0, "reported once")?;
    expect_eq!(answer(VERTICAL)?, (2, ALREADY_POLARISED))?;
    expect_eq!(answer(HORIZONTAL)?.0, 0)?;
    expect_eq!(answer(CHECK)?.0, 1, "the change back")
}

/// Without the facility the instruction is an operation exception.
#[case(spec = "SA22-7832 10 PERFORM TOPOLOGY FUNCTION")]
fn ptf_exists_with_its_facility() -> Verdict {
    let installed = guest_lib::arch::registers::facility(11);
    expect_eq!(ptf(CHECK).err() == Some(Fault::OPERATION), !installed)
}

/// SYSIB 15.1.2 exists with the facility, has a length within a page and lists every processor.
#[case(spec = "SA22-7832 10 STORE SYSTEM INFORMATION")]
fn topology_block_exists_with_its_facility() -> Verdict {
    let page = Frames::new(1);
    let cc = stsi(15 << 28 | 1, 2, page.address())?.cc;
    if !guest_lib::arch::registers::facility(11) {
        return expect_eq!(cc, 3);
    }
    expect_eq!(cc, 0)?;
    let length: u16 = page.read(2);
    expect!(length.is_multiple_of(8) && length >= 16, "length {length}")?;
    let mut processors = 0;
    let mut at = 16;
    while at < usize::from(length) {
        match page.read::<u8>(at) {
            0 => {
                processors += page.read::<u64>(at + 8).count_ones() as usize;
                at += 16;
            }
            _ => at += 8,
        }
    }
    expect_eq!(processors, cpus::count())
}
