//! The Interrupt Translation Service and LPIs. Spec: IHI0069 5, 12.19.
//!
//! Commands in a queue of memory map a device's events to LPIs and LPIs to processors; configuration lies
//! in memory too and is cached until an INV. The whole is a small virtual machine with bugs of its
//! own: stale configuration, lost commands, interrupts on the wrong processor.

use guest_lib::arch::gic::its::{FIRST_LPI, Its, registers, set_config};
use guest_lib::arch::gic::registers::gits;
use guest_lib::arch::gic::{Intid, PRIORITY};
use guest_lib::prelude::*;

const DEVICE: u32 = 2;
const EVENT: u32 = 20;
const LPI: Intid = Intid(FIRST_LPI + 3);
const ENABLED: u8 = PRIORITY | 1;

/// Maps (DEVICE, EVENT) to LPI on `cpu`, enabled.
fn map(its: &mut Its, cpu: Cpu) -> Verdict {
    set_config(LPI, ENABLED);
    its.map_device(DEVICE, 8)?;
    its.map_collection(3, Some(cpu))?;
    its.map_event(DEVICE, EVENT, LPI, 3)?;
    its.invalidate(DEVICE, EVENT);
    its.sync(cpu);
    its.flush()
}

/// What `cpu` acknowledges within a moment, and ends.
fn taken(its: &Its, cpu: Cpu) -> Result<Intid, Stop> {
    let gic = &its.gic;
    cpus::run_on(cpu, || {
        if cpu != Cpu::BOOT {
            gic.init_cpu();
        }
        let iar = gic.acknowledge();
        if !iar.is_spurious() {
            gic.end(iar);
        }
        iar.intid()
    })
}

fn raise(its: &mut Its, cpu: Cpu) -> Verdict {
    its.raise(DEVICE, EVENT);
    its.sync(cpu);
    its.flush()
}

/// GITS_IIDR, GITS_TYPER and GITS_PIDR2 keep their value whatever is written.
#[case(
    spec = "IHI0069 12.19 GITS_TYPER",
    needs("arm64.its"),
    rows(iidr: gits::IIDR, typer_low: gits::TYPER, typer_high: gits::TYPER + 4, pidr2: gits::PIDR2)
)]
fn register_is_read_only(register: u64) -> Verdict {
    let its = registers()?;
    let before = its.read32(register);
    for value in [!0, 0xa5a5_5a5a, 0] {
        its.write32(register, value);
        expect_eq!(its.read32(register), before, "after {value:#x}")?;
    }
    Ok(())
}

/// GITS_TYPER states physical LPIs.
#[case(spec = "IHI0069 12.19 GITS_TYPER", needs("arm64.its"))]
fn typer_states_physical_lpis() -> Verdict {
    expect_eq!(registers()?.read64(gits::TYPER) & 1, 1)
}

/// GITS_TYPER states room for INTIDs, devices and events.
#[case(spec = "IHI0069 12.19 GITS_TYPER", needs("arm64.its"))]
fn typer_states_its_sizes() -> Verdict {
    let typer = registers()?.read64(gits::TYPER);
    let (ids, devices, entry) = (typer >> 8 & 0x1f, typer >> 13 & 0x1f, typer >> 4 & 0xf);
    note!(
        "{} event bits, {} device bits, {} bytes per entry",
        ids + 1,
        devices + 1,
        entry + 1
    );
    expect_eq!(
        ids > 0 && devices > 0,
        true,
        "IDbits {ids}, Devbits {devices}"
    )
}

/// The table registers ask for one device table and at most one collection table.
#[case(spec = "IHI0069 12.19 GITS_BASER<n>", needs("arm64.its"))]
fn baser_names_its_tables() -> Verdict {
    let its = registers()?;
    let kinds: Vec<u64> = (0..8)
        .map(|i| its.read64(gits::BASER + i * 8) >> 56 & 7)
        .collect();
    let count = |kind| kinds.iter().filter(|k| **k == kind).count();
    expect_eq!(count(1), 1, "device tables in {kinds:?}")?;
    expect_eq!(count(4), 1, "collection tables in {kinds:?}")
}

/// INT raises the LPI on the processor of the event's collection, once.
#[case(
    spec = "IHI0069 5.3 INT",
    needs("arm64.its", "cpus>=4"),
    rows(boot: Cpu(0), second: Cpu(1), third: Cpu(2), last: Cpu(3))
)]
fn int_reaches_the_mapped_cpu(its: &mut Its, cpu: Cpu) -> Verdict {
    map(its, cpu)?;
    raise(its, cpu)?;
    for other in cpus::all().filter(|&c| c != cpu) {
        expect_eq!(taken(its, other)?, Intid::SPURIOUS, "CPU {}", other.0)?;
    }
    expect_eq!(taken(its, cpu)?, LPI, "CPU {}", cpu.0)?;
    expect_eq!(taken(its, cpu)?, Intid::SPURIOUS, "a second time")
}

