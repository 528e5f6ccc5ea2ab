//! Software step. Spec: DDI0487 D2.11.
//!
//! With MDSCR_EL1.SS set, a return with SPSR.SS = 1 runs exactly one instruction and then takes a step
//! exception; a return with SPSR.SS = 0 takes it at once. The state machine lives in PSTATE.SS, which a
//! hypervisor must keep when it emulates an instruction: an emulated access is a step too.

use crate::setup::{D, DEBUG, Place, enable};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use guest_lib::arch::code::{self, Code};
use guest_lib::arch::debug::{Debug, MDSCR_KDE, MDSCR_SS};
use guest_lib::arch::enter::{State, enter};
use guest_lib::arch::fault::{Frame, ec};
use guest_lib::arch::gic::{Gic, registers::gicd};
use guest_lib::arch::registers::OslarEl1;
use guest_lib::arch::snippets::{self, ADDS};
use guest_lib::prelude::*;

/// MDSCR_EL1 for stepping, also at the own level.
const STEP: u64 = MDSCR_SS | MDSCR_KDE;
/// PSTATE.SS.
const SS: u64 = 1 << 21;
/// ISS.ISV: EX is valid.
const ISV: u64 = 1 << 24;
/// ISS.EX: a load-exclusive was stepped.
const EX: u64 = 1 << 6;

/// Steps through `state` until another exception; the ELR offsets and ISS of the steps.
fn steps(state: &State, place: Place) -> (Vec<(u64, u64)>, Frame) {
    let seen: [AtomicU64; 16] = [const { AtomicU64::new(0) }; 16];
    let count = AtomicU64::new(0);
    let answer = |frame: &mut Frame| {
        let at = count.load(Relaxed) as usize;
        if frame.fault().ec() != place.class(ec::STEP_LOWER) || at == seen.len() {
            return false;
        }
        let offset = frame.elr.wrapping_sub(state.pc);
        seen[at].store(offset << 32 | frame.fault().iss(), Relaxed);
        count.fetch_add(1, Relaxed);
        frame.spsr |= SS;
        true
    };
    enable(STEP);
    let frame = fault::with_hook(answer, || enter(state));
    enable(0);
    let steps = seen[..count.into_inner() as usize].iter();
    (
        steps
            .map(|s| (s.load(Relaxed) >> 32, s.load(Relaxed) & 0xffff_ffff))
            .collect(),
        frame,
    )
}

/// Each instruction is followed by one step exception at the next.
#[case(spec = "DDI0487 D2.11", rows(el1: Place::Here, el0: Place::User))]
fn every_instruction_is_a_step(_debug: &mut Debug, place: Place) -> Verdict {
    let code = Code::new(ADDS.words());
    let mut state = place.state(&code);
    state.spsr |= SS;
    state.x[0] = 10;
    let (seen, frame) = steps(&state, place);
    let iss = ISV | DEBUG;
    expect_eq!(
        seen,
        vec![(4, iss), (8, iss), (12, iss)],
        "(offset, ISS) of each step"
    )?;
    expect_eq!(frame.fault(), Fault::svc(1))?;
    expect_eq!(frame.x[0], 13)?;
    // Without MDSCR.SS nothing is stepped.
    expect_eq!(enter(&state).fault(), Fault::svc(1), "without MDSCR_EL1.SS")
}

/// A return with SPSR.SS = 0 takes the step exception before any instruction.
#[case(spec = "DDI0487 D2.11", rows(el1: Place::Here, el0: Place::User))]
fn pending_step_comes_at_once(_debug: &mut Debug, place: Place) -> Verdict {
    let code = Code::new(ADDS.words());
    let mut state = place.state(&code);
    state.x[0] = 10;
    let (seen, frame) = steps(&state, place);
    expect_eq!(
        seen.first().map(|s| s.0),
        Some(0),
        "the offset of the first step"
    )?;
    expect_eq!(
        seen.first().map(|s| s.1 & (ISV | EX)),
        Some(0),
        "ISV and EX of the first step"
    )?;
    expect_eq!(seen.len(), 4, "steps")?;
    expect_eq!(frame.x[0], 13)
}

