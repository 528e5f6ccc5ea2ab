//! PSTATE at exception entry. Spec: DDI0487 D1.4, D1.5.
//!
//! Entry masks everything, selects SP_ELx, clears UAO, IL and SS, sets PAN when SCTLR.SPAN is 0,
//! copies SCTLR.DSSBS to SSBS, sets TCO, leaves DIT alone, and puts all the old values into SPSR.
//! Hypervisors that inject exceptions compute this list by hand, and the list grows with every
//! extension, so the rare bits get lost. Each case enters a state by ERET with the bit set and clear,
//! and looks twice: at SPSR, and at PSTATE in the handler.

use crate::level::Level;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use guest_lib::arch::code::{self, Code, Register};
use guest_lib::arch::enter::{State, enter};
use guest_lib::arch::fault::Frame;
use guest_lib::arch::registers::{Pstate, SctlrEl1, set_dit, set_pan, set_ssbs, set_tco, set_uao};
use guest_lib::arch::{probe, pstate as now};
use guest_lib::prelude::*;

/// SCTLR_EL1 as it was, at the end.
struct Control(u64);

impl Fixture for Control {
    fn fresh() -> Result<Self, Stop> {
        Ok(Control(SctlrEl1::read()))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        SctlrEl1::write(self.0);
    }
}

impl Control {
    fn set(&self, bit: u32, on: bool) {
        SctlrEl1::write(self.0 & !(1 << bit) | u64::from(on) << bit);
    }
}

/// SCTLR_EL1.SPAN: do not set PAN at entry.
const SPAN: u32 = 23;
/// SCTLR_EL1.DSSBS: SSBS at entry.
const DSSBS: u32 = 44;

/// The exception that ends `state`, and what `read` gives in its handler.
fn seen(state: &State, read: fn() -> u64) -> (Frame, u64) {
    let value = AtomicU64::new(!0);
    let look = |_: &mut Frame| {
        value.store(read(), Relaxed);
        false
    };
    let frame = fault::with_hook(look, || enter(state));
    (frame, value.into_inner())
}

/// Two ways to the handler: a call that the processor takes, and an instruction that a hypervisor may have
/// to refuse.
fn both() -> [Code; 2] {
    [
        Code::new(&[code::svc(1)]),
        Code::new(&[Register(3, 6, 1, 0, 0).mrs(0)]),
    ]
}

/// Entry masks debug exceptions, SError, IRQ and FIQ, and SPSR keeps which were masked before.
#[case(spec = "DDI0487 D1.4", rows(el1: Level::Here, sp0: Level::HereSp0, el0: Level::User))]
fn entry_masks_everything(level: Level) -> Verdict {
    for code in both() {
        for masks in 0..16u64 {
            let mut state = level.state(&code);
            state.spsr = state.spsr & !0x3c0 | masks << 6;
            let (frame, daif) = seen(&state, now::daif);
            expect_eq!(daif, 0x3c0, "DAIF in the handler")?;
            expect_eq!(frame.spsr, state.spsr, "SPSR")?;
            expect_eq!(
                frame.level,
                arch::cpu::current_el() << 2 | 1,
                "CurrentEL and SPSel"
            )?;
        }
    }
    Ok(())
}

/// SPSR has the condition flags of the interrupted code, all sixteen combinations.
#[case(spec = "DDI0487 D1.4", rows(el1: Level::Here, el0: Level::User))]
fn spsr_keeps_the_flags(level: Level) -> Verdict {
    for code in both() {
        for flags in 0..16u64 {
            let mut state = level.state(&code);
            state.spsr = state.spsr & !0xf000_0000 | flags << 28;
            expect_eq!(enter(&state).spsr, state.spsr)?;
        }
    }
    Ok(())
}

/// With SCTLR.SPAN = 1 entry leaves PAN as it was; with SPAN = 0 it sets it. SPSR keeps the old value.
#[case(spec = "DDI0487 D1.5", needs("arm64.pan"))]
fn entry_sets_pan_as_span_says(control: &mut Control) -> Verdict {
    for code in both() {
        for (span, pan, expected) in [(1, 0, 0), (1, 1, 1), (0, 0, 1), (0, 1, 1)] {
            control.set(SPAN, span != 0);
            let mut state = Level::Here.state(&code);
            state.spsr |= pan << 22;
            let (frame, got) = seen(&state, now::pan);
            expect_eq!(
                got >> 22 & 1,
                expected,
                "PAN in the handler, SPAN {span}, before {pan}"
            )?;
            expect_eq!(frame.spsr, state.spsr, "SPSR")?;
        }
    }
    Ok(())
}

/// Entry clears UAO, and SPSR keeps the old value.
#[case(spec = "DDI0487 D1.5", needs("arm64.uao"))]
fn entry_clears_uao() -> Verdict {
    for code in both() {
        for uao in [0, 1] {
            let mut state = Level::Here.state(&code);
            state.spsr |= uao << 23;
            let (frame, got) = seen(&state, now::uao);
            expect_eq!(got >> 23 & 1, 0, "UAO in the handler, before {uao}")?;
            expect_eq!(frame.spsr, state.spsr, "SPSR")?;
        }
    }
    Ok(())
}

