//! GICv2 distributor registers. Spec: IHI0048 4.3.
//!
//! What a register says about the machine must be true, what is read-only must stay, and what lies
//! beyond the implemented interrupts must read as zero and ignore writes.

use crate::both::{expect_razwi_beyond, expect_read_only};
use guest_lib::arch::gic::registers::{gicc, gicd, v2m};
use guest_lib::arch::gic::{Gicv2, Intid};
use guest_lib::arch::mmio::Mmio;
use guest_lib::arch::platform;
use guest_lib::prelude::*;

/// GICD_TYPER.CPUNumber is the number of processors less one.
#[case(spec = "IHI0048 4.3.2 GICD_TYPER", needs("arm64.gicv2"))]
fn typer_counts_the_cpus(gic: &mut Gicv2) -> Verdict {
    let typer = gic.distributor().read32(gicd::TYPER);
    expect_eq!((typer >> 5 & 7) as usize + 1, cpus::count())
}

/// At most eight processors share a GICv2.
#[case(spec = "IHI0048 4.3.2 GICD_TYPER", needs("arm64.gicv2"))]
fn at_most_eight_cpus(gic: &mut Gicv2) -> Verdict {
    let interfaces = (gic.distributor().read32(gicd::TYPER) >> 5 & 7) + 1;
    expect_eq!((1..=8).contains(&cpus::count()), true)?;
    expect_eq!(interfaces as usize >= cpus::count(), true)
}

/// Read-only registers keep their value whatever is written.
#[case(
    spec = "IHI0048 4.3.2",
    needs("arm64.gicv2"),
    rows(typer: gicd::TYPER, iidr: gicd::IIDR, pidr2: gicd::V2_PIDR2)
)]
fn register_is_read_only(gic: &mut Gicv2, register: u64) -> Verdict {
    expect_read_only(gic, register)
}

/// ICPIDR2 says GICv2.
#[case(spec = "IHI0048 4.3.18 ICPIDR2", needs("arm64.gicv2"))]
fn pidr2_states_version_2(gic: &mut Gicv2) -> Verdict {
    expect_eq!(gic.distributor().read32(gicd::V2_PIDR2) >> 4 & 0xf, 2)
}

/// GICC_IIDR says GICv2.
#[case(spec = "IHI0048 4.4.5 GICC_IIDR", needs("arm64.gicv2"))]
fn cpu_interface_states_version_2(gic: &mut Gicv2) -> Verdict {
    expect_eq!(gic.cpu_interface().read32(gicc::IIDR) >> 16 & 0xf, 2)
}

/// Beyond the implemented interrupts, registers read as zero and ignore writes.
#[case(
    spec = "IHI0048 4.3.5",
    needs("arm64.gicv2"),
    rows(
        isenabler: (gicd::ISENABLER, 8),
        ispendr: (gicd::ISPENDR, 8),
        isactiver: (gicd::ISACTIVER, 8),
        igroupr: (gicd::IGROUPR, 8),
        ipriorityr: (gicd::IPRIORITYR, 1),
        itargetsr: (gicd::ITARGETSR, 1),
        icfgr: (gicd::ICFGR, 4),
    )
)]
fn beyond_the_last_interrupt_is_razwi(gic: &mut Gicv2, row: (u64, u64)) -> Verdict {
    let (bank, per_byte) = row;
    expect_razwi_beyond(gic, bank, per_byte)
}

/// SGIs are always enabled or can be, and their configuration is fixed as edge-triggered.
#[case(spec = "IHI0048 4.3.13 GICD_ICFGR0", needs("arm64.gicv2"))]
fn sgis_are_edge_triggered(gic: &mut Gicv2) -> Verdict {
    let d = gic.distributor();
    expect_eq!(d.read32(gicd::ICFGR) & 0xaaaa_aaaa, 0xaaaa_aaaa)?;
    d.write32(gicd::ICFGR, 0);
    expect_eq!(
        d.read32(gicd::ICFGR) & 0xaaaa_aaaa,
        0xaaaa_aaaa,
        "after a write of zero"
    )
}

/// Registers of private interrupts are banked: what one processor writes, another does not see.
#[case(
    spec = "IHI0048 4.3.5",
    needs("arm64.gicv2", "cpus>=2"),
    rows(
        isenabler: (gicd::ISENABLER, 1 << 22),
        ispendr: (gicd::ISPENDR, 1 << 22),
        isactiver: (gicd::ISACTIVER, 1 << 22),
        ipriorityr: (gicd::IPRIORITYR + 20, 0x0050_0000),
    )
)]
fn private_registers_are_banked(gic: &mut Gicv2, row: (u64, u32)) -> Verdict {
    let (register, value) = row;
    let (gic, d) = (&*gic, gic.distributor());
    let before = cpus::run_on(Cpu(1), || {
        gic.init_cpu();
        d.read32(register)
    })?;
    d.write32(register, value);
    expect_eq!(d.read32(register) & value, value, "as written here")?;
    let there = cpus::run_on(Cpu(1), || d.read32(register))?;
    expect_eq!(there, before, "on the other processor")
}

/// A GICv2m frame names SPIs of the GIC, and writing one to it raises that SPI.
#[case(spec = "IHI0048 3.2", needs("arm64.gicv2"))]
fn v2m_frame_raises_its_spis(gic: &mut Gicv2) -> Verdict {
    let base = platform::info().gic.v2m;
    if base == 0 {
        // BSA B_GIC_02 asks for a frame only where there is PCI Express.
        return expect_eq!(
            platform::info().has_pcie,
            false,
            "PCI Express without an MSI frame"
        );
    }
    let frame = Mmio::new(base);
    let typer = frame.read32(v2m::MSI_TYPER);
    let (first, count) = (typer >> 16 & 0x3ff, typer & 0x3ff);
    note!("SPIs {first} to {}", first + count - 1);
    expect_eq!(
        first >= 32 && first + count <= gic.lines(),
        true,
        "within the GIC"
    )?;
    for n in [first, first + count - 1] {
        gic.set_edge(Intid(n), true);
        gic.set_enabled(Intid(n), true);
        frame.write32(v2m::MSI_SETSPI_NS, n);
        let pending = time::wait_until(time::PATIENCE, || gic.is_pending(Intid(n)));
        expect_eq!(pending, true, "SPI {n}")?;
        let iar = gic.acknowledge();
        expect_eq!(iar.intid(), Intid(n))?;
        gic.end(iar);
    }
    frame.write32(v2m::MSI_SETSPI_NS, first - 1);
    expect_eq!(
        gic.is_pending(Intid(first - 1)),
        false,
        "an SPI outside the frame"
    )
}
