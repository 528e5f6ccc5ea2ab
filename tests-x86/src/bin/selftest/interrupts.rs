//! Interrupts with handlers. Spec: SDM 3A 6.3, 11.5, 11.6, 11.8.
//!
//! Cases about interrupts need a source they command, a handler that counts, and the certainty
//! that nothing comes which they did not ask for.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use guest_lib::arch::apic::{self, Register};
use guest_lib::arch::cpu;
use guest_lib::arch::registers::Rflags;
use guest_lib::prelude::*;

static COUNT: AtomicU32 = AtomicU32::new(0);

fn counting(vector: u8) -> fault::Handler {
    COUNT.store(0, Ordering::Relaxed);
    fault::Handler::new(vector, |_| {
        COUNT.fetch_add(1, Ordering::Relaxed);
        apic::eoi();
    })
}

fn count() -> u32 {
    COUNT.load(Ordering::Relaxed)
}

/// A self-IPI waits for RFLAGS.IF, then arrives once.
#[case(spec = "SDM 3A 11.6.1 ICR")]
fn self_ipi_waits_for_the_interrupt_flag() -> Verdict {
    apic::enable(0xff);
    let _handler = counting(0x71);
    apic::send_ipi(apic::id(), apic::ICR_FIXED | 0x71);
    time::spin(time::us(50));
    expect_eq!(count(), 0)?;
    cpu::with_interrupts(|| {
        expect!(
            time::wait_until(time::PATIENCE, || count() == 1),
            "no interrupt"
        )
    })?;
    cpu::with_interrupts(|| time::spin(time::us(50)));
    expect_eq!(count(), 1)
}

/// The handler's frame tells the interrupted flags: IF was set, and is clear in the handler.
#[case(spec = "SDM 3A 6.12.1")]
fn handler_runs_with_interrupts_off() -> Verdict {
    static FLAGS: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];
    apic::enable(0xff);
    let _handler = fault::Handler::new(0x72, |frame| {
        FLAGS[0].store(frame.rflags, Ordering::Relaxed);
        FLAGS[1].store(cpu::rflags() | 1 << 63, Ordering::Relaxed);
        apic::eoi();
    });
    FLAGS[1].store(0, Ordering::Relaxed);
    apic::send_ipi(apic::id(), apic::ICR_FIXED | 0x72);
    let came = || FLAGS[1].load(Ordering::Relaxed) != 0;
    cpu::with_interrupts(|| expect!(time::wait_until(time::PATIENCE, came), "no interrupt"))?;
    let interrupt = Rflags::IF.bits();
    expect_eq!(FLAGS[0].load(Ordering::Relaxed) & interrupt, interrupt)?;
    expect_eq!(FLAGS[1].load(Ordering::Relaxed) & interrupt, 0)
}

/// Of two pending interrupts the one of the higher vector is taken first.
#[case(spec = "SDM 3A 11.8.3 IRR")]
fn higher_vector_is_taken_first() -> Verdict {
    static ORDER: AtomicU64 = AtomicU64::new(0);
    ORDER.store(0, Ordering::Relaxed);
    apic::enable(0xff);
    let note = |v: u64| ORDER.store(ORDER.load(Ordering::Relaxed) << 8 | v, Ordering::Relaxed);
    let _low = fault::Handler::new(0x51, move |_| {
        note(0x51);
        apic::eoi();
    });
    let _high = fault::Handler::new(0x91, move |_| {
        note(0x91);
        apic::eoi();
    });
    apic::send_ipi(apic::id(), apic::ICR_FIXED | 0x51);
    apic::send_ipi(apic::id(), apic::ICR_FIXED | 0x91);
    let both = || ORDER.load(Ordering::Relaxed) > 0xff;
    cpu::with_interrupts(|| expect!(time::wait_until(time::PATIENCE, both), "not both came"))?;
    expect_eq!(ORDER.load(Ordering::Relaxed), 0x9151)
}

/// The task priority holds back vectors of its class and below until it falls.
#[case(spec = "SDM 3A 11.8.3.1 TPR")]
fn task_priority_holds_interrupts_back() -> Verdict {
    apic::enable(0xff);
    let _handler = counting(0x73);
    cpu::write_cr8(7)?;
    apic::send_ipi(apic::id(), apic::ICR_FIXED | 0x73);
    cpu::with_interrupts(|| time::spin(time::us(100)));
    let held = count();
    cpu::write_cr8(6)?;
    let came = cpu::with_interrupts(|| time::wait_until(time::PATIENCE, || count() == 1));
    cpu::write_cr8(0)?;
    expect_eq!(held, 0)?;
    expect!(came, "the interrupt does not come when the priority falls")
}

/// The APIC timer in one-shot mode fires once, and its count stands at zero.
#[case(spec = "SDM 3A 11.5.4 LVT_TIMER")]
fn apic_timer_fires_once() -> Verdict {
    apic::enable(0xff);
    let _handler = counting(0x74);
    apic::write(Register::DIVIDE, 0xb)?;
    apic::write(Register::LVT_TIMER, 0x74)?;
    apic::write(Register::INITIAL_COUNT, 20_000)?;
    let came = cpu::with_interrupts(|| time::wait_until(time::PATIENCE, || count() == 1));
    cpu::with_interrupts(|| time::spin(time::ms(1)));
    let left = apic::read(Register::CURRENT_COUNT);
    apic::write(Register::LVT_TIMER, 1 << 16)?;
    apic::write(Register::INITIAL_COUNT, 0)?;
    expect!(came, "the timer does not fire")?;
    expect_eq!(count(), 1)?;
    expect_eq!(left, 0)
}

/// HLT ends with an interrupt, and STI; HLT loses none that was pending.
#[case(spec = "SDM 3A 5.9 HLT")]
fn halt_ends_with_an_interrupt() -> Verdict {
    apic::enable(0xff);
    let _handler = counting(0x75);
    for round in 1..=100 {
        apic::send_ipi(apic::id(), apic::ICR_FIXED | 0x75);
        // Returns only because the interrupt came.
        cpu::wait_for_interrupt();
        expect_eq!(count(), round)?;
    }
    Ok(())
}

/// An NMI comes whatever RFLAGS.IF says, and once.
#[case(spec = "SDM 3A 6.7")]
fn nmi_ignores_the_interrupt_flag() -> Verdict {
    COUNT.store(0, Ordering::Relaxed);
    let _handler = fault::Handler::new(2, |_| {
        COUNT.fetch_add(1, Ordering::Relaxed);
    });
    apic::enable(0xff);
    for round in 1..=3 {
        apic::send_ipi(apic::id(), apic::ICR_NMI);
        expect!(
            time::wait_until(time::PATIENCE, || count() >= round),
            "no NMI"
        )?;
        time::spin(time::us(50));
        expect_eq!(count(), round)?;
    }
    Ok(())
}
