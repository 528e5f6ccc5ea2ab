//! The guest's clock: the time-stamp counter, and its frequency from whoever knows it.

use super::{cpu, cpuid};
use core::sync::atomic::{AtomicU64, Ordering};

/// The time-stamp counter.
pub fn ticks() -> u64 {
    cpu::rdtsc()
}

/// Its frequency in Hz, found on first use.
///
/// Sources, best first: CPUID 15h, the hypervisor timing leaf 4000_0010h, the PIT. A machine with
/// none of them is taken to run at 4 GHz: limits come out too long, never too short.
pub fn ticks_per_second() -> u64 {
    static HZ: AtomicU64 = AtomicU64::new(0);
    let known = HZ.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    let hz = from_cpuid()
        .or_else(from_hypervisor)
        .or_else(from_pit)
        .unwrap_or(4_000_000_000);
    HZ.store(hz, Ordering::Relaxed);
    hz
}

fn from_cpuid() -> Option<u64> {
    if cpuid::max_leaf() < 0x15 {
        return None;
    }
    let leaf = cpuid::query(0x15, 0);
    let known = leaf.eax != 0 && leaf.ebx != 0 && leaf.ecx != 0;
    known.then(|| u64::from(leaf.ecx) * u64::from(leaf.ebx) / u64::from(leaf.eax))
}

fn from_hypervisor() -> Option<u64> {
    let has_hypervisor = cpuid::query(1, 0).ecx >> 31 & 1 != 0;
    if !has_hypervisor || !(0x4000_0010..0x4000_0100).contains(&cpuid::query(0x4000_0000, 0).eax) {
        return None;
    }
    let khz = cpuid::query(0x4000_0010, 0).eax;
    (khz != 0).then(|| u64::from(khz) * 1000)
}

/// Counts TSC ticks while PIT channel 2 counts down 10 ms. A processor that loses its host CPU in
/// between sees too many, so the least of three counts.
fn from_pit() -> Option<u64> {
    (0..3).filter_map(|_| pit_once()).min()
}

fn pit_once() -> Option<u64> {
    const HZ: u64 = 1_193_182;
    const COUNT: u64 = HZ / 100;
    // Gate off, speaker off; channel 2, both bytes, mode 0; then gate on.
    let control = cpu::inb(0x61) & !3;
    cpu::outb(0x61, control);
    cpu::outb(0x43, 0xb0);
    cpu::outb(0x42, COUNT as u8);
    cpu::outb(0x42, (COUNT >> 8) as u8);
    cpu::outb(0x61, control | 1);
    let start = cpu::rdtsc();
    let mut running = false;
    for _ in 0..2_000_000 {
        if cpu::inb(0x61) & 0x20 == 0 {
            running = true;
            continue;
        }
        let elapsed = cpu::rdtsc() - start;
        // An absent PIT reads as all ones at once, however slow or fast the processor is.
        return running.then(|| elapsed * HZ / COUNT);
    }
    None
}
