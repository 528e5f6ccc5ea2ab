//! Redistributors: one per processor. Spec: IHI0069 12.11.
//!
//! Each processor's private interrupts live in a frame of its own that all others can reach. Hypervisors
//! have mixed frames up beyond 32 processors, ended the region at the wrong frame, or run out of
//! devices to emulate them with; so every frame that the device tree promises is looked at.

use guest_lib::arch::gic::registers::{gicd, gicr, gicr_sgi};
use guest_lib::arch::gic::{Gicv3, Intid};
use guest_lib::arch::{platform, smp};
use guest_lib::prelude::*;

/// MPIDR affinity as GICR_TYPER and IROUTER order it: Aff3 in bits 31:24.
fn affinity(mpidr: u64) -> u64 {
    mpidr & 0xff_ffff | mpidr >> 32 << 24
}

/// Every processor has a redistributor with its affinity.
#[case(spec = "IHI0069 12.11 GICR_TYPER", needs("arm64.gicv3"))]
fn frames_have_each_cpus_affinity(gic: &mut Gicv3) -> Verdict {
    let mut found: Vec<u64> = gic.redistributors().iter().map(|r| r.1 >> 32).collect();
    found.sort_unstable();
    let mut wanted: Vec<u64> = cpus::all().map(|c| affinity(smp::mpidr(c.0))).collect();
    wanted.sort_unstable();
    expect_eq!(found, wanted)
}

/// GICR_TYPER.Last is set in the last frame of a region and in no other.
#[case(spec = "IHI0069 12.11 GICR_TYPER", needs("arm64.gicv3"))]
fn frames_end_with_last(gic: &mut Gicv3) -> Verdict {
    let all = gic.redistributors();
    for (i, (_, typer, region)) in all.iter().enumerate() {
        let ends = all.get(i + 1).is_none_or(|next| next.2 != *region);
        expect_eq!(typer & gicr::LAST != 0, ends, "Last of frame {i}")?;
    }
    expect_eq!(all.is_empty(), false)
}

/// Processor numbers of the frames are unique.
#[case(spec = "IHI0069 12.11 GICR_TYPER", needs("arm64.gicv3"))]
fn frames_have_unique_numbers(gic: &mut Gicv3) -> Verdict {
    let mut numbers: Vec<u64> = gic
        .redistributors()
        .iter()
        .map(|r| r.1 >> 8 & 0xffff)
        .collect();
    numbers.sort_unstable();
    let twice = numbers.windows(2).find(|w| w[0] == w[1]);
    expect_eq!(twice, None)
}

/// Every frame names its architecture version, the same as the distributor's.
#[case(spec = "IHI0069 12.11 GICR_PIDR2", needs("arm64.gicv3"))]
fn frames_state_their_version(gic: &mut Gicv3) -> Verdict {
    let version = gic.distributor().read32(gicd::V3_PIDR2) >> 4 & 0xf;
    for (i, (frame, _, _)) in gic.redistributors().into_iter().enumerate() {
        expect_eq!(frame.read32(gicr::PIDR2) >> 4 & 0xf, version, "frame {i}")?;
        expect_eq!(
            frame.read32(gicr::IIDR) != 0,
            true,
            "GICR_IIDR of frame {i}"
        )?;
    }
    Ok(())
}

/// Every frame keeps private state of its own.
#[case(spec = "IHI0069 12.11 GICR_ISENABLER0", needs("arm64.gicv3"))]
fn frames_keep_their_own_state(gic: &mut Gicv3) -> Verdict {
    let frames: Vec<_> = gic
        .redistributors()
        .iter()
        .map(|r| r.0.at(gicr::SGI_FRAME))
        .collect();
    for (i, frame) in frames.iter().enumerate() {
        frame.write8(gicr_sgi::IPRIORITYR + 22, (i as u8) << 4 & 0x70);
        frame.write32(gicr_sgi::ICENABLER, !0);
        frame.write32(gicr_sgi::ISENABLER, 1 << (i % 16));
    }
    for (i, frame) in frames.iter().enumerate() {
        let priority = frame.read8(gicr_sgi::IPRIORITYR + 22);
        expect_eq!(priority, (i as u8) << 4 & 0x70, "priority in frame {i}")?;
        let enabled = frame.read32(gicr_sgi::ISENABLER);
        expect_eq!(enabled, 1 << (i % 16), "enables in frame {i}")?;
    }
    Ok(())
}

