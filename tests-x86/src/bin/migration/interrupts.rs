//! The local APIC, the I/O APIC and what they hold back. Spec: SDM 3A 11.
//!
//! What is pending, in service or armed when the machine stops must be so when it goes on: once,
//! not never and not twice.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use guest_lib::arch::apic::{self, Register};
use guest_lib::arch::code::Code;
use guest_lib::arch::{cpu, msr, smp};
use guest_lib::prelude::*;
use guest_lib::service::{self, Request};

static COUNT: AtomicU32 = AtomicU32::new(0);

fn counting(vector: u8) -> fault::Handler {
    COUNT.store(0, Ordering::SeqCst);
    fault::Handler::new(vector, |_| {
        COUNT.fetch_add(1, Ordering::SeqCst);
        apic::eoi();
    })
}

fn count() -> u32 {
    COUNT.load(Ordering::SeqCst)
}

fn self_ipi(vector: u8) {
    apic::send_ipi(apic::id(), apic::ICR_FIXED | u32::from(vector));
}

/// Takes what is pending, for a while.
fn open_for(time: time::Duration) {
    cpu::with_interrupts(|| time::spin(time));
}

/// Whether the bit of `vector` is set in the 256-bit register that starts at `first`.
fn bit(first: Register, vector: u8) -> bool {
    let word = Register(first.0 + u32::from(vector / 32) * 0x10);
    apic::read(word) >> (vector % 32) & 1 != 0
}

fn pending_once(request: Request) -> Verdict {
    apic::enable(0xff);
    let _handler = counting(0x61);
    self_ipi(0x61);
    expect!(
        bit(Register::IRR, 0x61),
        "the interrupt is not pending at first"
    )?;
    service::ask(request)?;
    expect_eq!(count(), 0, "taken with interrupts off")?;
    expect!(
        bit(Register::IRR, 0x61),
        "the interrupt is no longer pending"
    )?;
    let came = cpu::with_interrupts(|| time::wait_until(time::PATIENCE, || count() != 0));
    expect!(came, "the interrupt does not come")?;
    open_for(time::ms(2));
    expect_eq!(count(), 1)?;
    expect!(!bit(Register::IRR, 0x61), "it is still pending")
}

/// An interrupt that is pending in the IRR comes after the move, once.
#[case(spec = "SDM 3A 11.8.3 IRR", needs("service.migrate"))]
fn pending_interrupt_comes_once() -> Verdict {
    pending_once(Request::Migrate)
}

/// The same in a machine that was saved and restored.
#[case(spec = "SDM 3A 11.8.3 IRR", needs("service.save_restore"))]
fn saved_pending_interrupt_comes_once() -> Verdict {
    pending_once(Request::SaveRestore)
}

/// An interrupt in service holds back those of its class and below until its EOI.
#[case(spec = "SDM 3A 11.8.3 ISR", needs("service.migrate"))]
fn interrupt_in_service_stays_so() -> Verdict {
    static ENTERED: AtomicU32 = AtomicU32::new(0);
    ENTERED.store(0, Ordering::SeqCst);
    apic::enable(0xff);
    let _low = counting(0x51);
    let _high = fault::Handler::new(0x91, |_| {
        ENTERED.fetch_add(1, Ordering::SeqCst);
        // No EOI: it stays in service.
    });
    self_ipi(0x91);
    let entered = || ENTERED.load(Ordering::SeqCst) == 1;
    let came = cpu::with_interrupts(|| time::wait_until(time::PATIENCE, entered));
    expect!(came, "the first interrupt does not come")?;
    self_ipi(0x51);
    let moved = service::ask(Request::Migrate);
    let in_service = bit(Register::ISR, 0x91);
    open_for(time::ms(5));
    let early = count();
    apic::eoi();
    let late = cpu::with_interrupts(|| time::wait_until(time::PATIENCE, || count() == 1));
    moved?;
    expect!(in_service, "the interrupt is no longer in service")?;
    expect_eq!(early, 0, "the lower one was taken before the EOI")?;
    expect!(late, "the lower one does not come after the EOI")?;
    expect_eq!(ENTERED.load(Ordering::SeqCst), 1, "the higher one")
}