/// A stepped call is taken as a call; the step comes when it has returned.
#[case(spec = "DDI0487 D2.11", rows(el1: Place::Here, el0: Place::User))]
fn call_is_stepped_after_its_return(_debug: &mut Debug, place: Place) -> Verdict {
    let code = Code::new(&[code::svc(9), code::NOP, code::svc(1)]);
    let mut state = place.state(&code);
    state.spsr |= SS;
    let order = AtomicU64::new(0);
    enable(STEP);
    let frame = fault::with_hook(
        |frame| {
            let digit = match frame.fault() {
                f if f == Fault::svc(9) => 1 + (frame.spsr >> 21 & 1),
                f if f.ec() == place.class(ec::STEP_LOWER) => 3,
                _ => return false,
            };
            let offset = (frame.elr - code.address()) / 4;
            let before = order.load(Relaxed);
            order.store(before * 100 + digit * 10 + offset, Relaxed);
            if digit == 3 {
                frame.spsr |= SS;
            }
            true
        },
        || enter(&state),
    );
    enable(0);
    expect_eq!(frame.fault(), Fault::svc(1))?;
    // The call with SS = 0 behind itself, a step there, a step behind the NOP.
    expect_eq!(order.into_inner(), 113_132, "(what, where) in order")
}

/// A stepped load-exclusive says so in EX.
#[case(spec = "DDI0487 D2.11 LDXR", rows(el1: Place::Here, el0: Place::User))]
fn exclusive_load_sets_ex(_debug: &mut Debug, place: Place) -> Verdict {
    let data = guest_lib::memory::Frames::new(1);
    for (snippet, ex) in [(snippets::EXCLUSIVE_SVC, EX), (snippets::LOAD_SVC, 0)] {
        let code = Code::new(snippet.words());
        let mut state = place.state(&code);
        state.spsr |= SS;
        state.x[1] = data.address();
        let (seen, frame) = steps(&state, place);
        expect_eq!(seen, vec![(4, ISV | DEBUG | ex)])?;
        expect_eq!(frame.fault(), Fault::svc(1))?;
    }
    Ok(())
}

/// PSTATE.D at the own level, and the OS lock anywhere, stop stepping.
#[case(spec = "DDI0487 D2.3")]
fn mask_and_lock_stop_stepping(_debug: &mut Debug) -> Verdict {
    let code = Code::new(ADDS.words());
    for place in [Place::Here, Place::User] {
        let mut state = place.state(&code);
        state.spsr |= SS;
        expect_eq!(steps(&state, place).0.len(), 3, "steps")?;
        OslarEl1::write(1);
        let locked = steps(&state, place).0.len();
        OslarEl1::write(0);
        expect_eq!(locked, 0, "steps with the lock")?;
        state.spsr |= D;
        let expected = if place == Place::Here { 0 } else { 3 };
        expect_eq!(
            steps(&state, place).0.len(),
            expected,
            "steps with PSTATE.D"
        )?;
    }
    Ok(())
}

/// An access to an emulated device is one step, and is done once.
#[case(
    spec = "DDI0487 D2.11",
    rows(load: snippets::LDR_W, store: snippets::STR_W)
)]
fn device_access_is_one_step(
    _debug: &mut Debug,
    gic: &mut Gic,
    snippet: snippets::Snippet,
) -> Verdict {
    let at = gicd::IPRIORITYR + 40;
    gic.distributor().write32(at, 0x5060_7080);
    let code = Code::new(&[snippet.words(), ADDS.words()].concat());
    let mut state = Place::Here.state(&code);
    state.spsr |= SS;
    state.x[0] = 0x1020_3040;
    state.x[1] = gic.distributor().base() + at;
    let (seen, frame) = steps(&state, Place::Here);
    let offsets: Vec<u64> = seen.iter().map(|s| s.0).collect();
    expect_eq!(offsets, vec![4, 8, 12, 16])?;
    let store = snippet.words() == snippets::STR_W.words();
    let value = if store { 0x1020_3040 } else { 0x5060_7080 };
    expect_eq!(frame.x[0], value + 3)?;
    expect_eq!(u64::from(gic.distributor().read32(at)), value)
}
