//! What EL1 closes to EL0, or to itself, by a control bit. Spec: DDI0487 D24.2 SCTLR_EL1, CPACR_EL1.
//!
//! A closed instruction is an exception with a class of its own, at its own address; an open one is done.
//! A hypervisor that traps the same instruction for its own sake has to look at the guest's bit first.

use crate::level::{Level, expect_frame};
use guest_lib::arch::code::{self, Code, Register};
use guest_lib::arch::enter::enter;
use guest_lib::arch::fault::ec;
use guest_lib::arch::gic::Gic;
use guest_lib::arch::registers::{CpacrEl1, SctlrEl1, TimerControl};
use guest_lib::arch::snippets::{self, Snippet};
use guest_lib::arch::timer::Timers;
use guest_lib::prelude::*;

const DAIF: Register = Register(3, 3, 4, 2, 1);

/// A trapped floating-point instruction arrives with its own class, at its own address.
#[case(
    spec = "DDI0487 D24.2 CPACR_EL1",
    needs("arm64.fp"),
    rows(el1: Level::Here, el0: Level::User)
)]
fn floating_point_traps_by_cpacr(level: Level) -> Verdict {
    let before = CpacrEl1::read();
    let code = Code::new(snippets::FLOAT_SVC.words());
    let state = level.state(&code);
    let open = enter(&state).fault();
    CpacrEl1::write(before & !(3 << 20));
    let frame = enter(&state);
    // FPEN = 0b01 closes EL0 only.
    CpacrEl1::write(before & !(3 << 20) | 1 << 20);
    let half = enter(&state).fault();
    CpacrEl1::write(before);
    // CV = 1 and COND = 0b1110, as for every A64 instruction.
    let trap = Fault::new(ec::FP, 1 << 24 | 0xe << 20);
    expect_eq!(open, Fault::svc(1), "FPEN = 3")?;
    expect_eq!(frame.fault(), trap, "FPEN = 0")?;
    expect_frame(&frame, level, &state, code.address())?;
    let expected = if level == Level::User {
        trap
    } else {
        Fault::svc(1)
    };
    expect_eq!(half, expected, "FPEN = 1")
}

/// While SCTLR_EL1.{nTWI, nTWE} are 0, WFI and WFE of EL0 may pass at once, but never wait: they trap.
#[case(
    spec = "DDI0487 D24.2 SCTLR_EL1",
    rows(
        wfi: (16, 0, snippets::WFI_SVC, 0),
        wfe: (18, 1, snippets::WFE_COLD_SVC, 8)
    )
)]
fn el0_may_not_wait(gic: &mut Gic, timers: &mut Timers, row: (u32, u64, Snippet, u64)) -> Verdict {
    let (bit, which, snippet, offset) = row;
    let code = Code::new(snippet.words());
    let state = Level::User.state(&code);
    let before = SctlrEl1::read();
    gic.set_enabled(timers.phys.intid()?, true);
    // The timer ends the wait, so that the case ends too. A machine that is preempted for longer than
    // that looks as if it had waited; twice in a row it is no chance.
    let mut frame = None;
    for limit in [time::ms(300), time::ms(1500)] {
        let late = timers.phys.count() + time::ticks(limit);
        timers.phys.set_deadline(late);
        timers.phys.set_control(TimerControl::ENABLE);
        SctlrEl1::write(before & !(1 << bit));
        let ended = enter(&state);
        SctlrEl1::write(before);
        timers.phys.stop();
        if timers.phys.count() < late {
            frame = Some(ended);
            break;
        }
    }
    let Some(frame) = frame else {
        return fail!("EL0 waited for the timer");
    };
    if frame.fault() == Fault::svc(1) {
        note!("the instruction passed without waiting");
        return Ok(());
    }
    expect_eq!(frame.fault().ec(), ec::WFX)?;
    expect_eq!(frame.fault().iss() & 3, which, "TI")?;
    expect_eq!(frame.fault().iss() >> 20, 0x1e, "CV and COND")?;
    expect_frame(&frame, Level::User, &state, code.address() + offset)
}

/// WFI of EL0 waits and goes on behind itself while SCTLR_EL1.nTWI is 1; a WFE with its event passes.
#[case(
    spec = "DDI0487 D1.7",
    rows(wfi: (16, snippets::WFI_SVC, true), wfe: (18, snippets::WFE_SVC, false))
)]
fn el0_may_wait_when_allowed(
    gic: &mut Gic,
    timers: &mut Timers,
    row: (u32, Snippet, bool),
) -> Verdict {
    let (bit, snippet, allow) = row;
    let code = Code::new(snippet.words());
    let state = Level::User.state(&code);
    let before = SctlrEl1::read();
    gic.set_enabled(timers.phys.intid()?, true);
    timers
        .phys
        .set_deadline(timers.phys.count() + time::ticks(time::ms(2)));
    timers.phys.set_control(TimerControl::ENABLE);
    SctlrEl1::write(before & !(1 << bit) | u64::from(allow) << bit);
    let frame = enter(&state);
    SctlrEl1::write(before);
    timers.phys.stop();
    let behind = code.address() + snippet.words().len() as u64 * 4;
    expect_eq!(frame.fault(), Fault::svc(1))?;
    expect_frame(&frame, Level::User, &state, behind)
}

/// DAIF belongs to EL0 while SCTLR_EL1.UMA is 1; while it is 0 an access traps, with its encoding. Under a
/// host at EL2 (E2H and TGE) it traps always.
#[case(
    spec = "DDI0487 D24.2 SCTLR_EL1",
    rows(
        read: (DAIF.mrs(5), DAIF.iss(5, true)),
        write: (DAIF.msr(5), DAIF.iss(5, false)),
        // MSR DAIFSet, #2 and MSR DAIFClr, #8: the register field is 31, and CRm the immediate.
        set: (0xd503_42df, Register(0, 3, 4, 2, 6).iss(31, false)),
        clear: (0xd503_48ff, Register(0, 3, 4, 8, 7).iss(31, false))
    )
)]
fn uma_opens_daif_to_el0(row: (u32, u64)) -> Verdict {
    const UMA: u64 = 1 << 9;
    let (word, iss) = row;
    let code = Code::new(&[word, code::svc(1)]);
    let mut state = Level::User.state(&code);
    state.x[5] = 0x3c0;
    let before = SctlrEl1::read();
    SctlrEl1::write(before & !UMA);
    let closed = enter(&state);
    SctlrEl1::write(before | UMA);
    let open = enter(&state);
    SctlrEl1::write(before);
    let trap = Fault::new(ec::SYSTEM, iss);
    let host = arch::cpu::current_el() == 2;
    expect_eq!(closed.fault(), trap, "with UMA clear")?;
    expect_frame(&closed, Level::User, &state, code.address())?;
    let expected = if host { trap } else { Fault::svc(1) };
    expect_eq!(open.fault(), expected, "with UMA set")
}
