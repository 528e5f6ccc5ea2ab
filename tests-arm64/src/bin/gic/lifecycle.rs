//! An interrupt's life: inactive, pending, active, and back. Spec: IHI0048 3.2, IHI0069 4.1.
//!
//! Interrupts are raised by register (ISPENDR, SGI), acknowledged by hand with IRQs masked, and ended.
//! At each step the registers must tell the state, and nothing may be delivered twice or lost.

use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use guest_lib::arch::gic::registers::gicd;
use guest_lib::arch::gic::{Gic, Iar, Intid};
use guest_lib::arch::registers::IsrEl1;
use guest_lib::prelude::*;

const SPI: Intid = Intid::spi(40);

/// Waits until the processor sees an interrupt, and acknowledges it. This processor raised it, and
/// looks once more after the wait, so a preempted machine is no late one.
fn take(gic: &Gic) -> Iar {
    time::wait_until(time::ms(250), || IsrEl1::read() & 0xc0 != 0);
    gic.acknowledge()
}

fn edge(gic: &Gic, intid: Intid) {
    gic.set_edge(intid, true);
    gic.set_enabled(intid, true);
}

/// With nothing pending, acknowledging gives 1023 and changes nothing.
#[case(spec = "IHI0069 4.1; IHI0048 4.4.4")]
fn nothing_pending_is_spurious(gic: &mut Gic) -> Verdict {
    expect_eq!(gic.acknowledge().intid(), Intid::SPURIOUS)?;
    expect_eq!(gic.running_priority(), 0xff)?;
    edge(gic, SPI);
    gic.set_pending(SPI, true);
    expect_eq!(take(gic).intid(), SPI)?;
    expect_eq!(gic.acknowledge().intid(), Intid::SPURIOUS, "a second time")
}

/// Every SPI, edge-triggered and level-sensitive, is acknowledged once with its own INTID.
#[case(spec = "IHI0069 4.1; IHI0048 3.2", rows(edge: true, level: false))]
fn every_spi_is_delivered_once(gic: &mut Gic, is_edge: bool) -> Verdict {
    for n in 32..gic.lines() {
        let intid = Intid(n);
        if gic.is_pending(intid) {
            // A device holds the line up; its interrupt is not ours to raise.
            continue;
        }
        gic.set_edge(intid, is_edge);
        gic.set_priority(intid, (n as u8) << 4 & 0x70 | 0x10);
        gic.set_enabled(intid, true);
        gic.set_pending(intid, true);
        let iar = take(gic);
        expect_eq!(iar.intid(), intid)?;
        expect_eq!(
            gic.acknowledge().intid(),
            Intid::SPURIOUS,
            "INTID {n} a second time"
        )?;
        gic.end(iar);
        gic.set_enabled(intid, false);
    }
    Ok(())
}

/// Every SGI and every PPI is acknowledged once with its own INTID, in both EOI modes.
#[case(
    spec = "IHI0069 4.1; IHI0048 3.2",
    rows(
        sgi_eoi_mode_0: (0, false),
        sgi_eoi_mode_1: (0, true),
        ppi_eoi_mode_0: (16, false),
        ppi_eoi_mode_1: (16, true),
    )
)]
fn every_private_interrupt_is_delivered_once(gic: &mut Gic, row: (u32, bool)) -> Verdict {
    let (first, split) = row;
    gic.set_split_end(split);
    for n in first..first + 16 {
        let intid = Intid(n);
        gic.set_enabled(intid, true);
        if !gic.is_enabled(intid) || gic.is_pending(intid) {
            // A PPI that the implementation does not have, or one that its device holds up.
            gic.set_enabled(intid, false);
            continue;
        }
        gic.set_pending(intid, true);
        let iar = take(gic);
        expect_eq!(iar.intid(), intid)?;
        gic.end(iar);
        if split {
            gic.deactivate(iar);
        }
        expect_eq!(gic.is_active(intid), false, "INTID {n} after its end")?;
        expect_eq!(
            gic.acknowledge().intid(),
            Intid::SPURIOUS,
            "INTID {n} a second time"
        )?;
        gic.set_enabled(intid, false);
    }
    Ok(())
}

