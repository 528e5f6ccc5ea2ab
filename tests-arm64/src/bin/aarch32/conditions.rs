//! Instructions whose condition fails. Spec: DDI0487 G1.13.
//!
//! A conditional instruction that would trap does nothing when its condition fails. A hypervisor that
//! traps it anyway has to look at the condition, in the instruction or in the IT state, and when it skips the
//! instruction it has to advance both the program counter and the IT state.

use crate::run::{SVC_A32, SVC_T32, Text};
use guest_lib::arch::fault::ec;
use guest_lib::arch::registers::CntkctlEl1;
use guest_lib::prelude::*;

const Z: u64 = 1 << 30;

/// The virtual timer closed to EL0.
struct Closed(u64);

impl Fixture for Closed {
    fn fresh() -> Result<Self, Stop> {
        let before = CntkctlEl1::read();
        CntkctlEl1::write(before & !0x303);
        Ok(Closed(before))
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        CntkctlEl1::write(self.0);
    }
}

/// An A32 instruction that would trap or be undefined does so only when its condition holds.
#[case(
    spec = "DDI0487 G1.13",
    needs("arm64.aarch32_el0"),
    rows(
        // mrceq p15, 0, r5, c14, c3, 1; svc #1
        trapped: (Text::Arm(&[0x0e1e_5f33, SVC_A32]), 0x03),
        // mrceq p15, 0, r0, c1, c0, 0; svc #1
        undefined: (Text::Arm(&[0x0e11_0f10, SVC_A32]), 0)
    )
)]
fn failed_condition_is_a_nop(_closed: &mut Closed, row: (Text, u64)) -> Verdict {
    let (text, class) = row;
    let skipped = text.run(0, 0);
    expect_eq!(
        skipped.frame.fault(),
        Fault::new(ec::SVC32, 1),
        "condition fails"
    )?;
    skipped.expect_at(8)?;
    let taken = text.run(0, Z);
    expect_eq!(taken.frame.fault().ec(), class, "condition holds")?;
    taken.expect_at(0)?;
    if class == 0x03 {
        // COND is EQ, or AL for an instruction that passed.
        let cond = taken.frame.fault().iss() >> 20;
        expect!([0x10, 0x1e].contains(&cond), "CV and COND are {cond:#x}")?;
    }
    Ok(())
}

/// In an IT block the same holds, and SPSR has the IT state of the instruction.
#[case(spec = "DDI0487 G1.13 IT", needs("arm64.aarch32_el0"))]
fn it_block_is_advanced(_closed: &mut Closed) -> Verdict {
    // itee eq; mrceq p15, 0, r5, c14, c3, 1; movne r1, #7; movne r2, #9; svc #1
    let text = Text::Thumb(&[0xbf0e, 0xee1e, 0x5f33, 0x2107, 0x2209, SVC_T32]);
    let skipped = text.run(0, 0);
    expect_eq!(skipped.frame.fault().ec(), ec::SVC32, "condition fails")?;
    expect_eq!(skipped.frame.elr, skipped.start + 12)?;
    expect_eq!(
        (skipped.frame.x[1], skipped.frame.x[2]),
        (7, 9),
        "the rest of the block"
    )?;
    expect_eq!(
        skipped.frame.spsr,
        skipped.state.spsr,
        "SPSR behind the block"
    )?;

    let taken = text.run(0, Z);
    expect_eq!(taken.frame.fault().ec(), 0x03, "condition holds")?;
    expect_eq!(taken.frame.elr, taken.start + 2)?;
    // IT = 0b00001110: IT[7:2] in bits 15:10, IT[1:0] in bits 26:25.
    let it = (0x0e >> 2) << 10 | (0x0e & 3) << 25;
    expect_eq!(taken.frame.spsr, taken.state.spsr | it, "SPSR in the block")
}

/// Returning into an IT block goes on with its state.
#[case(spec = "DDI0487 G1.13 IT", needs("arm64.aarch32_el0"))]
fn return_resumes_the_it_block(_closed: &mut Closed) -> Verdict {
    // itee eq; mrceq p15, 0, r5, c14, c3, 1; movne r1, #7; movne r2, #9; svc #1
    let text = Text::Thumb(&[0xbf0e, 0xee1e, 0x5f33, 0x2107, 0x2209, SVC_T32]);
    let ran = fault::with_hook(
        |frame| {
            if frame.fault().ec() != 0x03 {
                return false;
            }
            // Skip it as an emulator does: four bytes, and the next state of the block.
            let it = frame.spsr >> 25 & 3 | (frame.spsr >> 10 & 0x3f) << 2;
            let next = it & 0xe0 | it << 1 & 0x1f;
            frame.spsr &= !(3 << 25 | 0x3f << 10);
            frame.spsr |= (next & 3) << 25 | (next >> 2) << 10;
            frame.x[5] = 77;
            frame.elr += 4;
            true
        },
        || text.run(3, Z),
    );
    expect_eq!(ran.frame.fault().ec(), ec::SVC32)?;
    expect_eq!(ran.frame.x[5], 77)?;
    expect_eq!(
        (ran.frame.x[1], ran.frame.x[2]),
        (3, ran.state.x[2]),
        "EQ holds, so NE does not"
    )?;
    expect_eq!(ran.frame.spsr, ran.state.spsr, "SPSR behind the block")
}