/// Two devices with events of their own reach two processors.
#[case(spec = "IHI0069 5.3 MAPTI", needs("arm64.its", "cpus>=4"))]
fn two_devices_reach_two_cpus(its: &mut Its) -> Verdict {
    map(its, Cpu(3))?;
    let second = Intid(FIRST_LPI + 4);
    set_config(second, ENABLED);
    its.map_device(7, 8)?;
    its.map_collection(2, Some(Cpu(2)))?;
    its.map_event(7, 255, second, 2)?;
    its.invalidate(7, 255);
    its.raise(7, 255);
    its.sync(Cpu(2));
    raise(its, Cpu(3))?;
    expect_eq!(taken(its, Cpu(2))?, second)?;
    expect_eq!(taken(its, Cpu(3))?, LPI)
}

/// A disabled LPI is not delivered; INV makes a change of its enable bit known.
#[case(spec = "IHI0069 5.3 INV", needs("arm64.its"))]
fn inv_makes_a_disable_known(its: &mut Its) -> Verdict {
    map(its, Cpu::BOOT)?;
    set_config(LPI, PRIORITY);
    its.invalidate(DEVICE, EVENT);
    raise(its, Cpu::BOOT)?;
    expect_eq!(taken(its, Cpu::BOOT)?, Intid::SPURIOUS, "while disabled")?;
    set_config(LPI, ENABLED);
    its.invalidate(DEVICE, EVENT);
    its.sync(Cpu::BOOT);
    its.flush()?;
    expect_eq!(
        taken(its, Cpu::BOOT)?,
        LPI,
        "the pending LPI after the enable"
    )
}

/// INVALL makes changes of all LPIs of a collection known, and delivers what is pending.
#[case(spec = "IHI0069 5.3 INVALL", needs("arm64.its"))]
fn invall_delivers_what_is_pending(its: &mut Its) -> Verdict {
    map(its, Cpu::BOOT)?;
    set_config(LPI, PRIORITY);
    its.invalidate_all(3);
    raise(its, Cpu::BOOT)?;
    expect_eq!(taken(its, Cpu::BOOT)?, Intid::SPURIOUS, "while disabled")?;
    set_config(LPI, ENABLED);
    its.invalidate_all(3);
    its.sync(Cpu::BOOT);
    its.flush()?;
    expect_eq!(taken(its, Cpu::BOOT)?, LPI, "after INVALL")?;
    raise(its, Cpu::BOOT)?;
    expect_eq!(taken(its, Cpu::BOOT)?, LPI, "raised again")
}

/// CLEAR takes a pending LPI back.
#[case(spec = "IHI0069 5.3 CLEAR", needs("arm64.its"))]
fn clear_takes_it_back(its: &mut Its) -> Verdict {
    map(its, Cpu::BOOT)?;
    its.raise(DEVICE, EVENT);
    its.clear(DEVICE, EVENT);
    its.sync(Cpu::BOOT);
    its.flush()?;
    expect_eq!(taken(its, Cpu::BOOT)?, Intid::SPURIOUS, "after CLEAR")?;
    raise(its, Cpu::BOOT)?;
    expect_eq!(taken(its, Cpu::BOOT)?, LPI, "raised again")
}

/// DISCARD removes the mapping of an event: it raises nothing any more.
#[case(spec = "IHI0069 5.3 DISCARD", needs("arm64.its"))]
fn discard_removes_the_event(its: &mut Its) -> Verdict {
    map(its, Cpu::BOOT)?;
    its.discard(DEVICE, EVENT);
    its.raise(DEVICE, EVENT);
    if its.drained() {
        expect_eq!(taken(its, Cpu::BOOT)?, Intid::SPURIOUS, "after DISCARD")?;
        its.map_event(DEVICE, EVENT, LPI, 3)?;
        raise(its, Cpu::BOOT)?;
        return expect_eq!(taken(its, Cpu::BOOT)?, LPI, "mapped again");
    }
    // An ITS may stall on the error; then nothing may come of the command.
    expect_eq!(taken(its, Cpu::BOOT)?, Intid::SPURIOUS)
}