/// Several processors read all frames at once and see the same.
#[case(spec = "IHI0069 12.11 GICR_TYPER", needs("arm64.gicv3", "cpus>=2"))]
fn every_cpu_sees_every_frame(gic: &mut Gicv3) -> Verdict {
    let gic = &*gic;
    let here: Vec<u64> = gic.redistributors().iter().map(|r| r.1).collect();
    let readers = cpus::all().take(4);
    let seen = cpus::on_each(readers.clone(), |_| {
        (0..10)
            .map(|_| gic.redistributors().iter().map(|r| r.1).collect::<Vec<_>>())
            .all(|typers| typers == here)
    })?;
    expect_eq!(seen, vec![true; readers.count()])
}

/// Read-only registers of a frame keep their value whatever is written.
#[case(
    spec = "IHI0069 12.11 GICR_TYPER",
    needs("arm64.gicv3"),
    rows(typer_low: gicr::TYPER, typer_high: gicr::TYPER + 4, iidr: gicr::IIDR, pidr2: gicr::PIDR2)
)]
fn register_is_read_only(gic: &mut Gicv3, register: u64) -> Verdict {
    let frame = gic.redistributor(Cpu::BOOT);
    let before = frame.read32(register);
    for value in [!0, 0xa5a5_5a5a, 0] {
        frame.write32(register, value);
        expect_eq!(frame.read32(register), before, "after {value:#x}")?;
    }
    Ok(())
}

/// A redistributor that is awake says so, and can be put to sleep and woken again.
#[case(spec = "IHI0069 12.11 GICR_WAKER", needs("arm64.gicv3", "cpus>=2"))]
fn waker_follows_processor_sleep(gic: &mut Gicv3) -> Verdict {
    let frame = gic.redistributor(Cpu(1));
    let asleep = || frame.read32(gicr::WAKER) & gicr::CHILDREN_ASLEEP != 0;
    let set = |sleep: bool| {
        let old = frame.read32(gicr::WAKER) & !gicr::PROCESSOR_SLEEP;
        frame.write32(
            gicr::WAKER,
            old | if sleep { gicr::PROCESSOR_SLEEP } else { 0 },
        );
        time::wait_until(time::PATIENCE, || asleep() == sleep)
    };
    expect_eq!(set(false), true, "awake")?;
    expect_eq!(set(true), true, "asleep")?;
    expect_eq!(set(false), true, "awake again")
}

/// Zeroes written to GICR_ISENABLER0 and GICR_ICENABLER0 change nothing; only ones act.
#[case(
    spec = "IHI0069 12.11 GICR_ISENABLER0",
    needs("arm64.gicv3"),
    rows(isenabler0: gicr_sgi::ISENABLER, icenabler0: gicr_sgi::ICENABLER)
)]
fn enabler0_ignores_zeroes(gic: &mut Gicv3, register: u64) -> Verdict {
    let frame = gic.sgi_frame(Cpu::BOOT);
    frame.write32(gicr_sgi::ISENABLER, 0x0040_000f);
    frame.write32(register, 0);
    expect_eq!(frame.read32(gicr_sgi::ISENABLER), 0x0040_000f)
}

/// SGIs are edge-triggered and stay so.
#[case(spec = "IHI0069 12.11 GICR_ICFGR0", needs("arm64.gicv3"))]
fn sgis_are_edge_triggered(gic: &mut Gicv3) -> Verdict {
    let frame = gic.sgi_frame(Cpu::BOOT);
    expect_eq!(frame.read32(gicr_sgi::ICFGR), 0xaaaa_aaaa)?;
    frame.write32(gicr_sgi::ICFGR, 0);
    expect_eq!(
        frame.read32(gicr_sgi::ICFGR),
        0xaaaa_aaaa,
        "after a write of zero"
    )
}