/// Acknowledging makes an interrupt active and takes its pending state; ending it makes it inactive.
#[case(
    spec = "IHI0069 4.1; IHI0048 3.2.4",
    rows(sgi: Intid::sgi(5), ppi: Intid::ppi(6), spi: SPI)
)]
fn state_follows_the_cycle(gic: &mut Gic, intid: Intid) -> Verdict {
    if intid.0 >= 16 {
        gic.set_edge(intid, true);
    }
    gic.set_enabled(intid, true);
    let state = || (gic.is_pending(intid), gic.is_active(intid));
    expect_eq!(state(), (false, false), "(pending, active) at first")?;
    gic.set_pending(intid, true);
    expect_eq!(state(), (true, false), "(pending, active) when raised")?;
    let iar = take(gic);
    expect_eq!(iar.intid(), intid)?;
    expect_eq!(
        state(),
        (false, true),
        "(pending, active) when acknowledged"
    )?;
    gic.end(iar);
    expect_eq!(state(), (false, false), "(pending, active) when ended")
}

/// An interrupt that is raised again while active pends, and is delivered after the end.
#[case(spec = "IHI0069 4.1; IHI0048 3.2.4")]
fn active_and_pending_is_delivered_again(gic: &mut Gic) -> Verdict {
    edge(gic, SPI);
    gic.set_pending(SPI, true);
    let first = take(gic);
    gic.set_pending(SPI, true);
    expect_eq!(
        (gic.is_pending(SPI), gic.is_active(SPI)),
        (true, true),
        "(pending, active)"
    )?;
    expect_eq!(gic.acknowledge().intid(), Intid::SPURIOUS, "while active")?;
    gic.end(first);
    let second = take(gic);
    expect_eq!(second.intid(), SPI, "after the end")?;
    gic.end(second);
    expect_eq!(gic.acknowledge().intid(), Intid::SPURIOUS)
}

/// Raising an interrupt twice before it is taken delivers it once.
#[case(spec = "IHI0069 4.1; IHI0048 3.2.4")]
fn pending_does_not_count(gic: &mut Gic) -> Verdict {
    edge(gic, SPI);
    gic.set_pending(SPI, true);
    gic.set_pending(SPI, true);
    let iar = take(gic);
    expect_eq!(iar.intid(), SPI)?;
    gic.end(iar);
    expect_eq!(gic.acknowledge().intid(), Intid::SPURIOUS)
}

/// A pending interrupt that is cleared is not delivered.
#[case(spec = "IHI0069 12.9 GICD_ICPENDR<n>; IHI0048 4.3.8", rows(spi: SPI, ppi: Intid::ppi(6)))]
fn icpendr_takes_it_back(gic: &mut Gic, intid: Intid) -> Verdict {
    edge(gic, intid);
    gic.set_pending(intid, true);
    expect_eq!(gic.highest_pending(), intid)?;
    gic.set_pending(intid, false);
    expect_eq!(gic.is_pending(intid), false)?;
    expect_eq!(gic.acknowledge().intid(), Intid::SPURIOUS)?;
    gic.set_pending(intid, true);
    expect_eq!(take(gic).intid(), intid, "raised again")
}

/// A disabled interrupt pends and is not delivered; enabling it delivers it.
#[case(spec = "IHI0069 12.9 GICD_ISENABLER<n>; IHI0048 4.3.5", rows(spi: SPI, ppi: Intid::ppi(6)))]
fn disabled_interrupt_waits(gic: &mut Gic, intid: Intid) -> Verdict {
    gic.set_edge(intid, true);
    gic.set_pending(intid, true);
    expect_eq!(gic.is_pending(intid), true)?;
    expect_eq!(gic.acknowledge().intid(), Intid::SPURIOUS, "while disabled")?;
    gic.set_enabled(intid, true);
    expect_eq!(take(gic).intid(), intid, "when enabled")
}

