//! Breakpoints. Spec: DDI0487 D2.8.
//!
//! A breakpoint is taken before its instruction, at its exact address, and only if a chain of
//! enables agrees: E, level, MDE, KDE for the own level, PSTATE.D, OS lock. A hypervisor that
//! keeps a copy of these registers must get each link right, and every one of the up to sixteen.

use crate::setup::{ALL, D, DEBUG, Place, enable, expect_from};
use guest_lib::arch::code::{self, Code};
use guest_lib::arch::debug::{
    Debug, MDSCR_KDE, MDSCR_MDE, breakpoints, set_breakpoint_control, set_breakpoint_value,
};
use guest_lib::arch::enter::enter;
use guest_lib::arch::fault::ec;
use guest_lib::arch::registers::OslarEl1;
use guest_lib::arch::snippets::ADDS;
use guest_lib::prelude::*;

/// Every implemented breakpoint is taken before its instruction, and the code goes on without it.
#[case(spec = "DDI0487 D2.8", rows(el1: Place::Here, el0: Place::User))]
fn every_breakpoint_hits(_debug: &mut Debug, place: Place) -> Verdict {
    let code = Code::new(ADDS.words());
    let mut state = place.state(&code);
    state.x[0] = 100;
    for n in 0..breakpoints() {
        set_breakpoint_value(n, code.address() + 8);
        set_breakpoint_control(n, place.breakpoint());
        enable(ALL);
        let frame = enter(&state);
        let expected = Fault::new(place.class(ec::BREAKPOINT_LOWER), DEBUG);
        expect_eq!(frame.fault(), expected, "breakpoint {n}")?;
        expect_from(&frame, &state, code.address() + 8)?;
        expect_eq!(frame.x[0], 102, "what ran before it")?;
        set_breakpoint_control(n, 0);
        let frame = enter(&state);
        expect_eq!(frame.fault(), Fault::svc(1), "without breakpoint {n}")?;
        expect_eq!(frame.x[0], 103)?;
    }
    note!("{} breakpoints", breakpoints());
    Ok(())
}

/// Each link of the chain of enables stops the breakpoint by itself.
#[case(
    spec = "DDI0487 D2.3",
    rows(
        enable_bit: |_, control| (ALL, control & !1, 0, false),
        monitor_debug: |_, control| (MDSCR_KDE, control, 0, false),
        other_level: |place, control| {
            let level = if place == Place::Here { 2 << 1 } else { 1 << 1 };
            (ALL, control & !(3 << 14 | 1 << 13 | 3 << 1) | level, 0, false)
        },
        other_address: |_, control| (ALL, control, 4, false),
        os_lock: |_, control| (ALL, control, 0, true)
    )
)]
fn each_enable_is_needed(
    _debug: &mut Debug,
    spoil: fn(Place, u64) -> (u64, u64, u64, bool),
) -> Verdict {
    let code = Code::new(&[ADDS.words(), &[code::NOP; 4]].concat());
    for place in [Place::Here, Place::User] {
        let state = place.state(&code);
        let hit = Fault::new(place.class(ec::BREAKPOINT_LOWER), DEBUG);
        let run = |(mdscr, control, ahead, lock)| {
            set_breakpoint_value(0, code.address() + 4 + ahead * 4);
            set_breakpoint_control(0, control);
            OslarEl1::write(u64::from(lock));
            enable(mdscr);
            let frame = enter(&state);
            OslarEl1::write(0);
            enable(0);
            frame.fault()
        };
        let good = (ALL, place.breakpoint(), 0, false);
        expect_eq!(run(good), hit, "all enables")?;
        expect_eq!(
            run(spoil(place, place.breakpoint())),
            Fault::svc(1),
            "one missing"
        )?;
        expect_eq!(run(good), hit, "all enables again")?;
    }
    Ok(())
}

