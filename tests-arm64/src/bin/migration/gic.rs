//! The GICv3's distributor, redistributors and CPU interfaces. Spec: IHI0069 12.
//!
//! Software sets most of this once and believes it for ever. What is pending, active or masked when
//! the machine stops must be so when it goes on.

use guest_lib::arch::gic::{Gic, Gicv3, Intid};
use guest_lib::arch::registers::{IccBpr1El1, IccCtlrEl1, IccIgrpen1El1, IccPmrEl1};
use guest_lib::arch::{psci, smp};
use guest_lib::prelude::*;
use guest_lib::service::{self, Request};

const SGI: Intid = Intid::sgi(5);
const PPI: Intid = Intid::ppi(4);
const SPI: Intid = Intid::spi(40);

/// What the registers say of an interrupt: enabled, pending, active, priority.
fn state(gic: &Gic, intid: Intid) -> (bool, bool, bool, u8) {
    let (enabled, pending) = (gic.is_enabled(intid), gic.is_pending(intid));
    (enabled, pending, gic.is_active(intid), gic.priority(intid))
}

/// An interrupt's enable, pending and active bits and its priority stay, set and clear.
#[case(
    spec = "IHI0069 12.9",
    needs("service.migrate"),
    rows(sgi: SGI, ppi: PPI, spi: SPI)
)]
fn interrupt_keeps_its_state(gic: &mut Gicv3, intid: Intid) -> Verdict {
    // The next one has the opposite of everything.
    let other = Intid(intid.0 + 1);
    gic.set_mask(0);
    gic.set_priority(intid, 0x60);
    gic.set_enabled(intid, true);
    gic.set_pending(intid, true);
    gic.set_active(intid, true);
    gic.set_priority(other, 0x90);
    gic.set_enabled(other, false);
    let before = (state(gic, intid), state(gic, other));
    let moved = service::ask(Request::Migrate);
    let after = (state(gic, intid), state(gic, other));
    moved?;
    expect_eq!(
        after,
        before,
        "enabled, pending, active, priority; of it and its neighbour"
    )?;
    expect_eq!(after.0, (true, true, true, 0x60), "control")
}

/// Every shared interrupt keeps its route, its trigger and its group.
#[case(
    spec = "IHI0069 12.9 GICD_IROUTER<n>",
    needs("service.migrate", "cpus>=2")
)]
fn routes_stay(gic: &mut Gicv3) -> Verdict {
    let lines = u64::from(gic.lines());
    for n in 32..lines {
        let intid = Intid(n as u32);
        gic.route(intid, Cpu(n as usize % cpus::count()));
        gic.set_edge(intid, n % 3 == 0);
        gic.set_priority(intid, (n as u8) << 3);
    }
    let d = gic.distributor();
    let all = || -> Vec<u64> {
        let routes = (32..lines).map(|n| d.read64(0x6000 + 8 * n));
        let words = |base: u64, per_word: u64| {
            (32 / per_word..lines / per_word).map(move |i| u64::from(d.read32(base + 4 * i)))
        };
        let (triggers, groups, priorities) = (words(0xc00, 16), words(0x80, 32), words(0x400, 4));
        routes
            .chain(triggers)
            .chain(groups)
            .chain(priorities)
            .collect()
    };
    let before = all();
    let moved = service::ask(Request::Migrate);
    let after = all();
    moved?;
    let wrong = after.iter().zip(&before).position(|(a, b)| a != b);
    expect_eq!(
        wrong,
        None,
        "the first of {} values that changed",
        before.len()
    )?;
    expect_eq!(
        before.iter().filter(|v| **v != 0).count() > 64,
        true,
        "control"
    )
}

fn pending_once(gic: &Gic, intid: Intid, request: Request) -> Verdict {
    gic.set_enabled(intid, true);
    if !intid.is_private() {
        gic.route(intid, Cpu::BOOT);
        gic.set_edge(intid, true);
    }
    match intid.0 {
        0..16 => gic.send(intid.0, Cpu::BOOT),
        _ => gic.set_pending(intid, true),
    }
    expect_eq!(gic.highest_pending(), intid, "before")?;
    service::ask(request)?;
    expect_eq!(gic.highest_pending(), intid, "after")?;
    let iar = gic.acknowledge();
    if !iar.is_spurious() {
        gic.end(iar);
    }
    expect_eq!(iar.intid(), intid)?;
    expect!(gic.acknowledge().is_spurious(), "a second time")
}

/// An interrupt that is pending is taken after the move, once.
#[case(
    spec = "IHI0069 4.1.2",
    needs("service.migrate"),
    rows(sgi: SGI, ppi: PPI, spi: SPI)
)]
fn pending_interrupt_is_taken_once(gic: &mut Gicv3, intid: Intid) -> Verdict {
    pending_once(gic, intid, Request::Migrate)
}