/// The distributor's own enable bit gates every interrupt.
#[case(spec = "IHI0069 12.9 GICD_CTLR; IHI0048 4.3.1")]
fn distributor_enable_gates_delivery(gic: &mut Gic) -> Verdict {
    let control = gic.distributor().read32(gicd::CTLR);
    gic.distributor().write32(gicd::CTLR, control & !3);
    edge(gic, SPI);
    gic.set_pending(SPI, true);
    expect_eq!(
        gic.acknowledge().intid(),
        Intid::SPURIOUS,
        "with the distributor off"
    )?;
    gic.distributor().write32(gicd::CTLR, control);
    expect_eq!(take(gic).intid(), SPI, "with the distributor on")
}

/// An interrupt made active by register is not delivered until it is made inactive.
#[case(spec = "IHI0069 12.9 GICD_ISACTIVER<n>; IHI0048 4.3.9", rows(spi: SPI, ppi: Intid::ppi(6)))]
fn isactiver_blocks_delivery(gic: &mut Gic, intid: Intid) -> Verdict {
    edge(gic, intid);
    gic.set_active(intid, true);
    expect_eq!(gic.is_active(intid), true)?;
    gic.set_pending(intid, true);
    expect_eq!(gic.acknowledge().intid(), Intid::SPURIOUS, "while active")?;
    gic.set_active(intid, false);
    expect_eq!(take(gic).intid(), intid, "when inactive")
}

/// ICACTIVER ends an interrupt's active state in place of its end.
#[case(
    spec = "IHI0069 12.11 GICR_ICACTIVER0; IHI0048 4.3.10",
    rows(sgi: Intid::sgi(5), spi: SPI)
)]
fn icactiver_deactivates(gic: &mut Gic, intid: Intid) -> Verdict {
    gic.set_enabled(intid, true);
    gic.set_split_end(true);
    gic.set_pending(intid, true);
    let iar = take(gic);
    expect_eq!(gic.is_active(intid), true)?;
    gic.set_active(intid, false);
    expect_eq!(gic.is_active(intid), false)?;
    gic.end(iar);
    gic.set_pending(intid, true);
    let again = take(gic);
    expect_eq!(again.intid(), intid, "delivered again")?;
    gic.end(again);
    gic.deactivate(again);
    Ok(())
}

/// EOI mode 1: the end drops the priority and leaves the interrupt active until it is deactivated.
#[case(
    spec = "IHI0069 12.2 ICC_DIR_EL1; IHI0048 4.4.15",
    rows(sgi: Intid::sgi(5), spi: SPI)
)]
fn eoi_mode_1_needs_dir(gic: &mut Gic, intid: Intid) -> Verdict {
    gic.set_enabled(intid, true);
    gic.set_split_end(true);
    gic.set_pending(intid, true);
    let iar = take(gic);
    gic.end(iar);
    expect_eq!(
        gic.running_priority(),
        0xff,
        "running priority after the end"
    )?;
    expect_eq!(gic.is_active(intid), true, "active after the end")?;
    gic.set_pending(intid, true);
    expect_eq!(gic.acknowledge().intid(), Intid::SPURIOUS, "while active")?;
    gic.deactivate(iar);
    expect_eq!(gic.is_active(intid), false, "active after DIR")?;
    let again = take(gic);
    expect_eq!(again.intid(), intid)?;
    gic.end(again);
    gic.deactivate(again);
    Ok(())
}

/// EOI mode 0: the end does both.
#[case(spec = "IHI0069 12.2 ICC_EOIR1_EL1; IHI0048 4.4.5")]
fn eoi_mode_0_does_both(gic: &mut Gic) -> Verdict {
    edge(gic, SPI);
    gic.set_pending(SPI, true);
    let iar = take(gic);
    expect_ne!(gic.running_priority(), 0xff)?;
    gic.end(iar);
    expect_eq!(
        (gic.running_priority(), gic.is_active(SPI)),
        (0xff, false),
        "(priority, active)"
    )
}

