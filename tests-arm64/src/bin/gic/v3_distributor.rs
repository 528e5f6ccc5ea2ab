//! GICv3 distributor registers. Spec: IHI0069 12.9.
//!
//! The counterpart of the GICv2 table: what says something about the machine is true and read-only, what
//! lies beyond the implemented interrupts is RAZ/WI, and the GICv2 registers that affinity routing
//! replaces are gone.

use crate::both::{expect_razwi_beyond, expect_read_only};
use guest_lib::arch::gic::registers::gicd;
use guest_lib::arch::gic::{Gicv3, Intid};
use guest_lib::arch::{platform, smp};
use guest_lib::prelude::*;

/// Read-only registers keep their value whatever is written.
#[case(
    spec = "IHI0069 12.9 GICD_TYPER",
    needs("arm64.gicv3"),
    rows(typer: gicd::TYPER, iidr: gicd::IIDR, typer2: gicd::TYPER2, pidr2: gicd::V3_PIDR2)
)]
fn register_is_read_only(gic: &mut Gicv3, register: u64) -> Verdict {
    expect_read_only(gic, register)
}

/// GICD_PIDR2 says GICv3 or GICv4.
#[case(spec = "IHI0069 12.9 GICD_PIDR2", needs("arm64.gicv3"))]
fn pidr2_states_version_3_or_4(gic: &mut Gicv3) -> Verdict {
    let version = gic.distributor().read32(gicd::V3_PIDR2) >> 4 & 0xf;
    note!("architecture version {version}");
    expect_eq!([3, 4].contains(&version), true, "version {version}")
}

/// A machine with PCI Express and a GICv3 has LPIs and an ITS (BSA B_GIC_03).
#[case(spec = "IHI0069 12.9 GICD_TYPER", needs("arm64.gicv3", "arm64.its"))]
fn its_comes_with_lpis(gic: &mut Gicv3) -> Verdict {
    let typer = gic.distributor().read32(gicd::TYPER);
    expect_eq!(typer >> 17 & 1, 1, "GICD_TYPER.LPIS")?;
    let bits = (typer >> 19 & 0x1f) + 1;
    expect_eq!(bits >= 14, true, "{bits} bits of INTID hold the first LPI")
}

/// The guest sees one security state, in which affinity routing cannot be turned off again.
#[case(spec = "IHI0069 12.9 GICD_CTLR", needs("arm64.gicv3"))]
fn one_security_state_is_visible(gic: &mut Gicv3) -> Verdict {
    let d = gic.distributor();
    let control = d.read32(gicd::CTLR);
    expect_eq!(control & gicd::ARE, gicd::ARE, "ARE")?;
    expect_eq!(
        d.read32(gicd::TYPER) >> 10 & 1,
        u32::from(control & gicd::DS == 0),
        "SecurityExtn"
    )
}

/// GICD_CTLR's group enables read back as written.
#[case(spec = "IHI0069 12.9 GICD_CTLR", needs("arm64.gicv3"))]
fn group_enables_read_back(gic: &mut Gicv3) -> Verdict {
    let d = gic.distributor();
    for groups in [0, 2, 0] {
        d.write32(gicd::CTLR, gicd::ARE | groups);
        time::wait_until(time::PATIENCE, || d.read32(gicd::CTLR) & gicd::RWP == 0);
        expect_eq!(d.read32(gicd::CTLR) & 3, groups)?;
    }
    Ok(())
}

/// Beyond the implemented interrupts, registers read as zero and ignore writes.
#[case(
    spec = "IHI0069 12.9",
    needs("arm64.gicv3"),
    rows(
        isenabler: (gicd::ISENABLER, 8),
        ispendr: (gicd::ISPENDR, 8),
        isactiver: (gicd::ISACTIVER, 8),
        igroupr: (gicd::IGROUPR, 8),
        ipriorityr: (gicd::IPRIORITYR, 1),
        icfgr: (gicd::ICFGR, 4),
    )
)]
fn beyond_the_last_interrupt_is_razwi(gic: &mut Gicv3, row: (u64, u64)) -> Verdict {
    let (bank, per_byte) = row;
    expect_razwi_beyond(gic, bank, per_byte)
}

/// With affinity routing the distributor's words of private interrupts are RAZ/WI: they live in the
/// redistributors.
#[case(
    spec = "IHI0069 12.9",
    needs("arm64.gicv3"),
    rows(
        isenabler0: gicd::ISENABLER,
        ispendr0: gicd::ISPENDR,
        isactiver0: gicd::ISACTIVER,
        igroupr0: gicd::IGROUPR,
        ipriorityr0: gicd::IPRIORITYR,
        icfgr0: gicd::ICFGR,
        icfgr1: gicd::ICFGR + 4,
    )
)]
fn private_bank_is_razwi(gic: &mut Gicv3, register: u64) -> Verdict {
    let d = gic.distributor();
    d.write32(register, !0);
    expect_eq!(d.read32(register), 0)?;
    // The frame that has them is not touched.
    gic.set_enabled(Intid::sgi(3), true);
    expect_eq!(gic.is_enabled(Intid::sgi(3)), true)
}

