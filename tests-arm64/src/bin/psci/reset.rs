//! The machine that comes back from a reset. Spec: DEN0022 5.12, 5.13.
//!
//! A reset is a cold boot to the system that asked for it: one processor, entered as at first, everything else
//! off. A hypervisor resets each of its devices by hand, and what it forgets is found by the next system: an
//! interrupt that it never enabled, a timer that it never set. Each case leaves a mark in memory, sets the machine
//! in motion, resets it, and compares what it finds at entry with what it found the first time. Memory
//! is not promised to stay: where it does not, the case ends as an error, which says so.

use guest_lib::arch::debug::{MDSCR_KDE, MDSCR_MDE};
use guest_lib::arch::gic::{Gic, Intid, registers::gicd};
use guest_lib::arch::mmio::Mmio;
use guest_lib::arch::psci::{self, id};
use guest_lib::arch::registers::{MdscrEl1, OslsrEl1, TimerControl};
use guest_lib::arch::timer::{Timer, Timers};
use guest_lib::arch::{cpu, platform, smp};
use guest_lib::prelude::*;
use guest_lib::protocol::table::Ends;
use guest_lib::{memory, runner};

const MARK: u64 = 0x6173_7361_795f_7232;
const OFF: i32 = 1;
/// Interrupts that the first life leaves enabled; nothing raises them.
const LEFT: [Intid; 2] = [Intid::sgi(5), Intid::spi(20)];

/// The last page of RAM: no image, no tree, and the allocator comes to it last.
fn mark() -> Mmio {
    let &(start, length) = memory::regions().last().expect("there is RAM");
    Mmio::new((start + length & !0xfff) - 4096)
}

/// What shows how the machine was entered. The runtime's own start changes none of it.
fn at_entry() -> Vec<(&'static str, u64)> {
    let entry = smp::entry_of(0);
    let gic = Mmio::new(platform::info().gic.distributor);
    vec![
        ("x0", entry.x0),
        ("x1, x2 or x3", entry.rest),
        ("CurrentEL", entry.current_el),
        ("SPSel", entry.spsel),
        ("DAIF", entry.daif),
        ("SCTLR", entry.sctlr),
        ("GICD_CTLR", gic.read32(gicd::CTLR).into()),
        ("GICD_ISENABLER1", gic.read32(gicd::ISENABLER + 4).into()),
        ("GICD_ISPENDR1", gic.read32(gicd::ISPENDR + 4).into()),
        ("CNTV_CTL_EL0", Timer::VIRTUAL.control().bits()),
        ("CNTP_CTL_EL0", Timer::PHYSICAL.control().bits()),
        ("MDSCR_EL1", MdscrEl1::read()),
        ("OSLSR_EL1", OslsrEl1::read()),
    ]
}

/// The first life: leave a mark, set everything in motion, and reset.
fn first_life(cpu: Cpu, function: u64) -> Verdict {
    let (mark, found) = (mark(), at_entry());
    for (i, &(_, value)) in found.iter().enumerate() {
        mark.write64(8 + i as u64 * 8, value);
    }
    mark.write64(0, MARK);
    cpu::clean_to_memory(mark.base() as usize, 4096);
    let (gic, _timers) = (Gic::fresh()?, Timers::fresh()?);
    for intid in LEFT {
        gic.set_enabled(intid, true);
    }
    gic.set_pending(LEFT[1], true);
    for timer in [Timer::VIRTUAL, Timer::PHYSICAL] {
        timer.set_deadline(timer.count() + time::ticks(time::ms(500)));
        timer.set_control(TimerControl::ENABLE);
    }
    MdscrEl1::write(MDSCR_KDE | MDSCR_MDE);
    for cpu in cpus::others() {
        cpus::start(cpu)?;
    }
    expect_ne!(at_entry(), found, "the state with everything in motion")?;
    platform::console_drain();
    runner::expect_end(Ends::Again);
    let status = cpus::run_on(cpu, || psci::psci(function, [0; 3]))?;
    fail!("the call returned {status:?}")
}

/// The second life: compare with the first.
fn second_life() -> Verdict {
    let (mark, found) = (mark(), at_entry());
    for (i, &(name, value)) in found.iter().enumerate() {
        let first = mark.read64(8 + i as u64 * 8);
        expect_eq!(value, first, "{name} against the first boot")?;
    }
    let entry = smp::entry_of(0);
    let tree = platform::info().tree.0;
    expect!(
        entry.x0 == tree && tree != 0,
        "x0 is {:#x}, the tree at {tree:#x}",
        entry.x0
    )?;
    expect_eq!(entry.rest, 0, "x1 to x3")?;
    expect_eq!(entry.daif, 0x3c0, "DAIF")?;
    expect_eq!(entry.sctlr & 0b101, 0, "SCTLR.{{C, M}}")?;
    let ctlr = Mmio::new(platform::info().gic.distributor).read32(gicd::CTLR);
    expect_eq!(ctlr & 7, 0, "the enables of GICD_CTLR")?;
    for timer in [Timer::VIRTUAL, Timer::PHYSICAL] {
        let control = timer.control() & TimerControl::ENABLE;
        expect_eq!(control, TimerControl::empty(), "a timer's ENABLE")?;
    }
    for cpu in cpus::others() {
        let state = psci::affinity_info(smp::mpidr(cpu.0), 0);
        expect_eq!(state, OFF, "CPU {}", cpu.0)?;
    }
    // The machine works: all processors start, and an interrupt of the first life is not pending.
    let gic = Gic::fresh()?;
    cpus::on_all(|_| ())?;
    expect_eq!(gic.highest_pending(), Intid::SPURIOUS, "what is pending")
}

fn lives(cpu: Cpu, function: u64) -> Verdict {
    if mark().read64(0) != MARK {
        return first_life(cpu, function);
    }
    mark().write64(0, 0);
    runner::came_back();
    second_life()
}

/// After SYSTEM_RESET the machine is as at cold boot, whichever processor asked for it.
#[case(
    spec = "DEN0022 5.12 SYSTEM_RESET",
    needs("arm64.psci", "cpus>=2"),
    ends = again,
    rows(by_boot_cpu: Cpu::BOOT, by_secondary: Cpu(1))
)]
fn system_reset_is_a_cold_boot(cpu: Cpu) -> Verdict {
    lives(cpu, id::SYSTEM_RESET)
}

/// After SYSTEM_RESET2 with SYSTEM_WARM_RESET the machine is entered as at cold boot.
#[case(
    spec = "DEN0022 5.13 SYSTEM_RESET2",
    needs("arm64.psci", "arm64.system_reset2"),
    ends = again
)]
fn warm_reset_is_entered_as_a_cold_boot() -> Verdict {
    lives(Cpu::BOOT, id::SYSTEM_RESET2)
}