/// The same in a machine that was saved and restored.
#[case(
    spec = "IHI0069 4.1.2",
    needs("service.save_restore"),
    rows(sgi: SGI, ppi: PPI, spi: SPI)
)]
fn saved_interrupt_is_taken_once(gic: &mut Gicv3, intid: Intid) -> Verdict {
    pending_once(gic, intid, Request::SaveRestore)
}

/// An interrupt that is being handled stays active and holds back those of lower priority until
/// its end.
#[case(spec = "IHI0069 4.8", needs("service.migrate"))]
fn active_interrupt_holds_back_others(gic: &mut Gicv3) -> Verdict {
    gic.set_priority(SPI, 0x40);
    gic.set_priority(SGI, 0x80);
    for intid in [SPI, SGI] {
        gic.set_enabled(intid, true);
    }
    gic.set_edge(SPI, true);
    gic.route(SPI, Cpu::BOOT);
    gic.set_pending(SPI, true);
    let iar = gic.acknowledge();
    expect_eq!(iar.intid(), SPI)?;
    gic.send(SGI.0, Cpu::BOOT);
    let before = gic.running_priority();
    let moved = service::ask(Request::Migrate);
    let (running, active) = (gic.running_priority(), gic.is_active(SPI));
    let early = gic.acknowledge();
    gic.end(iar);
    let inactive = !gic.is_active(SPI);
    let late = gic.acknowledge();
    gic.end(late);
    moved?;
    expect_eq!(
        (running, active),
        (before, true),
        "running priority, active bit"
    )?;
    expect!(early.is_spurious(), "one of lower priority came: {early:?}")?;
    expect!(inactive, "it is still active after its end")?;
    expect_eq!(late.intid(), SGI, "after the end")
}

/// The CPU interface keeps its mask, binary point, group enable and EOI mode, on each processor its
/// own.
#[case(spec = "IHI0069 12.2", needs("service.migrate", "cpus>=2"))]
fn cpu_interface_keeps_its_settings(gic: &mut Gicv3) -> Verdict {
    let all = || {
        let (pmr, bpr) = (IccPmrEl1::read(), IccBpr1El1::read());
        [pmr, bpr, IccIgrpen1El1::read(), IccCtlrEl1::read()]
    };
    let before = cpus::on_all(|cpu| {
        if cpu != Cpu::BOOT {
            gic.init_cpu();
        }
        IccPmrEl1::write(0x50 + 0x10 * cpu.0 as u64);
        IccBpr1El1::write(4 + cpu.0 as u64);
        gic.set_split_end(cpu.0 % 2 == 1);
        all()
    })?;
    let moved = service::ask(Request::Migrate);
    let after = cpus::on_all(|_| {
        let after = all();
        IccPmrEl1::write(0xff);
        IccBpr1El1::write(0);
        gic.set_split_end(false);
        after
    })?;
    moved?;
    expect_eq!(after, before, "PMR, BPR1, IGRPEN1, CTLR of each processor")?;
    expect_ne!(after[0], after[1], "control")
}

/// An SGI that waits at another processor's redistributor is taken there after the move.
#[case(
    spec = "IHI0069 12.2 ICC_SGI1R_EL1",
    needs("service.migrate", "cpus>=2")
)]
fn sgi_waits_at_the_other_processor(gic: &mut Gicv3) -> Verdict {
    let gic: &Gic = gic;
    cpus::run_on(Cpu(1), || {
        gic.init_cpu();
        gic.set_enabled(SGI, true);
    })?;
    gic.send(SGI.0, Cpu(1));
    service::ask(Request::Migrate)?;
    expect!(
        gic.acknowledge().is_spurious(),
        "it came to the boot processor"
    )?;
    let taken = cpus::run_on(Cpu(1), || {
        let iar = gic.acknowledge();
        gic.end(iar);
        (iar.intid(), gic.acknowledge().is_spurious())
    })?;
    expect_eq!(taken, (SGI, true), "what CPU 1 took, and nothing more")
}

/// A processor that is off stays off, also when an interrupt is sent to it, and can be turned on.
#[case(
    spec = "DEN0022 5.5 CPU_OFF",
    needs("service.migrate", "arm64.psci", "cpus>=2")
)]
fn processor_that_is_off_stays_off(gic: &mut Gicv3) -> Verdict {
    let info = || psci::affinity_info(smp::mpidr(1), 0);
    expect_eq!(cpus::run_on(Cpu(1), cpus::this)?, Cpu(1))?;
    expect_eq!(info(), 0, "while it runs")?;
    cpus::park_all().map_err(|c| Failure::new(format!("{c:?} stays on")))?;
    expect_eq!(info(), 1, "before the move")?;
    service::ask(Request::Migrate)?;
    gic.send(SGI.0, Cpu(1));
    time::spin(time::ms(5));
    expect_eq!(info(), 1, "after the move")?;
    expect_eq!(cpus::run_on(Cpu(1), cpus::this)?, Cpu(1), "turned on again")
}
