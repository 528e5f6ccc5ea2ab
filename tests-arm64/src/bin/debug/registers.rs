//! The debug registers as registers. Spec: DDI0487 D24.3.
//!
//! A hypervisor saves and restores up to sixteen pairs of each kind. Writing a number of its own into every one
//! and reading them back shows a pair that is missing, doubled or swapped; what lies beyond the
//! advertised number must be undefined, not readable.

use guest_lib::arch::code::Register;
use guest_lib::arch::debug::{
    Debug, breakpoint_value, breakpoints, context_breakpoints, set_breakpoint_value,
    set_watchpoint_value, watchpoint_value, watchpoints,
};
use guest_lib::arch::registers::{IdAa64dfr0El1, MdscrEl1, OslarEl1, OslsrEl1, field};
use guest_lib::prelude::*;

/// Every comparator holds a value of its own.
#[case(spec = "DDI0487 D24.3 DBGBVR_EL1")]
fn values_are_independent(_debug: &mut Debug) -> Verdict {
    let value = |kind: u64, n: usize| 0x0000_1234_5000_0000 | kind << 20 | (n as u64) << 8;
    (0..breakpoints()).for_each(|n| set_breakpoint_value(n, value(1, n)));
    (0..watchpoints()).for_each(|n| set_watchpoint_value(n, value(2, n)));
    for n in 0..breakpoints() {
        expect_eq!(breakpoint_value(n), value(1, n), "DBGBVR{n}_EL1")?;
    }
    for n in 0..watchpoints() {
        expect_eq!(watchpoint_value(n), value(2, n), "DBGWVR{n}_EL1")?;
    }
    Ok(())
}

/// Comparators beyond the number that ID_AA64DFR0_EL1 gives are undefined; the last one is not.
#[case(
    spec = "DDI0487 D24.3",
    rows(dbgbvr: (4, 12), dbgbcr: (5, 12), dbgwvr: (6, 20), dbgwcr: (7, 20))
)]
fn absent_comparators_are_undefined(_debug: &mut Debug, row: (u32, u32)) -> Verdict {
    let (op2, shift) = row;
    let count = field(IdAa64dfr0El1::read(), shift) as u32 + 1;
    for n in 0..16 {
        let register = Register(2, 0, 0, n, op2);
        let refused = fault::catch(|| register.read()).err();
        let expected = (n >= count).then_some(Fault::UNDEFINED);
        expect_eq!(refused, expected, "number {n} of {count}")?;
    }
    Ok(())
}

/// There are at least two breakpoints and two watchpoints, and not more context-aware ones than any.
#[case(spec = "DDI0487 D24.2 ID_AA64DFR0_EL1")]
fn counts_are_in_range() -> Verdict {
    expect!(breakpoints() >= 2, "{} breakpoints", breakpoints())?;
    expect!(watchpoints() >= 2, "{} watchpoints", watchpoints())?;
    let aware = context_breakpoints();
    expect!(
        aware >= 1 && aware <= breakpoints(),
        "{aware} context-aware breakpoints"
    )
}

/// OSLAR_EL1 sets and clears the lock that OSLSR_EL1 shows, and the lock exists.
#[case(spec = "DDI0487 D24.3 OSLSR_EL1")]
fn os_lock_is_what_was_written(_debug: &mut Debug) -> Verdict {
    for lock in [0, 1, 0] {
        OslarEl1::write(lock);
        let status = OslsrEl1::read();
        expect_eq!(status >> 1 & 1, lock, "OSLK")?;
        // OSLM = 0b10: implemented. nTT reads as zero.
        expect_eq!(status & 0b1101, 0b1000, "OSLM and nTT")?;
    }
    Ok(())
}

/// MDSCR_EL1 keeps the bits that a kernel sets.
#[case(spec = "DDI0487 D24.3 MDSCR_EL1")]
fn mdscr_keeps_its_bits(_debug: &mut Debug) -> Verdict {
    for bits in [0, 1 << 13, 1 << 15, 1 << 12, 1 << 13 | 1 << 15] {
        MdscrEl1::write(bits);
        let got = MdscrEl1::read();
        MdscrEl1::write(0);
        expect_eq!(got & (1 << 12 | 1 << 13 | 1 << 15), bits)?;
    }
    Ok(())
}

/// Each processor has comparators and a lock of its own.
#[case(spec = "DDI0487 D24.3", needs("cpus>=2"))]
fn registers_are_private(_debug: &mut Debug) -> Verdict {
    set_breakpoint_value(1, 0x4000);
    OslarEl1::write(1);
    let there = cpus::run_on(Cpu(1), || {
        let _debug = Debug::fresh();
        set_breakpoint_value(1, 0x8000);
        (breakpoint_value(1), OslsrEl1::read() >> 1 & 1)
    })?;
    expect_eq!(there, (0x8000, 0), "there")?;
    let here = (breakpoint_value(1), OslsrEl1::read() >> 1 & 1);
    OslarEl1::write(0);
    expect_eq!(here, (0x4000, 1), "here")
}