/// Entry sets SSBS to SCTLR.DSSBS, and SPSR keeps the old value.
#[case(
    spec = "DDI0487 D1.5",
    needs("arm64.ssbs"),
    rows(el1: Level::Here, el0: Level::User)
)]
fn entry_copies_dssbs(control: &mut Control, level: Level) -> Verdict {
    for code in both() {
        for (dssbs, ssbs) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            control.set(DSSBS, dssbs != 0);
            let mut state = level.state(&code);
            state.spsr |= ssbs << 12;
            let (frame, got) = seen(&state, now::ssbs);
            expect_eq!(got >> 12 & 1, dssbs, "SSBS in the handler, before {ssbs}")?;
            expect_eq!(frame.spsr, state.spsr, "SPSR")?;
        }
    }
    Ok(())
}

/// Entry leaves DIT as it was, and SPSR has it too.
#[case(
    spec = "DDI0487 D1.5",
    needs("arm64.dit"),
    rows(el1: Level::Here, el0: Level::User)
)]
fn entry_keeps_dit(level: Level) -> Verdict {
    for code in both() {
        for dit in [0, 1] {
            let mut state = level.state(&code);
            state.spsr |= dit << 24;
            let (frame, got) = seen(&state, now::dit);
            expect_eq!(got >> 24 & 1, dit, "DIT in the handler")?;
            expect_eq!(frame.spsr, state.spsr, "SPSR")?;
        }
    }
    Ok(())
}

/// Entry sets TCO, and SPSR keeps the old value.
#[case(
    spec = "DDI0487 D1.5",
    needs("arm64.mte"),
    rows(el1: Level::Here, el0: Level::User)
)]
fn entry_sets_tco(level: Level) -> Verdict {
    for code in both() {
        for tco in [0, 1] {
            let mut state = level.state(&code);
            state.spsr |= tco << 25;
            let (frame, got) = seen(&state, now::tco);
            expect_eq!(got >> 25 & 1, 1, "TCO in the handler, before {tco}")?;
            expect_eq!(frame.spsr, state.spsr, "SPSR")?;
        }
    }
    Ok(())
}

/// SPSR has the BTYPE that was in force at the instruction; a completed instruction has cleared it.
#[case(
    spec = "DDI0487 D1.5",
    needs("arm64.bti"),
    rows(el1: Level::Here, el0: Level::User)
)]
fn spsr_keeps_btype(level: Level) -> Verdict {
    let refused = Code::new(&[Register(3, 6, 1, 0, 0).mrs(0)]);
    let later = Code::new(&[code::NOP, Register(3, 6, 1, 0, 0).mrs(0)]);
    for btype in 0..4 {
        let mut state = level.state(&refused);
        state.spsr |= btype << 10;
        let frame = enter(&state);
        expect_eq!(frame.fault(), Fault::UNDEFINED)?;
        expect_eq!(frame.spsr, state.spsr, "SPSR of the first instruction")?;
        state.pc = later.address();
        expect_eq!(
            enter(&state).spsr >> 10 & 3,
            0,
            "BTYPE behind an instruction"
        )?;
    }
    Ok(())
}

/// All bits that ERET can set together come back in SPSR unchanged.
#[case(spec = "DDI0487 D1.4", rows(el1: Level::Here, el0: Level::User))]
fn spsr_keeps_all_bits_together(level: Level) -> Verdict {
    let mut extra = Pstate::NZCV;
    let optional = [
        ("arm64.pan", Pstate::PAN),
        ("arm64.uao", Pstate::UAO),
        ("arm64.dit", Pstate::DIT),
        ("arm64.ssbs", Pstate::SSBS),
        ("arm64.mte", Pstate::TCO),
    ];
    for (need, bit) in optional {
        if arch::has(need) {
            extra |= bit;
        }
    }
    if level == Level::User {
        // The handler's stack is open to EL0 then, and PAN would be kept.
        extra -= Pstate::PAN;
    }
    for code in both() {
        let mut state = level.state(&code);
        state.spsr |= extra.bits();
        expect_eq!(enter(&state).spsr, state.spsr)?;
    }
    Ok(())
}

/// SPSR has the bit that an MSR set just before, and not the one that an MSR cleared.
#[case(
    spec = "DDI0487 D1.5",
    rows(
        pan: ("arm64.pan", set_pan, Pstate::PAN),
        uao: ("arm64.uao", set_uao, Pstate::UAO),
        dit: ("arm64.dit", set_dit, Pstate::DIT),
        ssbs: ("arm64.ssbs", set_ssbs, Pstate::SSBS),
        tco: ("arm64.mte", set_tco, Pstate::TCO)
    )
)]
fn spsr_keeps_what_msr_set(row: (&'static str, fn(bool), Pstate)) -> Verdict {
    let (need, set, bit) = row;
    if !arch::has(need) {
        return skip(need);
    }
    let spsr_with = |on| -> Result<Pstate, Stop> {
        fault::forget();
        let caught = fault::catch(|| {
            set(on);
            probe::SVC.run(0, 0)
        });
        set(false);
        expect_eq!(caught, Err(Fault::svc(123)))?;
        Ok(Pstate::from_bits_retain(fault::details().spsr) & bit)
    };
    expect_eq!(spsr_with(true)?, bit, "set")?;
    expect_eq!(spsr_with(false)?, Pstate::empty(), "clear")
}