/// The task priority holds back what it held back before the move, and lets it through when it
/// falls.
#[case(spec = "SDM 3A 11.8.3.1 TPR", needs("service.migrate"))]
fn task_priority_still_holds_back() -> Verdict {
    apic::enable(0xff);
    let _handler = counting(0x73);
    cpu::write_cr8(7)?;
    self_ipi(0x73);
    let moved = service::ask(Request::Migrate);
    let (cr8, tpr) = (cpu::read_cr8(), apic::read(Register::TPR));
    open_for(time::ms(2));
    let held = count();
    cpu::write_cr8(0)?;
    let came = cpu::with_interrupts(|| time::wait_until(time::PATIENCE, || count() == 1));
    moved?;
    expect_eq!((cr8, tpr), (7, 0x70), "CR8 and TPR")?;
    expect_eq!(held, 0, "taken in spite of the priority")?;
    expect!(came, "it does not come when the priority falls")
}

/// The registers that software sets keep their values.
#[case(spec = "SDM 3A 11.4.1", needs("service.migrate"))]
fn registers_keep_their_values() -> Verdict {
    const SET: [(Register, u32); 6] = [
        (Register::SVR, 0x1ef),
        (Register::LVT_TIMER, 0x1_0042),
        (Register::LVT_LINT0, 0x1_0043),
        (Register::LVT_LINT1, 0x1_0044),
        (Register::LVT_ERROR, 0x1_0045),
        (Register::DIVIDE, 0x9),
    ];
    let before: Vec<u32> = SET.iter().map(|(r, _)| apic::read(*r)).collect();
    for (register, value) in SET {
        apic::write(register, value)?;
    }
    let all = || -> Vec<u32> {
        let fixed = [Register::ID, Register::VERSION, Register::LDR];
        fixed
            .into_iter()
            .chain(SET.map(|s| s.0))
            .map(apic::read)
            .collect()
    };
    let set = all();
    let moved = service::ask(Request::Migrate);
    let after = all();
    for ((register, _), value) in SET.iter().zip(before) {
        apic::write(*register, value)?;
    }
    moved?;
    expect_eq!(after, set)?;
    // Control: they are not the values of a reset.
    expect_eq!(after[4], 0x1_0042)
}

/// APIC timer ticks per 100 000 TSC ticks, at the divider that is set.
fn timer_rate() -> Result<u64, Stop> {
    apic::write(Register::LVT_TIMER, 1 << 16)?;
    apic::write(Register::INITIAL_COUNT, !0)?;
    let (count, start) = (apic::read(Register::CURRENT_COUNT), time::now());
    time::spin(time::ms(20));
    let (now, end) = (apic::read(Register::CURRENT_COUNT), time::now());
    apic::write(Register::INITIAL_COUNT, 0)?;
    Ok(u64::from(count - now) * 100_000 / (end - start))
}

fn armed_timer(request: Request) -> Verdict {
    static FIRED: AtomicU64 = AtomicU64::new(0);
    FIRED.store(0, Ordering::SeqCst);
    apic::enable(0xff);
    apic::write(Register::DIVIDE, 0xb)?;
    let rate = timer_rate()?;
    COUNT.store(0, Ordering::SeqCst);
    let _handler = fault::Handler::new(0x74, |_| {
        FIRED.store(time::now(), Ordering::SeqCst);
        COUNT.fetch_add(1, Ordering::SeqCst);
        apic::eoi();
    });
    let length = time::ticks(time::ms(1500));
    apic::write(Register::LVT_TIMER, 0x74)?;
    let armed = time::now();
    apic::write(Register::INITIAL_COUNT, (length * rate / 100_000) as u32)?;
    let moved = service::ask(request);
    let left = apic::read(Register::CURRENT_COUNT);
    let came = cpu::with_interrupts(|| time::wait_until(time::PATIENCE, || count() != 0));
    open_for(time::ms(20));
    apic::write(Register::LVT_TIMER, 1 << 16)?;
    apic::write(Register::INITIAL_COUNT, 0)?;
    moved?;
    expect!(came, "the timer does not fire")?;
    expect_eq!(count(), 1)?;
    let took = FIRED.load(Ordering::SeqCst).wrapping_sub(armed);
    note!(
        "fired after {:?} instead of 1.5s; {left} left after the move",
        time::duration(took)
    );
    // The rate was measured, so a tenth is allowed.
    expect!(
        took >= length / 10 * 9,
        "it fired after {took} of {length} ticks"
    )
}

