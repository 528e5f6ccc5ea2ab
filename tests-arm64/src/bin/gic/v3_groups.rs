//! Interrupt groups and the CPU interface's system registers. Spec: IHI0069 4.6, 12.2.
//!
//! With one security state a guest has group 0 as FIQ and group 1 as IRQ. Group 0 is hardly ever used, so
//! its gating and its registers are easily wrong.

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use guest_lib::arch::fault::{Frame, Vector};
use guest_lib::arch::gic::registers::gicd;
use guest_lib::arch::gic::{Gicv3, Intid};
use guest_lib::arch::interrupts;
use guest_lib::arch::registers::*;
use guest_lib::prelude::*;

const SGI: Intid = Intid::sgi(8);
const SPI: Intid = Intid::spi(50);

/// The GIC with `intid` in group 0, enabled and pending.
fn group_0(gic: &Gicv3, intid: Intid) -> Verdict {
    let d = gic.distributor();
    if d.read32(gicd::CTLR) & gicd::DS == 0 {
        // Two security states: group 0 belongs to the other one.
        return skip("arm64.gic_one_security_state");
    }
    d.write32(gicd::CTLR, d.read32(gicd::CTLR) | gicd::ENABLE_GRP0);
    gic.set_group1(intid, false);
    if !intid.is_private() {
        gic.set_edge(intid, true);
    }
    gic.set_enabled(intid, true);
    gic.set_pending(intid, true);
    Ok(())
}

/// ICC_SRE_EL1.SRE is set, and stays set.
#[case(spec = "IHI0069 12.2 ICC_SRE_EL1", needs("arm64.gicv3"))]
fn system_registers_are_enabled(_gic: &mut Gicv3) -> Verdict {
    expect_eq!(IccSreEl1::read() & 1, 1)
}

/// A group 0 interrupt waits while IGRPEN0 is clear, and no acknowledge register gives it.
#[case(
    spec = "IHI0069 12.2 ICC_IGRPEN0_EL1",
    needs("arm64.gicv3"),
    rows(sgi: SGI, spi: SPI)
)]
fn group_0_waits_for_its_enable(gic: &mut Gicv3, intid: Intid) -> Verdict {
    group_0(gic, intid)?;
    IccIgrpen0El1::write(0);
    expect_eq!(IccIar0El1::read(), 1023, "ICC_IAR0_EL1 while disabled")?;
    expect_eq!(IccIar1El1::read(), 1023, "ICC_IAR1_EL1 while disabled")?;
    expect_eq!(gic.is_pending(intid), true)?;
    IccIgrpen0El1::write(1);
    let taken = IccIar0El1::read();
    IccEoir0El1::write(taken);
    expect_eq!(taken, intid.0.into(), "ICC_IAR0_EL1 when enabled")
}

/// A group 0 interrupt is signalled as FIQ.
#[case(spec = "IHI0069 4.6", needs("arm64.gicv3"), rows(sgi: SGI, spi: SPI))]
fn group_0_is_a_fiq(gic: &mut Gicv3, intid: Intid) -> Verdict {
    group_0(gic, intid)?;
    IccIgrpen0El1::write(1);
    let (seen, vector) = (AtomicU64::new(0), AtomicU64::new(0));
    let handler = |frame: &mut Frame| {
        let iar = IccIar0El1::read();
        seen.store(iar, SeqCst);
        vector.store(frame.vector.0, SeqCst);
        IccEoir0El1::write(iar);
    };
    interrupts::with_fiq_handler(&handler, || {
        interrupts::unmask_fiq();
        time::wait_until(time::PATIENCE, || vector.load(SeqCst) != 0);
        interrupts::mask_fiq();
    });
    expect_eq!(seen.load(SeqCst), intid.0.into(), "ICC_IAR0_EL1")?;
    expect_eq!(Vector(vector.load(SeqCst)), Vector::SPX_FIQ)
}

/// A group 1 interrupt waits while IGRPEN1 is clear.
#[case(
    spec = "IHI0069 12.2 ICC_IGRPEN1_EL1",
    needs("arm64.gicv3"),
    rows(sgi: SGI, spi: SPI)
)]
fn group_1_waits_for_its_enable(gic: &mut Gicv3, intid: Intid) -> Verdict {
    IccIgrpen1El1::write(0);
    if !intid.is_private() {
        gic.set_edge(intid, true);
    }
    gic.set_enabled(intid, true);
    gic.set_pending(intid, true);
    expect_eq!(gic.acknowledge().intid(), Intid::SPURIOUS, "while disabled")?;
    IccIgrpen1El1::write(1);
    expect_eq!(gic.acknowledge().intid(), intid, "when enabled")
}

/// A group 1 interrupt is not given by the acknowledge register of group 0.
#[case(spec = "IHI0069 12.2 ICC_IAR0_EL1", needs("arm64.gicv3"))]
fn group_1_is_not_acknowledged_as_group_0(gic: &mut Gicv3) -> Verdict {
    gic.set_enabled(SGI, true);
    gic.set_pending(SGI, true);
    IccIgrpen0El1::write(1);
    expect_eq!(IccIar0El1::read(), 1023, "ICC_IAR0_EL1")?;
    expect_eq!(IccHppir0El1::read(), 1023, "ICC_HPPIR0_EL1")?;
    expect_eq!(gic.highest_pending(), SGI, "ICC_HPPIR1_EL1")?;
    expect_eq!(gic.acknowledge().intid(), SGI, "ICC_IAR1_EL1")
}

/// Active priorities follow acknowledge and end.
#[case(spec = "IHI0069 12.2 ICC_AP1R<n>_EL1", needs("arm64.gicv3"))]
fn active_priorities_follow_the_cycle(gic: &mut Gicv3) -> Verdict {
    expect_eq!(IccAp1r0El1::read(), 0, "at first")?;
    gic.set_enabled(SGI, true);
    gic.set_pending(SGI, true);
    let iar = gic.acknowledge();
    expect_eq!(IccAp1r0El1::read().count_ones(), 1, "bits while active")?;
    expect_eq!(IccAp0r0El1::read(), 0, "group 0")?;
    gic.end(iar);
    expect_eq!(IccAp1r0El1::read(), 0, "after the end")
}

/// ICC_CTLR_EL1.EOImode reads back as written; its read-only fields stay.
#[case(spec = "IHI0069 12.2 ICC_CTLR_EL1", needs("arm64.gicv3"))]
fn control_keeps_its_fields(_gic: &mut Gicv3) -> Verdict {
    let before = IccCtlrEl1::read();
    IccCtlrEl1::write(before | 2);
    expect_eq!(IccCtlrEl1::read() & 2, 2, "EOImode")?;
    IccCtlrEl1::write(before ^ 0x7_ff00);
    expect_eq!(
        IccCtlrEl1::read() & 0xff00,
        before & 0xff00,
        "PRIbits, IDbits, SEIS, A3V"
    )?;
    IccCtlrEl1::write(before);
    expect_eq!(IccCtlrEl1::read(), before)
}