/// GICv2's registers for targets and SGIs are RAZ/WI under affinity routing.
#[case(
    spec = "IHI0069 12.9 GICD_ITARGETSR<n>",
    needs("arm64.gicv3"),
    rows(
        itargetsr: gicd::ITARGETSR + 64,
        cpendsgir: gicd::CPENDSGIR,
        spendsgir: gicd::SPENDSGIR,
    )
)]
fn replaced_register_is_razwi(gic: &mut Gicv3, register: u64) -> Verdict {
    gic.distributor().write32(register, !0);
    expect_eq!(gic.distributor().read32(register), 0)?;
    gic.set_enabled(Intid::sgi(0), true);
    expect_eq!(
        gic.acknowledge().intid(),
        Intid::SPURIOUS,
        "no SGI comes of it"
    )
}

/// GICD_SGIR sends nothing under affinity routing; ICC_SGI1R_EL1 does.
#[case(spec = "IHI0069 12.9 GICD_SGIR", needs("arm64.gicv3"))]
fn sgir_sends_nothing(gic: &mut Gicv3) -> Verdict {
    gic.set_enabled(Intid::sgi(2), true);
    gic.distributor().write32(gicd::SGIR, 2 << 24 | 2);
    gic.distributor().write32(gicd::SGIR, 0xff << 16 | 2);
    expect_eq!(gic.acknowledge().intid(), Intid::SPURIOUS)?;
    gic.send(2, Cpu::BOOT);
    let iar = gic.acknowledge();
    expect_eq!(iar.intid(), Intid::sgi(2))
}

/// Reserved offsets of the distributor read as zero and ignore writes.
#[case(
    spec = "IHI0069 12.9",
    needs("arm64.gicv3"),
    rows(at_0x30: 0x30, at_0x34: 0x34, at_0x60: 0x60, at_0xe00_beyond: 0x1100, at_0x5ffc: 0x5ffc)
)]
fn reserved_offset_is_razwi(gic: &mut Gicv3, offset: u64) -> Verdict {
    let d = gic.distributor();
    let read = fault::catch(|| d.read32(offset))?;
    expect_eq!(read, 0, "at first")?;
    fault::catch(|| d.write32(offset, !0))?;
    expect_eq!(d.read32(offset), 0, "after a write of ones")
}

/// The trigger of an SPI reads back as written.
#[case(spec = "IHI0069 12.9 GICD_ICFGR<n>", needs("arm64.gicv3"))]
fn spi_trigger_reads_back(gic: &mut Gicv3) -> Verdict {
    let word = gicd::ICFGR + 4 * 4;
    let d = gic.distributor();
    for value in [0xaaaa_aaaa, 0, 0x8888_2222, !0] {
        d.write32(word, value);
        expect_eq!(
            d.read32(word) & 0xaaaa_aaaa,
            value & 0xaaaa_aaaa,
            "after {value:#x}"
        )?;
    }
    Ok(())
}

/// Writing GICD_SETSPI_NSR raises the SPI that is written, where message-based SPIs exist.
#[case(spec = "IHI0069 12.9 GICD_SETSPI_NSR", needs("arm64.gicv3"))]
fn setspi_raises_an_spi_if_there_is_one(gic: &mut Gicv3) -> Verdict {
    let d = gic.distributor();
    let supported = d.read32(gicd::TYPER) >> 16 & 1 != 0;
    note!("message-based SPIs: {supported}");
    let intid = Intid::spi(45);
    gic.set_edge(intid, true);
    gic.set_enabled(intid, true);
    d.write32(gicd::SETSPI_NSR, intid.0);
    expect_eq!(gic.is_pending(intid), supported)
}

/// IROUTER names a processor that the device tree lists, for every SPI after the fixture wrote it.
#[case(spec = "IHI0069 12.9 GICD_IROUTER<n>", needs("arm64.gicv3"))]
fn irouter_keeps_an_affinity(gic: &mut Gicv3) -> Verdict {
    let d = gic.distributor();
    expect_eq!(platform::info().gic.version, 3)?;
    for n in 32..u64::from(gic.lines()) {
        let register = gicd::IROUTER + n * 8;
        let last = smp::mpidr(cpus::count() - 1);
        d.write64(register, last);
        expect_eq!(d.read64(register), last, "INTID {n}")?;
    }
    Ok(())
}