/// A timer that was armed before the move fires after it: once, and not before its time.
#[case(spec = "SDM 3A 11.5.4", needs("service.migrate"))]
fn armed_timer_fires_once_and_not_early() -> Verdict {
    armed_timer(Request::Migrate)
}

/// The same in a machine that was saved and restored.
#[case(spec = "SDM 3A 11.5.4", needs("service.save_restore"))]
fn saved_timer_fires_once_and_not_early() -> Verdict {
    armed_timer(Request::SaveRestore)
}

/// A periodic timer goes on.
#[case(spec = "SDM 3A 11.5.4", needs("service.migrate"))]
fn periodic_timer_goes_on() -> Verdict {
    apic::enable(0xff);
    let _handler = counting(0x75);
    apic::write(Register::DIVIDE, 0xb)?;
    let period = time::ticks(time::ms(10)) * timer_rate()? / 100_000;
    apic::write(Register::LVT_TIMER, 1 << 17 | 0x75)?;
    apic::write(Register::INITIAL_COUNT, period as u32)?;
    let before = cpu::with_interrupts(|| time::wait_until(time::PATIENCE, || count() >= 3));
    let moved = service::ask(Request::Migrate);
    let mark = count();
    let after = cpu::with_interrupts(|| time::wait_until(time::PATIENCE, || count() >= mark + 3));
    apic::write(Register::LVT_TIMER, 1 << 16)?;
    apic::write(Register::INITIAL_COUNT, 0)?;
    open_for(time::ms(1));
    moved?;
    expect!(before, "it does not run before the move")?;
    expect!(after, "it does not run after the move")
}

/// A halted processor wakes by an interrupt after the move, and not before.
#[case(spec = "SDM 3A 11.6.1 ICR", needs("service.migrate", "cpus>=2"))]
fn halted_processor_wakes() -> Verdict {
    static HALTING: AtomicBool = AtomicBool::new(false);
    HALTING.store(false, Ordering::SeqCst);
    let _handler = counting(0x76);
    let job = cpus::spawn_on(Cpu(1), || {
        apic::enable(0xff);
        HALTING.store(true, Ordering::SeqCst);
        cpu::wait_for_interrupt();
        count()
    })?;
    let halting = || HALTING.load(Ordering::SeqCst);
    expect!(
        time::wait_until(time::PATIENCE, halting),
        "CPU 1 does not come up"
    )?;
    time::spin(time::ms(2));
    service::ask(Request::Migrate)?;
    expect_eq!(count(), 0, "an interrupt that nobody sent")?;
    expect!(!job.is_done(), "the processor woke without an interrupt")?;
    apic::send_ipi(smp::apic_id(1), apic::ICR_FIXED | 0x76);
    expect_eq!(job.join_within(time::PATIENCE)?, 1)
}

/// The redirection table of the I/O APIC keeps its entries.
#[case(spec = "SDM 3A 11.1", needs("service.migrate"))]
fn io_apic_keeps_its_entries() -> Verdict {
    // mov eax, 0xfec00000; mov [rax], edi; then mov [rax + 16], esi or mov eax, [rax + 16].
    let write = Code::new(&[0xb8, 0, 0, 0xc0, 0xfe, 0x89, 0x38, 0x89, 0x70, 0x10]);
    let read = Code::new(&[0xb8, 0, 0, 0xc0, 0xfe, 0x89, 0x38, 0x8b, 0x40, 0x10]);
    let entries = 0x10..0x10 + 2 * 24u64;
    let all = || -> Result<Vec<u64>, Fault> { entries.clone().map(|i| read.run(i, 0)).collect() };
    let before = all()?;
    for pin in 0..24u64 {
        // Masked, fixed, edge, with a vector of its own.
        write.run(0x10 + 2 * pin, 1 << 16 | (0x40 + pin))?;
        write.run(0x11 + 2 * pin, pin << 24)?;
    }
    let set = all()?;
    let moved = service::ask(Request::Migrate);
    let after = all()?;
    for (i, value) in entries.clone().zip(before) {
        write.run(i, value)?;
    }
    moved?;
    expect_eq!(after, set)?;
    expect_eq!(
        after[2 * 5] & 0x1_00ff,
        0x1_0045,
        "control: the entry of pin 5"
    )
}

