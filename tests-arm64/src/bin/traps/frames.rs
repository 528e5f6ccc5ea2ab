//! What an exception leaves in ELR, SPSR, ESR, FAR and the vector number. Spec: DDI0487 D1.4.
//!
//! The vector says where the exception came from, ELR where to go on: the instruction itself for a
//! fault, the one behind it for a call. Software that emulates an instruction relies on both, and
//! a hypervisor that injects an exception at a trapped instruction has already moved the PC or
//! not: the classic mistake is one instruction too far. Every case ends in an SVC that must be reached
//! when nothing is wrong, so that a set-up that never ran cannot pass.

use crate::level::{Level, expect_exact, expect_frame};
use guest_lib::arch::code::{self, Code, NOP, Register};
use guest_lib::arch::enter::enter;
use guest_lib::arch::fault::ec;
use guest_lib::arch::gic::Gic;
use guest_lib::arch::registers::{SctlrEl1, TimerControl};
use guest_lib::arch::snippets::{self, Snippet};
use guest_lib::arch::timer::Timers;
use guest_lib::prelude::*;

const SCTLR_EL3: Register = Register(3, 6, 1, 0, 0);
const CTR_EL0: Register = Register(3, 3, 0, 0, 1);

/// An undefined instruction arrives at its own address with class 0 and no detail, and changes nothing.
#[case(
    spec = "DDI0487 D1.4",
    rows(el1: Level::Here, sp0: Level::HereSp0, el0: Level::User)
)]
fn undefined_instruction_is_exact(level: Level) -> Verdict {
    let code = Code::new(&[SCTLR_EL3.mrs(0), code::svc(1)]);
    let state = level.state(&code);
    expect_exact(&state, level, Fault::UNDEFINED, code.address())?;
    // The same place with a register that there is.
    code.patch(0, CTR_EL0.mrs(0));
    let frame = enter(&state);
    expect_eq!(frame.fault(), Fault::svc(1))?;
    expect_ne!(frame.x[0], state.x[0], "the register that was read")
}

/// SVC arrives with its immediate and goes on behind itself.
#[case(
    spec = "DDI0487 D1.4 SVC",
    rows(el1: Level::Here, sp0: Level::HereSp0, el0: Level::User)
)]
fn svc_is_exact(level: Level) -> Verdict {
    for imm in [0, 1, 0x123, 0x8000, 0xfffe] {
        let code = Code::new(&[NOP, code::svc(imm)]);
        let state = level.state(&code);
        expect_exact(&state, level, Fault::svc(imm), code.address() + 8)?;
    }
    Ok(())
}

/// Returning with PSTATE.IL set gives an Illegal Execution state exception at the target, before it runs.
#[case(
    spec = "DDI0487 D1.4",
    rows(el1: Level::Here, sp0: Level::HereSp0, el0: Level::User)
)]
fn illegal_state_is_refused(level: Level) -> Verdict {
    let code = Code::new(&[NOP, code::svc(1)]);
    let mut state = level.state(&code);
    expect_eq!(enter(&state).fault(), Fault::svc(1))?;
    state.spsr |= 1 << 20;
    expect_exact(
        &state,
        level,
        Fault::new(ec::ILLEGAL_STATE, 0),
        code.address(),
    )?;
    state.spsr &= !(1 << 20);
    expect_eq!(enter(&state).fault(), Fault::svc(1))
}

/// A return to a higher level is illegal: it stays at its level, with IL set.
#[case(spec = "DDI0487 D1.4 ERET")]
fn return_to_a_higher_level_is_illegal() -> Verdict {
    let code = Code::new(&[NOP, code::svc(1)]);
    let mut state = Level::Here.state(&code);
    expect_eq!(enter(&state).fault(), Fault::svc(1))?;
    let own = state.spsr;
    state.spsr = own & !0xf | 0xd;
    let frame = enter(&state);
    expect_eq!(frame.fault(), Fault::new(ec::ILLEGAL_STATE, 0))?;
    expect_eq!(frame.elr, code.address())?;
    expect_eq!(
        frame.spsr & 0x10_000f,
        1 << 20 | own & 0xf,
        "IL, and the mode it stayed in"
    )
}

