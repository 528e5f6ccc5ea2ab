//! WFI. Spec: DDI0487 D1.7.
//!
//! WFI ends when an interrupt is pending, even one that PSTATE masks: kernels wait with interrupts masked, so
//! that nothing slips in between the check and the wait. A hypervisor that looks only at what it could
//! deliver now, or that tests once and sleeps later, loses such a wake-up: the guest hangs. Two
//! processors play ping-pong thousands of times, and a timer far away turns a hang into a failure.

use guest_lib::arch::cpu::{isb, wfi};
use guest_lib::arch::gic::{Gic, Intid};
use guest_lib::arch::registers::{IsrEl1, TimerControl};
use guest_lib::arch::timer::{Timer, Timers};
use guest_lib::prelude::*;

/// The physical timer of this processor in `limit`, as the last resort of a wait.
fn last_resort(gic: &Gic, limit: time::Duration) -> Result<Intid, Stop> {
    let timer = Timer::PHYSICAL;
    let intid = timer.intid()?;
    gic.set_enabled(intid, true);
    timer.set_deadline(timer.count() + time::ticks(limit));
    timer.set_control(TimerControl::ENABLE);
    Ok(intid)
}

/// Waits with WFI, interrupts masked, until one is pending; acknowledges and ends it.
fn wait_for_interrupt(gic: &Gic) -> Intid {
    loop {
        let iar = gic.acknowledge();
        if !iar.is_spurious() {
            gic.end(iar);
            return iar.intid();
        }
        wfi();
    }
}

/// A masked interrupt that is pending ends WFI at once.
#[case(spec = "DDI0487 D1.7 WFI")]
fn pending_interrupt_ends_wfi(gic: &mut Gic) -> Verdict {
    gic.set_enabled(Intid::sgi(4), true);
    for _ in 0..200 {
        gic.send(4, Cpu::BOOT);
        expect!(
            time::wait_until(time::PATIENCE, || IsrEl1::read() >> 7 & 1 != 0),
            "ISR_EL1.I"
        )?;
        for _ in 0..3 {
            wfi();
        }
        expect_eq!(wait_for_interrupt(gic), Intid::sgi(4))?;
    }
    Ok(())
}

/// A timer that comes due ends WFI, interrupts masked, and not before it is due.
#[case(spec = "DDI0487 D1.7 WFI", rows(virt: true, phys: false))]
fn timer_ends_wfi(gic: &mut Gic, timers: &mut Timers, virt: bool) -> Verdict {
    let timer = if virt { timers.virt } else { timers.phys };
    let intid = timer.intid()?;
    gic.set_enabled(intid, true);
    for us in [50, 200, 1000, 5000] {
        timer.set_deadline(timer.count() + time::ticks(time::us(us)));
        timer.set_control(TimerControl::ENABLE);
        loop {
            let iar = gic.acknowledge();
            if !iar.is_spurious() {
                expect_eq!(iar.intid(), intid)?;
                expect_eq!(timer.is_met(), true, "the timer's condition")?;
                timer.stop();
                gic.end(iar);
                break;
            }
            wfi();
        }
    }
    Ok(())
}

/// No interrupt from another processor is lost around WFI, in a thousand rounds each way.
#[case(spec = "DDI0487 D1.7 WFI", needs("cpus>=2"), timeout_s = 120)]
fn no_wake_is_lost(gic: &mut Gic, _timers: &mut Timers) -> Verdict {
    const ROUNDS: u32 = 1_000;
    let gic = &*gic;
    let results = cpus::on_each([Cpu::BOOT, Cpu(1)].into_iter(), |cpu| {
        let other = Cpu(1 - cpu.0);
        if cpu != Cpu::BOOT {
            gic.init_cpu();
        }
        gic.set_enabled(Intid::sgi(5), true);
        let Ok(late) = last_resort(gic, time::ms(60_000)) else {
            return Err(0);
        };
        // The other side must be ready before the first interrupt is sent to it.
        MEET.wait();
        for i in 0..ROUNDS {
            if cpu == Cpu::BOOT {
                gic.send(5, other);
            }
            let got = wait_for_interrupt(gic);
            if got == late {
                return Err(i);
            }
            if cpu != Cpu::BOOT {
                gic.send(5, other);
            }
        }
        Timer::PHYSICAL.stop();
        isb();
        Ok(())
    })?;
    expect_eq!(results, vec![Ok(()), Ok(())], "the round that hung, by CPU")
}

static MEET: guest_lib::sync::Barrier = guest_lib::sync::Barrier::new(2);

/// An interrupt that is open is taken out of WFI, and the code goes on behind it.
#[case(spec = "DDI0487 D1.7 WFI")]
fn open_interrupt_is_taken_from_wfi(gic: &mut Gic, timers: &mut Timers) -> Verdict {
    use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
    let timer = timers.phys;
    let intid = timer.intid()?;
    gic.set_enabled(intid, true);
    let taken = AtomicU32::new(0);
    let step = time::ticks(time::us(300));
    // The handler sets the next deadline: an interrupt that is taken just before a WFI is no loss.
    let seen = |iar: arch::gic::Iar| {
        taken.fetch_add(1 + u32::from(iar.intid() != intid) * 1000, Relaxed);
        timer.set_deadline(timer.count() + step);
    };
    gic.taking(&seen, || {
        timer.set_deadline(timer.count() + step);
        timer.set_control(TimerControl::ENABLE);
        while taken.load(Relaxed) < 50 {
            wfi();
        }
    });
    timer.stop();
    let taken = taken.load(Relaxed);
    expect!(
        (50..1000).contains(&taken),
        "{taken} interrupts, where another one counts 1000"
    )
}

/// A shared interrupt that is made pending by another processor ends WFI.
#[case(spec = "DDI0487 D1.7 WFI", needs("cpus>=2"))]
fn shared_interrupt_ends_wfi(gic: &mut Gic, _timers: &mut Timers) -> Verdict {
    let spi = Intid::spi(40);
    gic.set_edge(spi, true);
    gic.route(spi, Cpu::BOOT);
    gic.set_enabled(spi, true);
    let late = last_resort(gic, time::ms(20_000))?;
    let gic = &*gic;
    let results = cpus::on_each([Cpu::BOOT, Cpu(1)].into_iter(), |cpu| {
        if cpu == Cpu::BOOT {
            return Some(wait_for_interrupt(gic));
        }
        time::spin(time::ms(2));
        gic.set_pending(spi, true);
        None
    })?;
    Timer::PHYSICAL.stop();
    expect_ne!(results[0], Some(late), "the wake-up")?;
    expect_eq!(results[0], Some(spi))
}
