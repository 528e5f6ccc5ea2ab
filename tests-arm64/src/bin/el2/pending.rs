//! Virtual interrupts and virtual SError. Spec: DDI0487 D1.4, D24.2 HCR_EL2.
//!
//! HCR_EL2.{VI, VF, VSE} make an exception pending for EL1 while the routing bit is set. It shows in
//! ISR_EL1, waits while PSTATE masks it, and is taken at EL1's own vector. A virtual SError is cleared when it
//! is taken, the other two are levels. This is how a hypervisor injects an SError.

use guest_lib::arch::code::Code;
use guest_lib::arch::fault::ec;
use guest_lib::arch::nested::{ElrEl12, EsrEl12, Nested, SpsrEl12, hcr};
use guest_lib::arch::snippets::{OPEN_IRQ_HVC, OPEN_SERROR_HVC, PENDING_HVC, Snippet};
use guest_lib::prelude::*;

/// Pending bit, routing bit, bit of ISR_EL1 and of PSTATE, number of EL1's vector.
type Row = (u64, u64, u64, u64);

const SERROR: Row = (hcr::VSE, hcr::AMO, 1 << 8, 7);
const IRQ: Row = (hcr::VI, hcr::IMO, 1 << 7, 5);
const FIQ: Row = (hcr::VF, hcr::FMO, 1 << 6, 6);

fn reached() -> Fault {
    Fault::new(ec::HVC64, 1)
}

/// What is masked shows in ISR_EL1 and is not taken; without its routing bit it is not even pending.
#[case(
    spec = "DDI0487 D1.4",
    needs("arm64.el2"),
    rows(serror: SERROR, irq: IRQ, fiq: FIQ)
)]
fn masked_exception_is_pending(nested: &mut Nested, row: Row) -> Verdict {
    let (pending, route, bit, _) = row;
    let code = Code::new(PENDING_HVC.words());
    let state = nested.state(code.address());
    let (frame, after) = nested.run_and_look(pending | route, &state);
    expect_eq!(frame.fault(), reached())?;
    expect_eq!(frame.x[0], bit, "ISR_EL1")?;
    expect_eq!(after & pending, pending, "HCR_EL2 afterwards")?;
    let frame = nested.run(route, &state);
    expect_eq!(
        (frame.fault(), frame.x[0]),
        (reached(), 0),
        "nothing pending"
    )?;
    let frame = nested.run(pending, &state);
    expect_eq!((frame.fault(), frame.x[0]), (reached(), 0), "not routed")
}

/// What is open on entry is taken at EL1's vector before the first instruction, with exact ELR and SPSR.
#[case(
    spec = "DDI0487 D1.4",
    needs("arm64.el2"),
    rows(serror: SERROR, irq: IRQ, fiq: FIQ)
)]
fn open_exception_is_taken(nested: &mut Nested, row: Row) -> Verdict {
    let (pending, route, bit, vector) = row;
    let code = Code::new(PENDING_HVC.words());
    let mut state = nested.state(code.address());
    state.spsr = state.spsr & !bit | 0x6000_0000;
    let (frame, after) = nested.run_and_look(pending | route, &state);
    expect_eq!(
        Nested::vector_of(&frame),
        Some(vector),
        "EL1's vector, by number"
    )?;
    expect_eq!(ElrEl12::read(), code.address(), "ELR of EL1")?;
    expect_eq!(SpsrEl12::read(), state.spsr, "SPSR of EL1")?;
    // A virtual SError is spent, the others stay until EL2 takes them back.
    let left = if pending == hcr::VSE { 0 } else { pending };
    expect_eq!(after & pending, left, "HCR_EL2 afterwards")?;
    expect_eq!(nested.run(0, &state).fault(), reached(), "nothing pending")
}

/// What is opened by the guest is taken there, between two instructions.
#[case(
    spec = "DDI0487 D1.4",
    needs("arm64.el2"),
    rows(serror: (SERROR, OPEN_SERROR_HVC), irq: (IRQ, OPEN_IRQ_HVC))
)]
fn unmasking_takes_it(nested: &mut Nested, row: (Row, Snippet)) -> Verdict {
    let ((pending, route, bit, vector), snippet) = row;
    let code = Code::new(snippet.words());
    let mut state = nested.state(code.address());
    state.x[0] = 5;
    let frame = nested.run(pending | route, &state);
    expect_eq!(
        Nested::vector_of(&frame),
        Some(vector),
        "EL1's vector, by number"
    )?;
    let elr = ElrEl12::read() - code.address();
    expect!(elr == 4 || elr == 8, "ELR of EL1 is {elr} behind the start")?;
    expect_eq!(frame.x[0], 5, "what comes behind the ISB")?;
    expect_eq!(SpsrEl12::read(), state.spsr & !bit, "SPSR of EL1")?;
    let frame = nested.run(route, &state);
    expect_eq!(
        (frame.fault(), frame.x[0]),
        (reached(), 6),
        "nothing pending"
    )
}

/// A virtual SError tells its class, and with FEAT_RAS the syndrome that EL2 chose.
#[case(spec = "DDI0487 D24.2 HCR_EL2", needs("arm64.el2"))]
fn virtual_serror_has_its_syndrome(nested: &mut Nested) -> Verdict {
    use guest_lib::arch::registers::{IdAa64pfr0El1, field};
    let code = Code::new(PENDING_HVC.words());
    let mut state = nested.state(code.address());
    state.spsr &= !(1 << 8);
    let has_ras = field(IdAa64pfr0El1::read(), 28) != 0;
    for iss in [0u64, 0x123, 0x100_0abc] {
        if has_ras {
            guest_lib::arch::nested::VsesrEl2::write(iss);
        }
        nested.forget();
        let frame = nested.run(hcr::VSE | hcr::AMO, &state);
        expect_eq!(Nested::vector_of(&frame), Some(7))?;
        let got = Fault(EsrEl12::read());
        expect_eq!((got.ec(), got.il()), (ec::SERROR, true), "class and IL")?;
        if has_ras {
            expect_eq!(got.iss(), iss, "ISS, as VSESR_EL2 says")?;
        }
    }
    Ok(())
}
