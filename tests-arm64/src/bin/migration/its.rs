//! The Interrupt Translation Service and LPIs. Spec: IHI0069 5.
//!
//! Mappings lie partly in memory, partly in the ITS; what is pending lies in the redistributors
//! and in their pending tables. All of it has to arrive, and to agree.

use guest_lib::arch::gic::its::{FIRST_LPI, Its, set_config};
use guest_lib::arch::gic::{Intid, PRIORITY};
use guest_lib::prelude::*;
use guest_lib::service::{self, Request};

const DEVICE: u32 = 2;
const ENABLED: u8 = PRIORITY | 1;
/// LPIs that are pending at the same time.
const MANY: u32 = 16;

/// Maps event `n` of the device to the nth LPI, enabled, on `cpu`.
fn map(its: &mut Its, cpu: Cpu, events: u32) -> Verdict {
    its.map_device(DEVICE, 8)?;
    its.map_collection(3, Some(cpu))?;
    for n in 0..events {
        set_config(Intid(FIRST_LPI + n), ENABLED);
        its.map_event(DEVICE, n, Intid(FIRST_LPI + n), 3)?;
        its.invalidate(DEVICE, n);
    }
    its.sync(cpu);
    its.flush()
}

fn raise(its: &mut Its, cpu: Cpu, event: u32) -> Verdict {
    its.raise(DEVICE, event);
    its.sync(cpu);
    its.flush()
}

/// What `cpu` acknowledges and ends until there is nothing more.
fn taken(its: &Its, cpu: Cpu) -> Result<Vec<u32>, Stop> {
    let gic = &its.gic;
    cpus::run_on(cpu, || {
        if cpu != Cpu::BOOT {
            gic.init_cpu();
        }
        let mut all = Vec::new();
        for _ in 0..64 {
            let iar = gic.acknowledge();
            if iar.is_spurious() {
                break;
            }
            gic.end(iar);
            all.push(iar.intid().0);
        }
        all.sort_unstable();
        all
    })
}

/// An event that was mapped before the move raises its LPI after it, on its processor.
#[case(
    spec = "IHI0069 5.3 INT",
    needs("service.migrate", "arm64.its", "cpus>=2"),
    rows(boot: Cpu(0), other: Cpu(1))
)]
fn mapped_event_raises_its_lpi(its: &mut Its, cpu: Cpu) -> Verdict {
    map(its, cpu, 1)?;
    raise(its, cpu, 0)?;
    expect_eq!(taken(its, cpu)?, [FIRST_LPI], "before the move")?;
    service::ask(Request::Migrate)?;
    expect_eq!(taken(its, cpu)?, Vec::<u32>::new(), "by the move itself")?;
    raise(its, cpu, 0)?;
    expect_eq!(taken(its, cpu)?, [FIRST_LPI], "after the move")
}

fn pending(its: &mut Its, cpu: Cpu, request: Request) -> Verdict {
    map(its, cpu, MANY)?;
    for event in 0..MANY {
        raise(its, cpu, event)?;
    }
    service::ask(request)?;
    let expected: Vec<u32> = (FIRST_LPI..FIRST_LPI + MANY).collect();
    expect_eq!(taken(its, cpu)?, expected)
}

/// LPIs that are pending are taken after the move, all of them, once each.
#[case(
    spec = "IHI0069 5.1",
    needs("service.migrate", "arm64.its", "cpus>=2"),
    rows(boot: Cpu(0), other: Cpu(1))
)]
fn pending_lpis_are_taken(its: &mut Its, cpu: Cpu) -> Verdict {
    pending(its, cpu, Request::Migrate)
}

/// The same in a machine that was saved and restored.
#[case(
    spec = "IHI0069 5.1",
    needs("service.save_restore", "arm64.its", "cpus>=2"),
    rows(boot: Cpu(0), other: Cpu(1))
)]
fn saved_lpis_are_taken(its: &mut Its, cpu: Cpu) -> Verdict {
    pending(its, cpu, Request::SaveRestore)
}

/// An LPI whose collection is mapped only after the move is raised then, and another one works
/// meanwhile.
#[case(spec = "IHI0069 5.3 MAPC", needs("service.migrate", "arm64.its"))]
fn collection_can_be_mapped_after_the_move(its: &mut Its) -> Verdict {
    map(its, Cpu::BOOT, 1)?;
    let late = Intid(FIRST_LPI + 7);
    set_config(late, ENABLED);
    its.map_event(DEVICE, 9, late, 5)?;
    its.flush()?;
    service::ask(Request::Migrate)?;
    raise(its, Cpu::BOOT, 0)?;
    expect_eq!(taken(its, Cpu::BOOT)?, [FIRST_LPI], "the unrelated one")?;
    its.map_collection(5, Some(Cpu::BOOT))?;
    its.invalidate_all(5);
    raise(its, Cpu::BOOT, 9)?;
    expect_eq!(
        taken(its, Cpu::BOOT)?,
        [late.0],
        "the one that was mapped late"
    )
}
