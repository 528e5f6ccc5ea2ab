//! Interrupts that the host makes. Spec: SDM 3A 6.7, 11.8, 11.11.
//!
//! An injected interrupt is a promise to deliver: once, to the processor that was named, when that
//! processor is ready for it. Lost, doubled and misrouted interrupts all look alike to a guest that
//! does not count.

use core::sync::atomic::{AtomicU64, Ordering};
use guest_lib::arch::{apic, cpu};
use guest_lib::prelude::*;
use guest_lib::service::{inject, inject_interrupt};

/// Interrupts taken, 16 bits per processor for the first four.
static TAKEN: AtomicU64 = AtomicU64::new(0);

fn mark() {
    TAKEN.fetch_add(1 << (16 * (cpus::this().0 % 4)), Ordering::SeqCst);
}

fn counting(vector: u8) -> fault::Handler {
    TAKEN.store(0, Ordering::SeqCst);
    fault::Handler::new(vector, move |_| {
        mark();
        if vector >= 32 {
            apic::eoi();
        }
    })
}

fn taken() -> u64 {
    TAKEN.load(Ordering::SeqCst)
}

/// A message-signalled interrupt is taken once.
#[case(spec = "SDM 3A 11.11", needs("service.inject"))]
fn message_is_taken_once() -> Verdict {
    apic::enable(0xff);
    let _handler = counting(0x75);
    for round in 1..=5 {
        inject_interrupt(0, inject::MSI, 0x75)?;
        cpu::with_interrupts(|| {
            time::wait_until(time::ms(1000), || taken() >= round);
            time::spin(time::ms(2));
        });
        expect_eq!(taken(), round)?;
    }
    Ok(())
}

/// A message waits until interrupts are on.
#[case(spec = "SDM 3A 6.8.1", needs("service.inject"))]
fn message_waits_for_the_interrupt_flag() -> Verdict {
    apic::enable(0xff);
    let _handler = counting(0x76);
    inject_interrupt(0, inject::MSI, 0x76)?;
    time::spin(time::ms(1));
    expect_eq!(taken(), 0, "interrupts are off")?;
    expect!(apic::is_pending(0x76), "it is not pending either")?;
    cpu::with_interrupts(|| time::wait_until(time::ms(1000), || taken() != 0));
    expect_eq!(taken(), 1)
}

/// A message with a vector at or below the task priority waits.
#[case(spec = "SDM 3A 11.8.3.1", needs("service.inject"))]
fn message_waits_for_the_task_priority() -> Verdict {
    apic::enable(0xff);
    let _handler = counting(0x51);
    cpu::write_cr8(5)?;
    inject_interrupt(0, inject::MSI, 0x51)?;
    cpu::with_interrupts(|| time::spin(time::ms(1)));
    let early = taken();
    cpu::write_cr8(0)?;
    cpu::with_interrupts(|| time::wait_until(time::ms(1000), || taken() != 0));
    expect_eq!(
        (early, taken()),
        (0, 1),
        "taken above and below the priority"
    )
}

/// A message reaches the processor it names and no other.
#[case(spec = "SDM 3A 11.11.1", needs("cpus>=2", "service.inject"))]
fn message_reaches_the_processor_it_names() -> Verdict {
    let n = cpus::count().min(4);
    let _handler = counting(0x78);
    let stop = AtomicU64::new(0);
    let ready = AtomicU64::new(0);
    let verdicts = cpus::on_each((0..n).map(Cpu), |cpu| {
        apic::enable(0xff);
        if cpu != Cpu::BOOT {
            cpu::with_interrupts(|| {
                ready.fetch_add(1, Ordering::SeqCst);
                while stop.load(Ordering::SeqCst) == 0 {
                    cpu::relax();
                }
            });
            return Ok(());
        }
        let send = || -> Verdict {
            let all = || ready.load(Ordering::SeqCst) == n as u64 - 1;
            expect!(
                time::wait_until(time::PATIENCE, all),
                "not all processors are ready"
            )?;
            let mut expected = 0;
            for target in 1..n {
                inject_interrupt(target, inject::MSI, 0x78)?;
                expected += 1u64 << (16 * target);
                cpu::with_interrupts(|| time::wait_until(time::ms(1000), || taken() == expected));
                expect_eq!(taken(), expected, "after the message to CPU {target}")?;
            }
            Ok(())
        };
        let verdict = send();
        stop.store(1, Ordering::SeqCst);
        verdict
    })?;
    verdicts
        .into_iter()
        .collect::<Result<Vec<()>, Stop>>()
        .map(|_| ())
}

/// An NMI is taken once, whether interrupts are on or off.
#[case(spec = "SDM 3A 6.7", needs("service.inject"))]
fn nmi_is_taken_once() -> Verdict {
    let _handler = counting(2);
    for round in 1..=4 {
        inject_interrupt(0, inject::NMI, 0)?;
        time::wait_until(time::ms(1000), || taken() >= round);
        time::spin(time::ms(1));
        expect_eq!(taken(), round)?;
    }
    Ok(())
}

/// While an NMI is handled the next one waits, and only one waits.
#[case(spec = "SDM 3A 6.7.1", needs("service.inject"))]
fn nmi_waits_for_the_end_of_the_one_before() -> Verdict {
    static DEPTH: AtomicU64 = AtomicU64::new(0);
    static DEEPEST: AtomicU64 = AtomicU64::new(0);
    TAKEN.store(0, Ordering::SeqCst);
    DEEPEST.store(0, Ordering::SeqCst);
    let _handler = fault::Handler::new(2, |_| {
        let depth = DEPTH.fetch_add(1, Ordering::SeqCst) + 1;
        DEEPEST.fetch_max(depth, Ordering::SeqCst);
        if TAKEN.fetch_add(1, Ordering::SeqCst) == 0 {
            // A failure shows as a count that is too low.
            let _ = inject_interrupt(0, inject::NMI, 0);
            time::spin(time::us(200));
        }
        DEPTH.fetch_sub(1, Ordering::SeqCst);
    });
    inject_interrupt(0, inject::NMI, 0)?;
    time::wait_until(time::ms(1000), || taken() >= 2);
    time::spin(time::ms(1));
    expect_eq!(DEEPEST.load(Ordering::SeqCst), 1, "NMIs nested")?;
    expect_eq!(taken(), 2, "NMIs taken")
}
