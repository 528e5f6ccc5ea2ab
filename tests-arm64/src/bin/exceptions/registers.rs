//! System registers that a level does not have. Spec: DDI0487 D24.1, D1.4.
//!
//! A hypervisor traps whole groups of registers to hide a few, so a register that does not exist
//! reaches software, which must answer as the processor would: class 0, IL set, no ISS, nothing else. A
//! trapped access that is passed on with class 0x18 leaks the trap, one that reads as zero leaks
//! the emulation, and one that stops the virtual machine is worse. Each case tries both directions,
//! because they are different entries in the hypervisor's table.

use crate::level::{Level, expect_exact};
use guest_lib::arch::code::{self, Code, Register};
use guest_lib::arch::enter::enter;
use guest_lib::prelude::*;

fn refused(register: Register, level: Level) -> Verdict {
    for word in [register.mrs(3), register.msr(3)] {
        let code = Code::new(&[word, code::svc(1)]);
        let state = level.state(&code);
        expect_exact(&state, level, Fault::UNDEFINED, code.address())?;
    }
    Ok(())
}

/// Registers of EL3 are undefined below it.
#[case(
    spec = "DDI0487 D24.1",
    rows(
        sctlr_el3: Register(3, 6, 1, 0, 0),
        scr_el3: Register(3, 6, 1, 1, 0),
        vbar_el3: Register(3, 6, 12, 0, 0),
        elr_el3: Register(3, 6, 4, 0, 1),
        tpidr_el3: Register(3, 6, 13, 0, 2),
        icc_ctlr_el3: Register(3, 6, 12, 12, 4)
    )
)]
fn el3_registers_are_undefined(register: Register) -> Verdict {
    refused(register, Level::Here)?;
    refused(register, Level::HereSp0)?;
    refused(register, Level::User)
}

/// Registers of EL2 are undefined at EL1 (unless nested virtualization gives them a meaning) and at EL0.
#[case(
    spec = "DDI0487 D24.1",
    rows(
        hcr_el2: Register(3, 4, 1, 1, 0),
        vttbr_el2: Register(3, 4, 2, 1, 0),
        elr_el2: Register(3, 4, 4, 0, 1),
        vbar_el2: Register(3, 4, 12, 0, 0),
        cnthctl_el2: Register(3, 4, 14, 1, 0),
        ich_hcr_el2: Register(3, 4, 12, 11, 0),
        sctlr_el12: Register(3, 5, 1, 0, 0)
    )
)]
fn el2_registers_are_undefined_below(register: Register) -> Verdict {
    if arch::cpu::current_el() == 1 {
        refused(register, Level::Here)?;
        refused(register, Level::HereSp0)?;
    }
    refused(register, Level::User)
}

/// Registers of EL1 are undefined at EL0, and readable at EL1.
#[case(
    spec = "DDI0487 D24.1",
    rows(
        sctlr_el1: Register(3, 0, 1, 0, 0),
        ttbr0_el1: Register(3, 0, 2, 0, 0),
        vbar_el1: Register(3, 0, 12, 0, 0),
        esr_el1: Register(3, 0, 5, 2, 0),
        mair_el1: Register(3, 0, 10, 2, 0),
        tpidr_el1: Register(3, 0, 13, 0, 4),
        cntkctl_el1: Register(3, 0, 14, 1, 0),
        mdscr_el1: Register(2, 0, 0, 2, 2)
    )
)]
fn el1_registers_are_undefined_at_el0(register: Register) -> Verdict {
    fault::catch(|| register.read())?;
    refused(register, Level::User)
}

/// Encodings that no version of the architecture has given a register are undefined, everywhere.
#[case(spec = "DDI0487 D24.1")]
fn unallocated_encodings_are_undefined() -> Verdict {
    // CRn 6 and 8 of op0 3 and op1 7, 3 and 1: far from anything allocated.
    for register in [
        Register(3, 7, 6, 3, 5),
        Register(3, 7, 8, 0, 0),
        Register(3, 3, 8, 5, 1),
        Register(3, 1, 6, 7, 7),
        Register(2, 7, 8, 8, 3),
    ] {
        refused(register, Level::Here)?;
        refused(register, Level::User)?;
    }
    Ok(())
}

/// A write to a read-only register is undefined; its read is not.
#[case(
    spec = "DDI0487 D24.1",
    rows(
        midr_el1: Register(3, 0, 0, 0, 0),
        mpidr_el1: Register(3, 0, 0, 0, 5),
        id_aa64pfr0_el1: Register(3, 0, 0, 4, 0),
        id_aa64mmfr0_el1: Register(3, 0, 0, 7, 0),
        ctr_el0: Register(3, 3, 0, 0, 1),
        clidr_el1: Register(3, 1, 0, 0, 1),
        cntvct_el0: Register(3, 3, 14, 0, 2),
        isr_el1: Register(3, 0, 12, 1, 0)
    )
)]
fn read_only_registers_refuse_writes(register: Register) -> Verdict {
    let code = Code::new(&[register.msr(3), code::svc(1)]);
    for level in [Level::Here, Level::User] {
        let state = level.state(&code);
        // EL0 may be told apart by a trap, but EL1 has no other answer.
        let frame = enter(&state);
        expect_eq!(frame.fault(), Fault::UNDEFINED)?;
        expect_eq!(frame.elr, code.address())?;
        expect_eq!(frame.vector, level.vector())?;
    }
    fault::catch(|| register.read())?;
    Ok(())
}

/// An implementation defined register that is not there is undefined, or trapped by its own class.
#[case(
    spec = "DDI0487 D23.3",
    rows(c11: Register(3, 0, 11, 15, 7), c15: Register(3, 0, 15, 15, 7))
)]
fn implementation_defined_register_is_refused_or_read(register: Register) -> Verdict {
    let code = Code::new(&[register.mrs(3), code::svc(1)]);
    for level in [Level::Here, Level::User] {
        let frame = enter(&level.state(&code));
        let trapped = Fault::new(fault::ec::SYSTEM, register.iss(3, true));
        if frame.fault() == Fault::svc(1) {
            note!("the register exists");
            continue;
        }
        expect!(
            [Fault::UNDEFINED, trapped].contains(&frame.fault()),
            "{:?}",
            frame.fault()
        )?;
        expect_eq!(frame.elr, code.address(), "ELR")?;
    }
    Ok(())
}
