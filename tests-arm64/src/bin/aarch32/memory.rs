//! Memory of AArch32. Spec: DDI0487 G1.13, D8.15.
//!
//! Addresses have 32 bits: FAR must come zero-extended, whatever the upper half of the register held.
//! The byte order is PSTATE.E, not SCTLR.

use crate::run::{SVC_A32, Text};
use guest_lib::arch::fault::ec;
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

/// ldr r0, [r1]; svc #1
const LOAD: Text = Text::Arm(&[0xe591_0000, SVC_A32]);
/// str r0, [r1]; svc #1
const STORE: Text = Text::Arm(&[0xe581_0000, SVC_A32]);
/// ldr r0, [r1]; svc #1
const LOAD_T32: Text = Text::Thumb(&[0x6808, 0xdf01]);

/// A data abort has the class of a lower level, the direction, and a FAR of 32 bits.
#[case(
    spec = "DDI0487 D8.15",
    needs("arm64.aarch32_el0"),
    rows(load: (LOAD, 0), load_t32: (LOAD_T32, 0), store: (STORE, 1 << 6))
)]
fn data_abort_is_exact(row: (Text, u64)) -> Verdict {
    let (text, write) = row;
    let data = Frames::new(1);
    let good = text.run(data.address() | 0x5555_5555 << 32, 0);
    expect_eq!(good.frame.fault().ec(), ec::SVC32, "memory")?;
    // Nothing is mapped for EL0 at the end of the first 4 GiB.
    let bad = text.run(0xdead_beef_ffff_fff0, 0);
    expect_eq!(bad.frame.fault().ec(), ec::DATA_ABORT_LOWER)?;
    expect_eq!(
        bad.frame.fault().iss() & !0x3f,
        write,
        "ISS beside the status"
    )?;
    expect_eq!(bad.frame.fault().status() & !3, 0x0c, "a permission fault")?;
    expect_eq!(bad.frame.fault().il(), true, "IL")?;
    expect_eq!(bad.frame.far, 0xffff_fff0, "FAR")?;
    bad.expect_at(0)
}

/// A jump to a page that EL0 may not execute is an instruction abort at its target.
#[case(spec = "DDI0487 D8.15", needs("arm64.aarch32_el0"))]
fn instruction_abort_is_exact() -> Verdict {
    // blx r1
    let ran = Text::Arm(&[0xe12f_ff31]).run(0xffff_ff00, 0);
    expect_eq!(ran.frame.fault().ec(), ec::INSTRUCTION_ABORT_LOWER)?;
    expect_eq!(ran.frame.fault().il(), true, "IL")?;
    expect_eq!(
        (ran.frame.far, ran.frame.elr),
        (0xffff_ff00, 0xffff_ff00),
        "FAR and ELR"
    )?;
    expect_eq!(ran.frame.x[14], ran.start + 4, "r14")
}

/// PSTATE.E swaps the bytes of data, not of instructions.
#[case(
    spec = "DDI0487 G1.13",
    needs("arm64.aarch32_el0", "arm64.big_endian_el0")
)]
fn e_bit_swaps_data() -> Verdict {
    let data = Frames::new(1);
    data.write(0, 0x1122_3344u32);
    expect_eq!(LOAD.run(data.address(), 0).frame.x[0], 0x1122_3344)?;
    let big = LOAD.run(data.address(), 1 << 9);
    expect_eq!(big.frame.x[0], 0x4433_2211)?;
    big.expect_at(8)
}

/// LDM and STM move their registers in order.
#[case(spec = "DDI0487 G1.13 LDM", needs("arm64.aarch32_el0"))]
fn multiple_registers_are_moved() -> Verdict {
    let data = Frames::new(1);
    for i in 0..4usize {
        data.write(i * 4, 0x100 + i as u32);
    }
    // ldmia r1!, {r2-r5}; stmia r1, {r2-r5}; svc #1
    let ran = Text::Arm(&[0xe8b1_003c, 0xe881_003c, SVC_A32]).run(data.address(), 0);
    expect_eq!(ran.frame.fault(), Fault::new(ec::SVC32, 1))?;
    expect_eq!(&ran.frame.x[2..6], &[0x100u64, 0x101, 0x102, 0x103][..])?;
    expect_eq!(ran.frame.x[1], data.address() + 16)?;
    expect_eq!(data.read::<u32>(28), 0x103)
}
