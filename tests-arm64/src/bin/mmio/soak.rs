//! Device accesses in numbers, while interrupts cut in. Spec: DDI0487 C3.2, D1.4.
//!
//! A hypervisor leaves the guest for an emulated access, may be interrupted there, and comes back: the access
//! must not be repeated, and the program counter must move once. The window is small, so it
//! takes many rounds, with a timer that fires all the time.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use guest_lib::arch::fw_cfg::{DIRECTORY, FwCfg};
use guest_lib::arch::gic::{Gic, registers::gicd};
use guest_lib::arch::registers::TimerControl;
use guest_lib::arch::timer::Timers;
use guest_lib::prelude::*;

const AT: u64 = gicd::IPRIORITYR + 40;

/// Runs `round` at least `least` times, and until ten timer interrupts, one every 100 microseconds,
/// have cut in.
fn disturbed(gic: &Gic, timers: &Timers, least: u32, round: impl Fn(u32) -> Verdict) -> Verdict {
    let timer = timers.phys;
    let taken = AtomicU32::new(0);
    gic.set_enabled(timer.intid()?, true);
    let step = time::ticks(time::us(100));
    timer.set_deadline(timer.count() + step);
    timer.set_control(TimerControl::ENABLE);
    let seen = |_: arch::gic::Iar| {
        timer.set_deadline(timer.count() + step);
        taken.fetch_add(1, Relaxed);
    };
    let limit = time::Deadline::after(time::PATIENCE);
    let result: Verdict = gic.taking(&seen, || {
        let mut i = 0;
        while i < least || taken.load(Relaxed) < 10 && !limit.passed() {
            round(i)?;
            i += 1;
        }
        Ok(())
    });
    timer.stop();
    result?;
    expect_ne!(taken.load(Relaxed), 0, "timer interrupts")
}

/// What is stored is what is loaded, ten thousand times, while interrupts cut in.
#[case(spec = "DDI0487 C3.2")]
fn stores_and_loads_keep_step(gic: &mut Gic, timers: &mut Timers) -> Verdict {
    let distributor = gic.distributor();
    disturbed(gic, timers, 10_000, |i| {
        // Four of the sixteen priorities that every implementation has, in turn.
        let byte = |n: u32| i.wrapping_add(n) % 16 * 16;
        let value = byte(0) | byte(5) << 8 | byte(9) << 16 | byte(14) << 24;
        distributor.write32(AT, value);
        expect_eq!(distributor.read32(AT), value, "round {i}")
    })
}

/// A counting device gives every byte once, three hundred times over, while interrupts cut in.
#[case(spec = "DDI0487 C3.2", needs("arm64.fw_cfg"))]
fn counted_loads_keep_step(gic: &mut Gic, timers: &mut Timers, device: &mut FwCfg) -> Verdict {
    device.select(DIRECTORY);
    let all: [u8; 68] = core::array::from_fn(|_| device.next());
    disturbed(gic, timers, 300, |i| {
        device.select(DIRECTORY);
        let again: [u8; 68] = core::array::from_fn(|_| device.next());
        expect_eq!(again, all, "round {i}")
    })
}
