//! EL2 as a host level. Spec: DDI0487 D8.13, D1.4.
//!
//! With HCR_EL2.E2H the names of EL1 registers reach those of EL2, and new names (_EL12) those of EL1.
//! A hypervisor that nests keeps two sets in software; a name that reaches the wrong one corrupts the
//! guest's guest.

use guest_lib::arch::code::{self, Code, Register};
use guest_lib::arch::fault::{Vector, ec};
use guest_lib::arch::nested::{EL1H, ElrEl12, EsrEl12, Nested, SpsrEl12, hcr};
use guest_lib::arch::registers::{CurrentEl, HcrEl2};
use guest_lib::prelude::*;

/// CurrentEL says EL2, with HCR_EL2.E2H and TGE as the runtime set them.
#[case(spec = "DDI0487 C5.2 CurrentEL", needs("arm64.el2"))]
fn current_el_is_2() -> Verdict {
    expect_eq!(CurrentEl::read(), 2 << 2)?;
    expect_eq!(arch::cpu::entry_el(), 2, "the level of entry")?;
    let wanted = hcr::E2H | hcr::TGE;
    expect_eq!(HcrEl2::read() & wanted, wanted, "HCR_EL2")
}

/// The EL1 name and the EL2 name reach one register, the EL12 name another.
#[case(
    spec = "DDI0487 D8.13",
    needs("arm64.el2"),
    rows(
        far: (6, 0, 0),
        esr: (5, 2, 0),
        elr: (4, 0, 1),
        contextidr: (13, 0, 1),
        afsr0: (5, 1, 0)
    )
)]
fn names_are_redirected(row: (u32, u32, u32)) -> Verdict {
    let (crn, crm, op2) = row;
    let names = [0, 4, 5].map(|op1| Register(3, op1, crn, crm, op2));
    let [el1, el2, el12] = names;
    let saved = (el2.read(), el12.read());
    let (here, there) = (0x1111_2220, 0x3333_4440);
    el2.write(here);
    el12.write(there);
    let got = [el1.read(), el2.read(), el12.read()];
    el1.write(there);
    let written = [el2.read(), el12.read()];
    el2.write(saved.0);
    el12.write(saved.1);
    if crn == 5 && crm == 1 && got == [0; 3] {
        note!("the register is RES0 here");
        return Ok(());
    }
    expect_eq!(
        got,
        [here, here, there],
        "by the names of EL1, EL2 and EL12"
    )?;
    expect_eq!(written, [there, there], "after a write by the name of EL1")
}

/// HVC from EL1 arrives at EL2 with its immediate, behind itself, and with EL1's PSTATE.
#[case(spec = "DDI0487 D1.4 HVC", needs("arm64.el2"))]
fn hvc_from_el1_is_exact(nested: &mut Nested) -> Verdict {
    for imm in [0, 1, 0x5a5a, 0xffff] {
        let code = Code::new(&[code::NOP, code::hvc(imm)]);
        let state = nested.state(code.address());
        let frame = nested.run(0, &state);
        expect_eq!(frame.fault(), Fault::new(ec::HVC64, u64::from(imm)))?;
        expect_eq!(frame.vector, Vector::LOWER64_SYNC)?;
        expect_eq!(frame.elr, code.address() + 8, "ELR")?;
        expect_eq!(frame.spsr, state.spsr, "SPSR")?;
        expect_eq!(&frame.x[..], &state.x[..], "the registers")?;
    }
    Ok(())
}

/// What EL1 takes itself does not reach EL2: an undefined instruction, and SVC.
#[case(
    spec = "DDI0487 D1.4",
    needs("arm64.el2"),
    rows(
        undefined: (Register(3, 6, 1, 0, 0).mrs(0), Fault::UNDEFINED, 0),
        el2_register: (Register(3, 4, 1, 1, 0).mrs(0), Fault::UNDEFINED, 0),
        el12_name: (Register(3, 5, 1, 0, 0).mrs(0), Fault::UNDEFINED, 0),
        svc: (code::svc(7), Fault::svc(7), 4)
    )
)]
fn el1_takes_its_own_exceptions(nested: &mut Nested, row: (u32, Fault, u64)) -> Verdict {
    let (word, fault, behind) = row;
    let code = Code::new(&[word, code::hvc(1)]);
    let frame = nested.run(0, &nested.state(code.address()));
    expect_eq!(
        Nested::vector_of(&frame),
        Some(4),
        "EL1's vector, by number"
    )?;
    expect_eq!(Fault(EsrEl12::read()), fault, "ESR of EL1")?;
    expect_eq!(ElrEl12::read(), code.address() + behind, "ELR of EL1")?;
    expect_eq!(SpsrEl12::read(), EL1H, "SPSR of EL1")
}
