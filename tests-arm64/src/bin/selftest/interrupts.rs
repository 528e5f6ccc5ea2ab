//! Interrupts and timers. Spec: DDI0487 D1.4, IHI0048 3.2, IHI0069 4.1.
//!
//! Handlers belong to one processor and one scope. An interrupt must come when it is unmasked and not
//! before, exactly once, and the interrupted code must not notice.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use guest_lib::arch::gic::{Gic, Intid};
use guest_lib::arch::registers::{IsrEl1, TimerControl};
use guest_lib::arch::timer::Timers;
use guest_lib::prelude::*;

/// A masked interrupt waits, and is taken once when it is unmasked.
#[case(spec = "DDI0487 D1.4")]
fn masked_interrupts_wait(gic: &mut Gic) -> Verdict {
    let taken = AtomicU32::new(0);
    gic.set_enabled(Intid::sgi(3), true);
    gic.send(3, Cpu::BOOT);
    let waiting = || IsrEl1::read() & 0x80 != 0;
    expect_eq!(time::wait_until(time::PATIENCE, waiting), true, "ISR_EL1.I")?;
    let seen = |iar: arch::gic::Iar| {
        taken.fetch_add(1 + u32::from(iar.intid() != Intid::sgi(3)) * 100, Relaxed);
    };
    gic.taking(&seen, || {
        time::wait_until(time::PATIENCE, || taken.load(Relaxed) > 0)
    });
    expect_eq!(taken.load(Relaxed), 1)?;
    expect_eq!(waiting(), false)
}

/// A timer interrupt ends a WFI and is taken.
#[case(spec = "DDI0487 D12.2", rows(virt: true, phys: false))]
fn timer_wakes_wfi(gic: &mut Gic, timers: &mut Timers, virt: bool) -> Verdict {
    let timer = if virt { timers.virt } else { timers.phys };
    let (taken, intid) = (AtomicU32::new(0), timer.intid()?);
    gic.set_enabled(intid, true);
    timer.set_deadline(timer.count() + time::ticks(time::ms(2)));
    timer.set_control(TimerControl::ENABLE);
    let seen = |iar: arch::gic::Iar| {
        timer.stop();
        taken.fetch_add(1 + u32::from(iar.intid() != intid) * 100, Relaxed);
    };
    gic.taking(&seen, || {
        arch::interrupts::wfi_until(|| taken.load(Relaxed) != 0);
    });
    expect_eq!(taken.load(Relaxed), 1)
}

/// Interrupted code keeps its registers through a thousand interrupts.
#[case(spec = "DDI0487 D1.4")]
fn interrupts_are_transparent(gic: &mut Gic) -> Verdict {
    let taken = AtomicU32::new(0);
    gic.set_enabled(Intid::sgi(1), true);
    let seen = |_: arch::gic::Iar| {
        taken.fetch_add(1, Relaxed);
    };
    let sum = gic.taking(&seen, || {
        let mut sum = 0u64;
        for i in 0..1000u64 {
            gic.send(1, Cpu::BOOT);
            time::wait_until(time::PATIENCE, || taken.load(Relaxed) as u64 > i);
            sum = sum.wrapping_mul(31).wrapping_add(i);
        }
        sum
    });
    let expected = (0..1000u64).fold(0u64, |sum, i| sum.wrapping_mul(31).wrapping_add(i));
    expect_eq!(sum, expected)?;
    expect_eq!(taken.load(Relaxed), 1000)
}

/// A fault inside an interrupt handler can be caught there.
#[case(spec = "DDI0487 D1.4")]
fn handlers_can_catch(gic: &mut Gic) -> Verdict {
    let caught = AtomicU32::new(0);
    gic.set_enabled(Intid::sgi(2), true);
    let seen = |_: arch::gic::Iar| {
        let fault = fault::catch(|| arch::probe::SVC.run(0, 0));
        caught.store(1 + u32::from(fault == Err(Fault::svc(123))), Relaxed);
    };
    gic.taking(&seen, || {
        gic.send(2, Cpu::BOOT);
        time::wait_until(time::PATIENCE, || caught.load(Relaxed) != 0)
    });
    expect_eq!(caught.load(Relaxed), 2)
}

/// The counter advances, never goes back, and its frequency is not zero.
#[case(spec = "DDI0487 D12.1")]
fn counter_advances() -> Verdict {
    expect_ne!(arch::time::ticks_per_second(), 0)?;
    let mut last = time::now();
    let start = last;
    for _ in 0..10_000 {
        let now = time::now();
        if now < last {
            return fail!("the counter went back by {}", last - now);
        }
        last = now;
    }
    expect_ne!(last, start)
}
