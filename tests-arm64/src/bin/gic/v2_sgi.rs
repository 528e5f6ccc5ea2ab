//! GICv2 software generated interrupts. Spec: IHI0048 4.3.15 to 4.3.17.
//!
//! GICD_SGIR names its targets by a list, as all others or as the sender itself. The receiver learns who
//! sent it, and an SGI pends once per sender.

use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use guest_lib::arch::gic::registers::gicd;
use guest_lib::arch::gic::{Gicv2, Iar, Intid};
use guest_lib::prelude::*;

const SGI: u32 = 1;

/// Writes `value` to GICD_SGIR here while all processors take SGIs; how often each took it.
fn received(gic: &Gicv2, value: u32) -> Result<Vec<u32>, Stop> {
    let counts = [const { AtomicU32::new(0) }; 8];
    let strange = AtomicU32::new(0);
    let sent = AtomicU32::new(0);
    let ready = AtomicU32::new(0);
    cpus::on_all(|cpu| {
        if cpu != Cpu::BOOT {
            gic.init_cpu();
        }
        gic.set_enabled(Intid::sgi(SGI), true);
        let seen = |iar: Iar| {
            if iar.intid() != Intid::sgi(SGI) || iar.sender() != 0 {
                strange.fetch_add(1, SeqCst);
            }
            counts[cpu.0].fetch_add(1, SeqCst);
        };
        gic.taking(&seen, || {
            ready.fetch_add(1, SeqCst);
            if cpu == Cpu::BOOT {
                let all = || ready.load(SeqCst) as usize == cpus::count();
                time::wait_until(time::PATIENCE, all);
                gic.distributor().write32(gicd::SGIR, value);
                sent.store(1, SeqCst);
            }
            time::wait_until(time::PATIENCE, || sent.load(SeqCst) == 1);
            time::wait_until(time::ms(2), || counts[cpu.0].load(SeqCst) > 0);
            time::spin(time::us(300));
        })
    })?;
    // A slow one may still have it pending; nothing is lost by waiting for it.
    expect_eq!(strange.load(SeqCst), 0, "SGIs with a wrong INTID or sender")?;
    Ok(counts[..cpus::count()]
        .iter()
        .map(|c| c.load(SeqCst))
        .collect())
}

fn expect_targets(gic: &Gicv2, value: u32, is_target: impl Fn(usize) -> bool) -> Verdict {
    for round in 0..3 {
        let got = received(gic, value)?;
        let expected: Vec<u32> = (0..cpus::count())
            .map(|i| u32::from(is_target(i)))
            .collect();
        expect_eq!(got, expected, "SGIs per CPU in round {round}")?;
    }
    Ok(())
}

/// Filter 2 sends to the sender alone.
#[case(spec = "IHI0048 4.3.15 GICD_SGIR", needs("arm64.gicv2"))]
fn self_filter_reaches_the_sender(gic: &mut Gicv2) -> Verdict {
    expect_targets(gic, 2 << 24 | SGI, |i| i == 0)
}

/// Filter 0 sends to the processors of the list.
#[case(spec = "IHI0048 4.3.15 GICD_SGIR", needs("arm64.gicv2", "cpus>=2"))]
fn list_reaches_its_targets(gic: &mut Gicv2) -> Verdict {
    expect_targets(gic, 0xaa << 16 | SGI, |i| i % 2 == 1)
}

/// Filter 1 sends to all processors but the sender.
#[case(spec = "IHI0048 4.3.15 GICD_SGIR", needs("arm64.gicv2", "cpus>=2"))]
fn others_filter_spares_the_sender(gic: &mut Gicv2) -> Verdict {
    expect_targets(gic, 1 << 24 | SGI, |i| i != 0)
}

/// GICC_IAR names the sender.
#[case(spec = "IHI0048 4.4.4 GICC_IAR", needs("arm64.gicv2", "cpus>=2"))]
fn iar_names_the_sender(gic: &mut Gicv2) -> Verdict {
    gic.set_enabled(Intid::sgi(SGI), true);
    let gic = &*gic;
    for sender in cpus::others() {
        cpus::run_on(sender, || {
            gic.init_cpu();
            gic.send(SGI, Cpu::BOOT);
        })?;
        let iar = gic.acknowledge();
        expect_eq!(iar.intid(), Intid::sgi(SGI))?;
        expect_eq!(iar.sender(), sender.0 as u64)?;
        gic.end(iar);
    }
    Ok(())
}

/// One SGI from each of several senders pends once per sender.
#[case(
    spec = "IHI0048 4.3.17 GICD_SPENDSGIR",
    needs("arm64.gicv2", "cpus>=3")
)]
fn sgi_pends_once_per_sender(gic: &mut Gicv2) -> Verdict {
    gic.set_enabled(Intid::sgi(SGI), true);
    let gic = &*gic;
    for sender in cpus::others() {
        cpus::run_on(sender, || {
            gic.init_cpu();
            gic.send(SGI, Cpu::BOOT);
            gic.send(SGI, Cpu::BOOT);
        })?;
    }
    let mut senders = Vec::new();
    loop {
        let iar = gic.acknowledge();
        if iar.is_spurious() {
            break;
        }
        senders.push(iar.sender() as usize);
        gic.end(iar);
    }
    senders.sort_unstable();
    expect_eq!(senders, (1..cpus::count()).collect::<Vec<_>>())
}

/// GICD_SPENDSGIR makes an SGI pending for a sender, GICD_CPENDSGIR takes it back.
#[case(spec = "IHI0048 4.3.16 GICD_CPENDSGIR", needs("arm64.gicv2"))]
fn pending_state_of_sgis_is_per_sender(gic: &mut Gicv2) -> Verdict {
    let d = gic.distributor();
    let (set, clear) = (
        gicd::SPENDSGIR + u64::from(SGI),
        gicd::CPENDSGIR + u64::from(SGI),
    );
    d.write8(set, 1);
    expect_eq!(
        (d.read8(set), d.read8(clear)),
        (1, 1),
        "(set, clear) after a set"
    )?;
    d.write8(clear, 1);
    expect_eq!(
        (d.read8(set), d.read8(clear)),
        (0, 0),
        "(set, clear) after a clear"
    )?;
    gic.set_enabled(Intid::sgi(SGI), true);
    expect_eq!(gic.acknowledge().intid(), Intid::SPURIOUS)
}
