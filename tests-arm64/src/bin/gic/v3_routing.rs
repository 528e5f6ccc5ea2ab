//! Where an SPI goes: GICD_IROUTER. Spec: IHI0069 12.9 GICD_IROUTER<n>.
//!
//! 64 bits name one processor by its affinity, or with bit 31 any one. Hypervisors keep the route in a
//! form of their own and must give back what was written, by words of 32 bits too.

use crate::both::{expect_one_handler, expect_to_follow_its_route, ready, take};
use guest_lib::arch::gic::registers::gicd;
use guest_lib::arch::gic::{Gicv3, Intid};
use guest_lib::arch::smp;
use guest_lib::prelude::*;

const SPI: Intid = Intid::spi(70);
const IRM: u64 = 1 << 31;

fn router() -> u64 {
    gicd::IROUTER + u64::from(SPI.0) * 8
}

/// An SPI goes to the processor that IROUTER names, and to no other.
#[case(spec = "IHI0069 12.9 GICD_IROUTER<n>", needs("arm64.gicv3", "cpus>=2"))]
fn spi_goes_to_the_named_cpu(gic: &mut Gicv3) -> Verdict {
    expect_to_follow_its_route(gic, SPI)
}

/// A pending SPI follows a change of its route.
#[case(spec = "IHI0069 12.9 GICD_IROUTER<n>", needs("arm64.gicv3", "cpus>=2"))]
fn pending_spi_follows_its_route(gic: &mut Gicv3) -> Verdict {
    let gic = &*gic;
    ready(gic, SPI)?;
    gic.set_pending(SPI, true);
    expect_eq!(gic.highest_pending(), SPI, "here at first")?;
    gic.route(SPI, Cpu(1));
    expect_eq!(
        gic.acknowledge().intid(),
        Intid::SPURIOUS,
        "here after the change"
    )?;
    expect_eq!(cpus::run_on(Cpu(1), || take(gic))?, SPI)
}

/// An SPI routed to any processor is handled by exactly one.
#[case(spec = "IHI0069 12.9 GICD_IROUTER<n>", needs("arm64.gicv3", "cpus>=2"))]
fn any_cpu_route_reaches_exactly_one(gic: &mut Gicv3) -> Verdict {
    let gic = &*gic;
    if gic.distributor().read32(gicd::TYPER) >> 25 & 1 != 0 {
        // GICD_TYPER.No1N: there is no such route.
        return skip("arm64.gic_1_of_n");
    }
    ready(gic, SPI)?;
    gic.distributor().write64(router(), IRM);
    expect_eq!(
        gic.distributor().read64(router()) & IRM,
        IRM,
        "IRM reads back"
    )?;
    expect_one_handler(gic, SPI)
}

/// Both halves of IROUTER can be written and read alone.
#[case(spec = "IHI0069 12.9 GICD_IROUTER<n>", needs("arm64.gicv3"))]
fn halves_are_accessible(gic: &mut Gicv3) -> Verdict {
    let d = gic.distributor();
    let target = smp::mpidr(cpus::count() - 1);
    d.write64(router(), 0);
    d.write32(router(), target as u32);
    d.write32(router() + 4, (target >> 32) as u32);
    expect_eq!(d.read64(router()), target, "as written by halves")?;
    let halves = (d.read32(router()), d.read32(router() + 4));
    expect_eq!(
        halves,
        (target as u32, (target >> 32) as u32),
        "as read by halves"
    )
}

/// An SPI that is routed to no existing processor reaches nobody, and is delivered when the route is
/// mended.
#[case(spec = "IHI0069 12.9 GICD_IROUTER<n>", needs("arm64.gicv3"))]
fn absent_cpu_gets_nothing(gic: &mut Gicv3) -> Verdict {
    ready(gic, SPI)?;
    gic.distributor().write64(router(), 0xfe_00fe_fe0f);
    gic.set_pending(SPI, true);
    expect_eq!(gic.acknowledge().intid(), Intid::SPURIOUS)?;
    gic.route(SPI, Cpu::BOOT);
    expect_eq!(gic.acknowledge().intid(), SPI, "mended")
}