/// At the own level KDE and a clear PSTATE.D are needed too; at EL0 neither is.
#[case(spec = "DDI0487 D2.3")]
fn own_level_needs_kde_and_d(_debug: &mut Debug) -> Verdict {
    let code = Code::new(ADDS.words());
    for place in [Place::Here, Place::User] {
        let hit = Fault::new(place.class(ec::BREAKPOINT_LOWER), DEBUG);
        set_breakpoint_value(0, code.address());
        set_breakpoint_control(0, place.breakpoint());
        for (mdscr, mask, at_own) in [(ALL, 0, true), (MDSCR_MDE, 0, false), (ALL, D, false)] {
            enable(mdscr);
            let mut state = place.state(&code);
            state.spsr |= mask;
            let frame = enter(&state);
            enable(0);
            let expected = if at_own || place == Place::User {
                hit
            } else {
                Fault::svc(1)
            };
            expect_eq!(frame.fault(), expected, "MDSCR {mdscr:#x}, mask {mask:#x}")?;
        }
    }
    Ok(())
}

/// A breakpoint on SVC, BRK or an undefined instruction comes before their own exception.
#[case(
    spec = "DDI0487 D2.8",
    rows(
        svc: (code::svc(9), Fault::svc(9), 4),
        brk: (0xd420_0120, Fault::new(ec::BRK64, 9), 0),
        undefined: (0x0000_0000, Fault::UNDEFINED, 0)
    )
)]
fn breakpoint_comes_first(_debug: &mut Debug, row: (u32, Fault, u64)) -> Verdict {
    let (word, own, behind) = row;
    let code = Code::new(&[code::NOP, word]);
    for place in [Place::Here, Place::User] {
        let state = place.state(&code);
        set_breakpoint_value(0, code.address() + 4);
        set_breakpoint_control(0, place.breakpoint());
        enable(ALL);
        let frame = enter(&state);
        let expected = Fault::new(place.class(ec::BREAKPOINT_LOWER), DEBUG);
        expect_eq!(frame.fault(), expected)?;
        expect_from(&frame, &state, code.address() + 4)?;
        set_breakpoint_control(0, 0);
        let frame = enter(&state);
        expect_eq!(frame.fault(), own)?;
        expect_eq!(frame.elr, code.address() + 4 + behind)?;
    }
    Ok(())
}

/// A breakpoint behind an SVC is taken when the call returns.
#[case(spec = "DDI0487 D2.8")]
fn breakpoint_behind_a_call_hits(_debug: &mut Debug) -> Verdict {
    let code = Code::new(&[code::svc(9), code::NOP, code::svc(1)]);
    for place in [Place::Here, Place::User] {
        let state = place.state(&code);
        set_breakpoint_value(0, code.address() + 4);
        set_breakpoint_control(0, place.breakpoint());
        enable(ALL);
        let frame = fault::with_hook(|f| f.fault() == Fault::svc(9), || enter(&state));
        let expected = Fault::new(place.class(ec::BREAKPOINT_LOWER), DEBUG);
        expect_eq!(frame.fault(), expected)?;
        expect_from(&frame, &state, code.address() + 4)?;
        enable(0);
    }
    Ok(())
}

/// Breakpoints belong to one processor: the others run the same code untouched.
#[case(spec = "DDI0487 D2.8", needs("cpus>=2"))]
fn breakpoints_are_private(_debug: &mut Debug) -> Verdict {
    let code = Code::new(&[ADDS.words(), &[code::RET]].concat());
    code.patch(3, code::RET);
    set_breakpoint_value(0, code.address());
    set_breakpoint_control(0, Place::Here.breakpoint());
    enable(ALL);
    let there = |cpu| {
        cpus::run_on(cpu, || {
            let _debug = Debug::fresh();
            enable(ALL);
            arch::interrupts::unmask_debug();
            let result = fault::catch(|| code.run(5, 0));
            arch::interrupts::mask_debug();
            result
        })
    };
    for cpu in cpus::others().take(3) {
        expect_eq!(there(cpu)?, Ok(8), "CPU {}", cpu.0)?;
    }
    let hit = Fault::new(Place::Here.class(ec::BREAKPOINT_LOWER), DEBUG);
    expect_eq!(enter(&Place::Here.state(&code)).fault(), hit, "here")
}
