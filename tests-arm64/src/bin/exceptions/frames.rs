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
use guest_lib::arch::probe::{Instruction, Registers, observed};
use guest_lib::arch::snippets;
use guest_lib::prelude::*;

const SCTLR_EL3: Register = Register(3, 6, 1, 0, 0);
const CTR_EL0: Register = Register(3, 3, 0, 0, 1);
/// UDF #0.
const UDF: u32 = 0;

/// An undefined instruction arrives at its own address with class 0 and no detail, and changes nothing.
#[case(
    spec = "DDI0487 D1.4",
    rows(el1: Level::Here, sp0: Level::HereSp0, el0: Level::User)
)]
fn undefined_instruction_is_exact(level: Level) -> Verdict {
    let code = Code::new(&[UDF, code::svc(1)]);
    let state = level.state(&code);
    expect_exact(&state, level, Fault::UNDEFINED, code.address())?;
    code.patch(0, SCTLR_EL3.mrs(0));
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

/// x0 to x30, SP, NZCV and the FP registers survive an exception that is handled.
#[case(
    spec = "DDI0487 D1.4",
    needs("arm64.fp"),
    rows(svc: (Instruction::Svc, 0), undefined: (Instruction::Undefined, 4))
)]
fn registers_survive(row: (Instruction, u64)) -> Verdict {
    let (instruction, skip) = row;
    let mut before = Registers::pattern();
    let resume = |frame: &mut fault::Frame| {
        frame.elr += skip;
        true
    };
    let after = fault::with_hook(resume, || observed(instruction, &before));
    before.tpidr_el0 = after.tpidr_el0;
    expect_eq!(after, before)
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
