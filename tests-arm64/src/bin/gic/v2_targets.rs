//! GICD_ITARGETSR. Spec: IHI0048 4.3.12.
//!
//! A byte per SPI, a bit per processor. Bits of processors that do not exist must read as zero; with one
//! processor the registers may be RAZ/WI altogether.

use crate::both::{expect_one_handler, expect_to_follow_its_route, ready};
use guest_lib::arch::gic::registers::gicd;
use guest_lib::arch::gic::{Gicv2, Intid};
use guest_lib::prelude::*;

fn present() -> u32 {
    u32::from_ne_bytes([((1u32 << cpus::count()) - 1) as u8; 4])
}

/// The value to expect in a word of targets after `value` was written.
fn kept(value: u32) -> u32 {
    // A uniprocessor GIC has no choice to offer: RAZ/WI.
    if cpus::count() == 1 {
        0
    } else {
        value & present()
    }
}

/// The first word of SPIs.
const WORD: u64 = gicd::ITARGETSR + 32;
const SPI: Intid = Intid::spi(70);

/// Only bits of processors that exist can be set.
#[case(spec = "IHI0048 4.3.12 GICD_ITARGETSR", needs("arm64.gicv2"))]
fn absent_cpus_have_no_bits(gic: &mut Gicv2) -> Verdict {
    gic.distributor().write32(WORD, !0);
    expect_eq!(gic.distributor().read32(WORD), kept(!0))
}

/// A pattern is kept in the bits of processors that exist.
#[case(spec = "IHI0048 4.3.12 GICD_ITARGETSR", needs("arm64.gicv2"))]
fn pattern_is_kept(gic: &mut Gicv2) -> Verdict {
    gic.distributor().write32(WORD, 0x0103_020f);
    expect_eq!(gic.distributor().read32(WORD), kept(0x0103_020f))
}

/// A byte load gives the byte's own lane.
#[case(spec = "IHI0048 4.3.12 GICD_ITARGETSR", needs("arm64.gicv2"))]
fn bytes_read_their_lane(gic: &mut Gicv2) -> Verdict {
    gic.distributor().write32(WORD, 0x0001_0101);
    let word = gic.distributor().read32(WORD);
    expect_eq!(word, kept(0x0001_0101))?;
    for lane in 0..4 {
        expect_eq!(
            gic.distributor().read8(WORD + lane),
            (word >> (8 * lane)) as u8,
            "byte {lane}"
        )?;
    }
    Ok(())
}

/// A byte store changes its own lane, in the bits of processors that exist.
#[case(spec = "IHI0048 4.3.12 GICD_ITARGETSR", needs("arm64.gicv2"))]
fn byte_write_changes_its_lane(gic: &mut Gicv2) -> Verdict {
    gic.distributor().write32(WORD, 0);
    gic.distributor().write8(WORD + 2, 0xff);
    expect_eq!(gic.distributor().read32(WORD), kept(0x00ff_0000))
}

/// Targets of private interrupts read as the reading processor's own bit and cannot be written.
#[case(
    spec = "IHI0048 4.3.12 GICD_ITARGETSR0",
    needs("arm64.gicv2", "cpus>=2")
)]
fn private_targets_name_the_reader(gic: &mut Gicv2) -> Verdict {
    let d = gic.distributor();
    for cpu in cpus::all() {
        let word = cpus::run_on(cpu, || {
            d.write32(gicd::ITARGETSR, 0);
            d.read32(gicd::ITARGETSR)
        })?;
        expect_eq!(word, 0x0101_0101 << cpu.0, "as CPU {} reads it", cpu.0)?;
    }
    Ok(())
}

/// An SPI goes to the processor that its byte names, and to no other.
#[case(
    spec = "IHI0048 4.3.12 GICD_ITARGETSR",
    needs("arm64.gicv2", "cpus>=2")
)]
fn spi_goes_to_its_target(gic: &mut Gicv2) -> Verdict {
    expect_to_follow_its_route(gic, SPI)
}

/// An SPI with several targets is handled by exactly one of them.
#[case(spec = "IHI0048 3.2", needs("arm64.gicv2", "cpus>=2"))]
fn one_of_several_targets_handles_it(gic: &mut Gicv2) -> Verdict {
    ready(gic, SPI)?;
    let all = ((1u32 << cpus::count()) - 1) as u8;
    gic.distributor()
        .write8(gicd::ITARGETSR + u64::from(SPI.0), all);
    expect_one_handler(gic, SPI)
}