/// MAPD with V = 0 removes a device: its events raise nothing any more.
#[case(spec = "IHI0069 5.3 MAPD", needs("arm64.its"))]
fn unmapped_device_raises_nothing(its: &mut Its) -> Verdict {
    map(its, Cpu::BOOT)?;
    raise(its, Cpu::BOOT)?;
    expect_eq!(taken(its, Cpu::BOOT)?, LPI, "while mapped")?;
    its.unmap_device(DEVICE);
    its.raise(DEVICE, EVENT);
    its.drained();
    expect_eq!(taken(its, Cpu::BOOT)?, Intid::SPURIOUS)
}

/// MOVI sends an event to another processor from then on.
#[case(spec = "IHI0069 5.3 MOVI", needs("arm64.its", "cpus>=2"))]
fn movi_moves_the_event(its: &mut Its) -> Verdict {
    map(its, Cpu::BOOT)?;
    its.map_collection(4, Some(Cpu(1)))?;
    its.move_event(DEVICE, EVENT, 4);
    raise(its, Cpu(1))?;
    expect_eq!(
        taken(its, Cpu::BOOT)?,
        Intid::SPURIOUS,
        "the former processor"
    )?;
    expect_eq!(taken(its, Cpu(1))?, LPI, "the new processor")
}

/// MOVI takes a pending LPI along.
#[case(spec = "IHI0069 5.3 MOVI", needs("arm64.its", "cpus>=2"))]
fn movi_takes_a_pending_lpi_along(its: &mut Its) -> Verdict {
    map(its, Cpu::BOOT)?;
    its.map_collection(4, Some(Cpu(1)))?;
    raise(its, Cpu::BOOT)?;
    its.move_event(DEVICE, EVENT, 4);
    its.sync(Cpu(1));
    its.flush()?;
    expect_eq!(
        taken(its, Cpu::BOOT)?,
        Intid::SPURIOUS,
        "the former processor"
    )?;
    expect_eq!(taken(its, Cpu(1))?, LPI, "the new processor")
}

/// MOVALL takes all pending LPIs of a processor to another.
#[case(spec = "IHI0069 5.3 MOVALL", needs("arm64.its", "cpus>=2"))]
fn movall_takes_pending_lpis_along(its: &mut Its) -> Verdict {
    map(its, Cpu::BOOT)?;
    raise(its, Cpu::BOOT)?;
    its.move_all(Cpu::BOOT, Cpu(1));
    its.sync(Cpu(1));
    its.flush()?;
    expect_eq!(
        taken(its, Cpu::BOOT)?,
        Intid::SPURIOUS,
        "the former processor"
    )?;
    expect_eq!(taken(its, Cpu(1))?, LPI, "the new processor")
}

/// LPIs are taken in order of their configured priority.
#[case(spec = "IHI0069 5.1", needs("arm64.its"))]
fn lpis_have_priorities(its: &mut Its) -> Verdict {
    map(its, Cpu::BOOT)?;
    let urgent = Intid(FIRST_LPI + 9);
    set_config(urgent, 0x20 | 1);
    its.map_event(DEVICE, 21, urgent, 3)?;
    its.invalidate(DEVICE, 21);
    its.raise(DEVICE, EVENT);
    its.raise(DEVICE, 21);
    its.sync(Cpu::BOOT);
    its.flush()?;
    expect_eq!(taken(its, Cpu::BOOT)?, urgent)?;
    expect_eq!(taken(its, Cpu::BOOT)?, LPI)
}

/// Sixty events in one queue arrive each once.
#[case(spec = "IHI0069 5.3 INT", needs("arm64.its"))]
fn many_events_arrive_once_each(its: &mut Its) -> Verdict {
    its.map_device(DEVICE, 8)?;
    its.map_collection(3, Some(Cpu::BOOT))?;
    for n in 0..60 {
        set_config(Intid(FIRST_LPI + n), ENABLED);
        its.map_event(DEVICE, n, Intid(FIRST_LPI + n), 3)?;
        its.invalidate(DEVICE, n);
        its.raise(DEVICE, n);
    }
    its.sync(Cpu::BOOT);
    its.flush()?;
    let mut seen = 0u64;
    for _ in 0..60 {
        let intid = taken(its, Cpu::BOOT)?;
        let bit = 1u64 << (intid.0.wrapping_sub(FIRST_LPI) % 64);
        expect_eq!(
            intid.0 >= FIRST_LPI && seen & bit == 0,
            true,
            "INTID {}",
            intid.0
        )?;
        seen |= bit;
    }
    expect_eq!(
        taken(its, Cpu::BOOT)?,
        Intid::SPURIOUS,
        "more than were raised"
    )
}