/// Private priorities are bytes of their own, in the frame of their processor.
#[case(spec = "IHI0069 12.11 GICR_IPRIORITYR<n>", needs("arm64.gicv3"))]
fn private_priorities_are_bytes(gic: &mut Gicv3) -> Verdict {
    let frame = gic.sgi_frame(Cpu::BOOT);
    for n in 0..32 {
        frame.write8(gicr_sgi::IPRIORITYR + n, (n as u8) << 3 & 0xf0);
    }
    for word in 0..8 {
        let bytes = frame.read32(gicr_sgi::IPRIORITYR + word * 4).to_ne_bytes();
        let expected = [0, 1, 2, 3].map(|i| ((word as u8 * 4 + i) << 3) & 0xf0);
        expect_eq!(bytes, expected, "word {word}")?;
    }
    Ok(())
}

/// A PPI that one processor makes pending in another's frame is taken by that other one only.
#[case(spec = "IHI0069 12.11 GICR_ISPENDR0", needs("arm64.gicv3", "cpus>=2"))]
fn ppi_pends_on_the_frames_cpu(gic: &mut Gicv3) -> Verdict {
    let (gic, ppi) = (&*gic, Intid::ppi(6));
    for cpu in cpus::others() {
        cpus::run_on(cpu, || {
            gic.init_cpu();
            gic.set_enabled(ppi, true);
        })?;
        gic.set_enabled(ppi, true);
        gic.sgi_frame(cpu).write32(gicr_sgi::ISPENDR, 1 << ppi.0);
        expect_eq!(gic.acknowledge().intid(), Intid::SPURIOUS, "here")?;
        let there = cpus::run_on(cpu, || {
            let iar = gic.acknowledge();
            gic.end(iar);
            iar.intid()
        })?;
        expect_eq!(there, ppi, "on CPU {}", cpu.0)?;
        // One at a time: processors that only wait for work slow an emulator down.
        cpus::park_all().map_err(|c| Failure::new(format!("CPU {} stays on", c.0)))?;
    }
    Ok(())
}

/// A PPI enabled on the last processor alone fires there.
#[case(
    spec = "IHI0069 12.11 GICR_ISENABLER0",
    needs("arm64.gicv3", "cpus>=2")
)]
fn last_cpu_has_a_ppi_of_its_own(gic: &mut Gicv3) -> Verdict {
    let gic = &*gic;
    let last = Cpu(cpus::count() - 1);
    let timer = arch::timer::Timer::PHYSICAL;
    let intid = timer.intid()?;
    let (here, there) = cpus::run_on(last, || {
        gic.init_cpu();
        gic.set_enabled(intid, true);
        timer.set_deadline(0);
        timer.set_control(arch::registers::TimerControl::ENABLE);
        time::wait_until(time::PATIENCE, || gic.is_pending(intid));
        let iar = gic.acknowledge();
        timer.stop();
        gic.end(iar);
        let enabled = gic.sgi_frame(Cpu::BOOT).read32(gicr_sgi::ISENABLER) >> intid.0 & 1;
        (enabled, iar.intid())
    })?;
    expect_eq!(there, intid, "on CPU {}", last.0)?;
    expect_eq!(here, 0, "enabled in the boot processor's frame")
}

/// Frames of a region follow one another without a gap, within the region.
#[case(spec = "IHI0069 12.11", needs("arm64.gicv3"))]
fn frames_fill_their_region(gic: &mut Gicv3) -> Verdict {
    let info = &platform::info().gic;
    for (i, (frame, typer, region)) in gic.redistributors().into_iter().enumerate() {
        let (base, length) = info.redistributors[region];
        let size = if typer & gicr::VLPIS != 0 { 4 } else { 2 } * gicr::SGI_FRAME;
        expect_eq!(
            frame.base() >= base && frame.base() + size <= base + length,
            true,
            "frame {i}"
        )?;
    }
    Ok(())
}