/// An NMI that the host injects reaches the processors, also after the move.
#[case(spec = "SDM 3A 6.7", needs("service.migrate", "service.inject"))]
fn injected_nmi_comes() -> Verdict {
    COUNT.store(0, Ordering::SeqCst);
    let _handler = fault::Handler::new(2, |_| {
        COUNT.fetch_add(1, Ordering::SeqCst);
    });
    for _ in 0..2 {
        let before = count();
        service::ask(Request::InjectNmi)?;
        let came = time::wait_until(time::PATIENCE, || count() != before);
        expect!(came, "no NMI comes")?;
        service::ask(Request::Migrate)?;
    }
    Ok(())
}

/// The local APIC of this processor in x2APIC mode; back to what it was on drop.
struct X2Apic(u64);

impl X2Apic {
    fn new() -> Result<Self, Stop> {
        let before = msr::read(msr::APIC_BASE)?;
        let mode = X2Apic(before);
        msr::write(msr::APIC_BASE, before | apic::BASE_EXTD)?;
        apic::enable(0xff);
        Ok(mode)
    }
}

impl Drop for X2Apic {
    fn drop(&mut self) {
        if self.0 & apic::BASE_EXTD == 0 {
            // The one way back to xAPIC mode is by way of an APIC that is off.
            let off = self.0 & !(apic::BASE_ENABLE | apic::BASE_EXTD);
            let _ = msr::write(msr::APIC_BASE, off);
            let _ = msr::write(msr::APIC_BASE, self.0);
        }
        apic::enable(0xff);
    }
}

fn x2apic(request: Request) -> Verdict {
    const SET: [(Register, u32); 4] = [
        (Register::SVR, 0x1ef),
        (Register::LVT_TIMER, 0x1_0042),
        (Register::LVT_ERROR, 0x1_0045),
        (Register::DIVIDE, 0x9),
    ];
    let mode = X2Apic::new()?;
    let _handler = counting(0x63);
    let before = SET.map(|(register, _)| apic::read(register));
    for (register, value) in SET {
        apic::write(register, value)?;
    }
    cpu::write_cr8(2)?;
    let all = || {
        let fixed = [Register::ID, Register::LDR, Register::TPR].map(apic::read);
        let base = msr::read(msr::APIC_BASE);
        (base, fixed, SET.map(|(register, _)| apic::read(register)))
    };
    let set = all();
    apic::write(Register::SELF_IPI, 0x63)?;
    let moved = service::ask(request);
    let after = all();
    let pending = bit(Register::IRR, 0x63);
    let early = count();
    let came = cpu::with_interrupts(|| time::wait_until(time::PATIENCE, || count() != 0));
    open_for(time::ms(2));
    for ((register, _), value) in SET.iter().zip(before) {
        apic::write(*register, value)?;
    }
    cpu::write_cr8(0)?;
    drop(mode);
    moved?;
    expect_eq!(after, set, "APIC_BASE; ID, LDR, TPR; what was set")?;
    let control = after.0? & apic::BASE_EXTD != 0;
    expect!(control, "control: it is in x2APIC mode")?;
    expect_eq!(
        after.2,
        SET.map(|(_, value)| value),
        "control: what was set"
    )?;
    expect_eq!(early, 0, "taken with interrupts off")?;
    expect!(pending, "the self-IPI is no longer pending")?;
    expect!(came, "the self-IPI does not come")?;
    expect_eq!(count(), 1, "deliveries")
}

/// An APIC in x2APIC mode stays in it, with its registers and what is pending.
#[case(spec = "SDM 3A 11.12.1", needs("service.migrate", "x86.x2apic"))]
fn x2apic_mode_stays() -> Verdict {
    x2apic(Request::Migrate)
}

/// The same in a machine that was saved and restored.
#[case(spec = "SDM 3A 11.12.1", needs("service.save_restore", "x86.x2apic"))]
fn saved_x2apic_mode_stays() -> Verdict {
    x2apic(Request::SaveRestore)
}