/// A misaligned PC faults at its target, with FAR and ELR equal to it.
#[case(
    spec = "DDI0487 D1.4",
    rows(el1: Level::Here, sp0: Level::HereSp0, el0: Level::User)
)]
fn misaligned_pc_is_refused(level: Level) -> Verdict {
    let code = Code::new(&[NOP, code::svc(1)]);
    let mut state = level.state(&code);
    for offset in 1..4 {
        state.pc = code.address() + offset;
        let frame = enter(&state);
        expect_eq!(
            frame.fault(),
            Fault::new(ec::PC_ALIGNMENT, 0),
            "offset {offset}"
        )?;
        expect_frame(&frame, level, &state, state.pc)?;
        expect_eq!(frame.far, state.pc, "FAR")?;
    }
    state.pc = code.address();
    expect_eq!(enter(&state).fault(), Fault::svc(1))
}

/// A load through a misaligned stack pointer is refused; through an aligned one it works.
#[case(spec = "DDI0487 D1.4", rows(sp0: Level::HereSp0, el0: Level::User))]
fn misaligned_sp_is_refused(level: Level) -> Verdict {
    let data = guest_lib::memory::Frames::new(1);
    let code = Code::new(snippets::SP_LOAD.words());
    let mut state = level.state(&code);
    state.sp_el0 = data.address() + 64;
    expect_eq!(enter(&state).fault(), Fault::svc(1))?;
    for offset in [1, 4, 8, 15] {
        state.sp_el0 = data.address() + 64 + offset;
        let frame = enter(&state);
        expect_eq!(
            frame.fault(),
            Fault::new(ec::SP_ALIGNMENT, 0),
            "offset {offset}"
        )?;
        expect_frame(&frame, level, &state, code.address())?;
    }
    Ok(())
}

/// A trapped floating-point instruction arrives with its own class, at its own address.
#[case(
    spec = "DDI0487 D24.2 CPACR_EL1",
    needs("arm64.fp"),
    rows(el1: Level::Here, el0: Level::User)
)]
fn floating_point_traps_by_cpacr(level: Level) -> Verdict {
    use guest_lib::arch::registers::CpacrEl1;
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
    // What would end the wait, so that the case ends too.
    gic.set_enabled(timers.phys.intid()?, true);
    let late = timers.phys.count() + time::ticks(time::ms(1000));
    timers.phys.set_deadline(late);
    timers.phys.set_control(TimerControl::ENABLE);
    SctlrEl1::write(before & !(1 << bit));
    let frame = enter(&state);
    SctlrEl1::write(before);
    timers.phys.stop();
    if frame.fault() == Fault::svc(1) {
        note!("the instruction passed without waiting");
        return expect!(timers.phys.count() < late, "EL0 waited for the timer");
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

/// After a thousand exceptions of other kinds, ESR and FAR describe the last one only.
#[case(spec = "DDI0487 D24.2 ESR_EL1")]
fn syndrome_is_of_the_last_exception() -> Verdict {
    let undefined = Code::new(&[SCTLR_EL3.mrs(0)]);
    let call = Code::new(&[code::svc(0x77)]);
    let misaligned = Code::new(&[NOP]);
    for level in [Level::Here, Level::User] {
        for _ in 0..100 {
            let mut state = level.state(&misaligned);
            state.pc += 2;
            let frame = enter(&state);
            expect_eq!(frame.far, state.pc)?;
            expect_exact(
                &level.state(&undefined),
                level,
                Fault::UNDEFINED,
                undefined.address(),
            )?;
            expect_exact(
                &level.state(&call),
                level,
                Fault::svc(0x77),
                call.address() + 4,
            )?;
        }
    }
    Ok(())
}
