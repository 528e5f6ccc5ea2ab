//! Privileged instructions are refused in problem state, before anything else is looked at.
//!
//! Spec: SA22-7832 6 Privileged-Operation Exception. Most of these are intercepted, so the check
//! is the hypervisor's. Operands are chosen so that supervisor state finds no privileged-operation
//! exception but something else or success: an instruction that is not there at all would not
//! pass for a privileged one.

use guest_lib::arch::exec::{execute, registers};
use guest_lib::memory::{Frames, total};
use guest_lib::prelude::*;

/// r2 beyond storage, so that storing forms fail with an addressing exception.
const BEYOND: u64 = !0xfff;

/// Problem state gets a privileged-operation exception, supervisor state does not.
#[case(spec = "SA22-7832 6 Privileged-Operation Exception", rows(
    spx: (&[0xb210, 0x2000], BEYOND),
    stpx: (&[0xb211, 0x2000], BEYOND),
    stap: (&[0xb212, 0x2000], BEYOND),
    stidp: (&[0xb202, 0x2000], BEYOND),
    sckc: (&[0xb206, 0x2000], BEYOND),
    stckc: (&[0xb207, 0x2000], BEYOND),
    spt: (&[0xb208, 0x2000], BEYOND),
    stpt: (&[0xb209, 0x2000], BEYOND),
    sck: (&[0xb204, 0x2000], BEYOND),
    sckpf: (&[0x0107], 0),
    stfl: (&[0xb2b1, 0x0000], 0),
    ssm: (&[0x8000, 0x2000], BEYOND),
    stnsm: (&[0xacff, 0x2000], BEYOND),
    stosm: (&[0xad00, 0x2000], BEYOND),
    lctl: (&[0xb7dd, 0x2000], BEYOND),
    stctl: (&[0xb6dd, 0x2000], BEYOND),
    lctlg: (&[0xebdd, 0x2000, 0x002f], BEYOND),
    stctg: (&[0xebdd, 0x2000, 0x0025], BEYOND),
    lpsw: (&[0x8200, 0x2000], BEYOND),
    lpswe: (&[0xb2b2, 0x2000], BEYOND),
    // Sense of the processor at address 0 in r0.
    sigp: (&[0xae20, 0x0001], 0),
    servc: (&[0xb220, 0x0042], BEYOND),
    chsc: (&[0xb25f, 0x0020], BEYOND),
    ssch: (&[0xb233, 0x2000], BEYOND),
    msch: (&[0xb232, 0x2000], BEYOND),
    stsch: (&[0xb234, 0x2000], BEYOND),
    tsch: (&[0xb235, 0x2000], BEYOND),
    csch: (&[0xb230, 0x0000], 0),
    hsch: (&[0xb231, 0x0000], 0),
    rsch: (&[0xb238, 0x0000], 0),
    xsch: (&[0xb276, 0x0000], 0),
    stcrw: (&[0xb239, 0x2000], BEYOND),
    ptlb: (&[0xb20d, 0x0000], 0),
    csp: (&[0xb250, 0x0042], BEYOND),
    lura: (&[0xb24b, 0x0042], BEYOND),
    stura: (&[0xb246, 0x0042], BEYOND),
    lra: (&[0xb140, 0x2000], 0),
    stsi: (&[0xb27d, 0x2000], 0),
    diag: (&[0x8324, 0x0044], 0),
))]
fn problem_state_is_refused((code, operand): (&[u16], u64)) -> Verdict {
    // r2 is the operand's address or the first register operand, r4 an even-odd pair's first.
    let with = registers([(2, operand)]);
    let problem = fault::catch_user(|| execute(code, with))?;
    expect_eq!(
        problem.err(),
        Some(Fault::PRIVILEGED_OPERATION),
        "in problem state"
    )?;
    let supervisor = execute(code, with).err();
    expect!(
        supervisor != Some(Fault::PRIVILEGED_OPERATION) && supervisor != Some(Fault::OPERATION),
        "in supervisor state: {supervisor:?}"
    )
}

/// An unprivileged neighbour of these is open to problem state: STORE CLOCK, EXTRACT PSW, and an
/// addressing exception is told as such there.
#[case(spec = "SA22-7832 6 Privileged-Operation Exception")]
fn unprivileged_neighbours_are_open() -> Verdict {
    let page = Frames::new(1);
    let stored =
        fault::catch_user(|| execute(&[0xb205, 0x2000], registers([(2, page.address())])))?;
    expect_eq!(stored.map(|r| r.cc), Ok(0))?;
    let beyond = fault::catch_user(|| execute(&[0xb205, 0x2000], registers([(2, total())])))?;
    expect_eq!(beyond.err(), Some(Fault::ADDRESSING))
}
