//! Trap bits of HCR_EL2. Spec: DDI0487 D24.2 HCR_EL2.
//!
//! Each bit sends one group of EL1's instructions to EL2, with a syndrome that names the instruction and an
//! ELR at it. A hypervisor under which another one runs must combine its own traps with these. Each
//! row runs its instruction with the bit clear, set and clear again.

use guest_lib::arch::code::{self, Code, Register};
use guest_lib::arch::fault::{Vector, ec};
use guest_lib::arch::nested::{EsrEl12, Nested, hcr};
use guest_lib::prelude::*;

const REVIDR: Register = Register(3, 0, 0, 0, 6);
const CTR: Register = Register(3, 3, 0, 0, 1);
const CLIDR: Register = Register(3, 1, 0, 0, 1);
const PFR0: Register = Register(3, 0, 0, 4, 0);
const FAR: Register = Register(3, 0, 6, 0, 0);
const TLBI: Register = Register(1, 0, 8, 7, 0);
const ZVA: Register = Register(1, 3, 7, 4, 1);
const ACTLR: Register = Register(3, 0, 1, 0, 1);
const CISW: Register = Register(1, 0, 7, 14, 2);

/// The instruction goes to EL2 exactly while its bit is set.
#[case(
    spec = "DDI0487 D24.2 HCR_EL2",
    needs("arm64.el2"),
    rows(
        tid1_revidr: (hcr::TID1, REVIDR.mrs(5), Fault::new(ec::SYSTEM, REVIDR.iss(5, true))),
        tid2_ctr: (hcr::TID2, CTR.mrs(5), Fault::new(ec::SYSTEM, CTR.iss(5, true))),
        tid2_clidr: (hcr::TID2, CLIDR.mrs(5), Fault::new(ec::SYSTEM, CLIDR.iss(5, true))),
        tid3_pfr0: (hcr::TID3, PFR0.mrs(5), Fault::new(ec::SYSTEM, PFR0.iss(5, true))),
        tvm_far: (hcr::TVM, FAR.msr(5), Fault::new(ec::SYSTEM, FAR.iss(5, false))),
        trvm_far: (hcr::TRVM, FAR.mrs(5), Fault::new(ec::SYSTEM, FAR.iss(5, true))),
        ttlb_vmalle1: (hcr::TTLB, TLBI.msr(31), Fault::new(ec::SYSTEM, TLBI.iss(31, false))),
        tacr_actlr: (1 << 21, ACTLR.mrs(5), Fault::new(ec::SYSTEM, ACTLR.iss(5, true))),
        tsw_cisw: (1 << 22, CISW.msr(31), Fault::new(ec::SYSTEM, CISW.iss(31, false))),
        tsc_smc: (hcr::TSC, 0xd400_0063, Fault::new(ec::SMC64, 3))
    )
)]
fn bit_traps_its_instruction(nested: &mut Nested, row: (u64, u32, Fault)) -> Verdict {
    let (bit, word, fault) = row;
    let code = Code::new(&[word, code::hvc(1)]);
    let mut state = nested.state(code.address());
    state.x[0] = 0xc3ff_ffff;
    for (bits, expected, elr) in [
        (0, Fault::new(ec::HVC64, 1), 8),
        (bit, fault, 0),
        (0, Fault::new(ec::HVC64, 1), 8),
    ] {
        let frame = nested.run(bits, &state);
        expect_eq!(frame.fault(), expected, "with HCR_EL2 bits {bits:#x}")?;
        expect_eq!(frame.elr, code.address() + elr, "ELR")?;
        expect_eq!(frame.vector, Vector::LOWER64_SYNC)?;
        expect_eq!(frame.spsr, state.spsr, "SPSR")?;
    }
    Ok(())
}

/// TDZ traps DC ZVA, and DCZID_EL0.DZP tells EL1 so.
#[case(spec = "DDI0487 D24.2 HCR_EL2", needs("arm64.el2"))]
fn tdz_traps_dc_zva(nested: &mut Nested) -> Verdict {
    const TDZ: u64 = 1 << 28;
    // mrs x6, dczid_el0; dc zva, x5
    let code = Code::new(&[Register(3, 3, 0, 0, 7).mrs(6), ZVA.msr(5), code::hvc(1)]);
    let mut state = nested.state(code.address());
    state.x[5] = 0;
    let frame = nested.run(TDZ, &state);
    expect_eq!(frame.fault(), Fault::new(ec::SYSTEM, ZVA.iss(5, false)))?;
    expect_eq!(frame.x[6] >> 4 & 1, 1, "DZP, trapped")?;
    let plain = Code::new(&[Register(3, 3, 0, 0, 7).mrs(6), code::hvc(1)]);
    let frame = nested.run(0, &nested.state(plain.address()));
    expect_eq!(frame.x[6] >> 4 & 1, 0, "DZP, open")
}

/// TWI sends a WFI that would wait to EL2; one with a pending virtual interrupt may pass.
#[case(spec = "DDI0487 D24.2 HCR_EL2", needs("arm64.el2"))]
fn twi_traps_wfi(nested: &mut Nested) -> Verdict {
    let code = Code::new(guest_lib::arch::snippets::WFI_HVC.words());
    let state = nested.state(code.address());
    let trap = Fault::new(ec::WFX, 0x1e << 20);
    let frame = nested.run(hcr::TWI, &state);
    expect_eq!(Fault(frame.esr & !0xffff0), trap)?;
    expect_eq!(frame.elr, code.address())?;
    // Without the trap it ends because a virtual interrupt is pending, though masked.
    let frame = nested.run(hcr::VI | hcr::IMO, &state);
    expect_eq!(
        frame.fault(),
        Fault::new(ec::HVC64, 1),
        "with a virtual interrupt"
    )
}

/// HCD makes HVC undefined at EL1.
#[case(spec = "DDI0487 D24.2 HCR_EL2", needs("arm64.el2"))]
fn hcd_makes_hvc_undefined(nested: &mut Nested) -> Verdict {
    let code = Code::new(&[code::hvc(9)]);
    let mut state = nested.state(code.address());
    expect_eq!(nested.run(0, &state).fault(), Fault::new(ec::HVC64, 9))?;
    // EL1's vectors report by HVC too, so a loop there ends by the trap of an SMC instead.
    let smc = Code::new(&[0xd400_0003; 1024]);
    guest_lib::arch::nested::VbarEl12::write(smc.address());
    state.spsr = EL1H_STATE;
    let frame = nested.run(hcr::HCD | hcr::TSC, &state);
    expect_eq!(
        frame.fault(),
        Fault::new(ec::SMC64, 0),
        "the SMC of EL1's vector"
    )?;
    expect_eq!(frame.elr, smc.address() + 0x200, "EL1's vector")?;
    expect_eq!(Fault(EsrEl12::read()), Fault::UNDEFINED, "ESR of EL1")
}

const EL1H_STATE: u64 = guest_lib::arch::nested::EL1H;