/// An SPI that one processor acknowledged is deactivated by another.
#[case(spec = "IHI0069 12.2 ICC_DIR_EL1", needs("arm64.gicv3", "cpus>=2"))]
fn another_cpu_deactivates(gic: &mut Gic) -> Verdict {
    edge(gic, SPI);
    gic.set_split_end(true);
    gic.set_pending(SPI, true);
    let iar = take(gic);
    gic.end(iar);
    expect_eq!(gic.is_active(SPI), true)?;
    let gic = &*gic;
    cpus::run_on(Cpu(1), || {
        gic.init_cpu();
        gic.set_split_end(true);
        gic.deactivate(iar);
    })?;
    expect_eq!(gic.is_active(SPI), false)
}

/// Zeroes written to set and clear registers change nothing.
#[case(
    spec = "IHI0069 12.9; IHI0048 4.3.5",
    rows(
        isenabler: (gicd::ISENABLER, gicd::ISENABLER),
        icenabler: (gicd::ICENABLER, gicd::ISENABLER),
        ispendr: (gicd::ISPENDR, gicd::ISPENDR),
        icpendr: (gicd::ICPENDR, gicd::ISPENDR),
        isactiver: (gicd::ISACTIVER, gicd::ISACTIVER),
        icactiver: (gicd::ICACTIVER, gicd::ISACTIVER),
    )
)]
fn zeroes_change_nothing(gic: &mut Gic, row: (u64, u64)) -> Verdict {
    let (register, set) = row;
    // Word 2: SPIs 32 to 63, which no device of the machine uses in a lasting way.
    let at = |r: u64| r + 2 * 4;
    gic.distributor().write32(at(set), 0x0f0f_00f0);
    let before = gic.distributor().read32(at(set));
    expect_eq!(before & 0x0f0f_00f0, 0x0f0f_00f0, "bits that were set")?;
    gic.distributor().write32(at(register), 0);
    expect_eq!(gic.distributor().read32(at(set)), before)
}

/// Set and clear registers read as the same bits, and a clear takes only the bits that are written.
#[case(
    spec = "IHI0069 12.9; IHI0048 4.3.6",
    rows(
        enable: (gicd::ISENABLER, gicd::ICENABLER),
        pending: (gicd::ISPENDR, gicd::ICPENDR),
        active: (gicd::ISACTIVER, gicd::ICACTIVER),
    )
)]
fn set_and_clear_mirror(gic: &mut Gic, row: (u64, u64)) -> Verdict {
    let (set, clear) = (row.0 + 2 * 4, row.1 + 2 * 4);
    let d = gic.distributor();
    d.write32(set, 0xffff_0000);
    expect_eq!(
        (d.read32(set), d.read32(clear)),
        (0xffff_0000, 0xffff_0000),
        "(set, clear)"
    )?;
    d.write32(clear, 0x00ff_00ff);
    expect_eq!(
        (d.read32(set), d.read32(clear)),
        (0xff00_0000, 0xff00_0000),
        "(set, clear)"
    )
}

/// A WFI with IRQs masked ends when an SGI is pending.
#[case(spec = "DDI0487 D1.7 WFI", needs("cpus>=2"))]
fn sgi_ends_wfi(gic: &mut Gic) -> Verdict {
    let gic = &*gic;
    let rounds = AtomicU32::new(0);
    let woken = cpus::on_each([Cpu::BOOT, Cpu(1)].into_iter(), |cpu| {
        if cpu == Cpu::BOOT {
            for n in 0..300 {
                if !time::wait_until(time::PATIENCE, || rounds.load(SeqCst) > n * 2) {
                    return false;
                }
                gic.send(7, Cpu(1));
                time::wait_until(time::PATIENCE, || rounds.load(SeqCst) > n * 2 + 1);
            }
            return true;
        }
        gic.init_cpu();
        gic.set_enabled(Intid::sgi(7), true);
        for _ in 0..300 {
            // Ready: the SGI comes just before, during or after the WFI.
            rounds.fetch_add(1, SeqCst);
            let iar = loop {
                arch::cpu::wfi();
                let iar = gic.acknowledge();
                if !iar.is_spurious() {
                    break iar;
                }
            };
            gic.end(iar);
            rounds.fetch_add(1, SeqCst);
        }
        true
    })?;
    expect_eq!(woken, vec![true, true])?;
    expect_eq!(rounds.load(SeqCst), 600)
}
