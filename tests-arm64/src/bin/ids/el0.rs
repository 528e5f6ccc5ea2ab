//! Identification as EL0 sees it. Spec: DDI0487 D24.1, D24.2 SCTLR_EL1.
//!
//! EL0 may read CTR_EL0 and DCZID_EL0 when EL1 allows it, and no feature register. With FEAT_IDST a refused
//! read of the identification space is a trap (class 0x18) that names the register, so that a kernel
//! can emulate it; without, it is undefined. The same holds at EL1 for registers that are absent.

use guest_lib::arch::code::{self, Code, Register};
use guest_lib::arch::enter::{State, enter};
use guest_lib::arch::fault::ec;
use guest_lib::arch::registers::{CtrEl0, SctlrEl1};
use guest_lib::prelude::*;

/// What a refused read of `register` to x5 gives.
fn refusal(register: Register) -> Fault {
    if arch::has("arm64.idst") {
        Fault::new(ec::SYSTEM, register.iss(5, true))
    } else {
        Fault::UNDEFINED
    }
}

/// A read of an identification register at EL0 is a trap with FEAT_IDST, and undefined without.
#[case(
    spec = "DDI0487 D24.1",
    rows(
        midr_el1: Register(3, 0, 0, 0, 0),
        mpidr_el1: Register(3, 0, 0, 0, 5),
        id_aa64pfr0_el1: Register(3, 0, 0, 4, 0),
        id_aa64isar0_el1: Register(3, 0, 0, 6, 0),
        id_aa64mmfr2_el1: Register(3, 0, 0, 7, 2),
        reserved: Register(3, 0, 0, 7, 7),
        clidr_el1: Register(3, 1, 0, 0, 1),
        ccsidr_el1: Register(3, 1, 0, 0, 0)
    )
)]
fn feature_registers_are_closed_to_el0(register: Register) -> Verdict {
    fault::catch(|| register.read())?;
    let code = Code::new(&[register.mrs(5), code::svc(1)]);
    let state = State::user(code.address());
    let frame = enter(&state);
    expect_eq!(frame.fault(), refusal(register))?;
    expect_eq!(
        (frame.elr, frame.spsr),
        (code.address(), state.spsr),
        "ELR and SPSR"
    )?;
    expect_eq!(frame.x[5], state.x[5], "the destination")
}

/// An identification register of an absent feature is refused at EL1 in the same way.
#[case(
    spec = "DDI0487 D24.1",
    rows(
        ccsidr2_el1: (Register(3, 1, 0, 0, 2), 7, 2, 20, 1),
        gmid_el1: (Register(3, 1, 0, 0, 4), 4, 1, 8, 2),
        smidr_el1: (Register(3, 1, 0, 0, 6), 4, 1, 24, 1)
    )
)]
fn absent_id_registers_are_refused(row: (Register, u32, u32, u32, u64)) -> Verdict {
    let (register, crm, op2, shift, least) = row;
    let present = Register(3, 0, 0, crm, op2).read() >> shift & 0xf >= least;
    let code = Code::new(&[register.mrs(5), code::svc(1)]);
    let frame = enter(&State::here(code.address()));
    expect_eq!(
        frame.fault(),
        if present {
            Fault::svc(1)
        } else {
            refusal(register)
        }
    )
}

/// SCTLR_EL1.UCT opens CTR_EL0 to EL0 with its EL1 value; otherwise its read traps with its encoding.
#[case(spec = "DDI0487 D24.2 SCTLR_EL1")]
fn uct_opens_ctr() -> Verdict {
    let register = Register(3, 3, 0, 0, 1);
    let code = Code::new(&[register.mrs(5), code::svc(1)]);
    let state = State::user(code.address());
    let before = SctlrEl1::read();
    SctlrEl1::write(before | 1 << 15);
    let open = enter(&state);
    SctlrEl1::write(before & !(1 << 15));
    let closed = enter(&state);
    SctlrEl1::write(before);
    expect_eq!(open.fault(), Fault::svc(1))?;
    expect_eq!(open.x[5], CtrEl0::read())?;
    expect_eq!(
        closed.fault(),
        Fault::new(ec::SYSTEM, register.iss(5, true))
    )?;
    expect_eq!(closed.elr, code.address())?;
    expect_eq!(closed.x[5], state.x[5])
}

/// SCTLR_EL1.DZE opens DC ZVA to EL0, and DCZID_EL0.DZP tells so.
#[case(spec = "DDI0487 D24.2 SCTLR_EL1")]
fn dze_opens_dc_zva() -> Verdict {
    let data = guest_lib::memory::Frames::new(1);
    data.write(0, !0u64);
    // mrs x5, dczid_el0; dc zva, x1; svc #1
    let code = Code::new(&[Register(3, 3, 0, 0, 7).mrs(5), 0xd50b_7421, code::svc(1)]);
    let mut state = State::user(code.address());
    state.x[1] = data.address();
    let before = SctlrEl1::read();
    SctlrEl1::write(before & !(1 << 14));
    let closed = enter(&state);
    let untouched = data.read::<u64>(0);
    SctlrEl1::write(before | 1 << 14);
    let open = enter(&state);
    SctlrEl1::write(before);
    // DC ZVA, X1 as the trap names it: op0 1, op1 3, C7, C4, 1.
    let trap = Fault::new(ec::SYSTEM, Register(1, 3, 7, 4, 1).iss(1, false));
    expect_eq!(
        (closed.fault(), closed.elr),
        (trap, code.address() + 4),
        "closed"
    )?;
    expect_eq!(closed.x[5] >> 4 & 1, 1, "DZP, closed")?;
    expect_eq!(untouched, !0, "the memory, closed")?;
    expect_eq!(open.fault(), Fault::svc(1), "open")?;
    expect_eq!(open.x[5] >> 4 & 1, 0, "DZP, open")?;
    expect_eq!(data.read::<u64>(0), 0, "the memory, open")
}
