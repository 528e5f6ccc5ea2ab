//! What holds for both versions alike, for cases that cite the manual of one. Spec: IHI0048 4.3, IHI0069 12.9.

use guest_lib::arch::gic::{Gic, Intid};
use guest_lib::prelude::*;

/// A read-only register of the distributor keeps its value whatever is written.
pub fn expect_read_only(gic: &Gic, register: u64) -> Verdict {
    let d = gic.distributor();
    let before = d.read32(register);
    for value in [!0, 0xa5a5_5a5a, 0] {
        d.write32(register, value);
        expect_eq!(d.read32(register), before, "after {value:#x}")?;
    }
    Ok(())
}

/// The first word of `bank` beyond the implemented interrupts, of which a byte holds `per_byte`, reads as
/// zero and ignores writes.
pub fn expect_razwi_beyond(gic: &Gic, bank: u64, per_byte: u64) -> Verdict {
    let lines = u64::from(gic.lines());
    if lines >= 1020 {
        // Nothing lies beyond: the banks are full, and the case shows only that.
        return expect_eq!(lines, 1020);
    }
    let register = bank + lines / per_byte;
    gic.distributor().write32(register, !0);
    let after = gic.distributor().read32(register);
    gic.distributor().write32(register, 0);
    expect_eq!(after, 0, "the word of INTID {lines}")
}

/// Makes `intid` an enabled edge-triggered interrupt, and opens every processor's interface.
pub fn ready(gic: &Gic, intid: Intid) -> Result<(), Stop> {
    gic.set_edge(intid, true);
    gic.set_enabled(intid, true);
    for cpu in cpus::others() {
        cpus::run_on(cpu, || gic.init_cpu())?;
    }
    Ok(())
}

/// Acknowledges and ends what is pending for this processor, if anything; its number.
pub fn take(gic: &Gic) -> Intid {
    let iar = gic.acknowledge();
    if !iar.is_spurious() {
        gic.end(iar);
    }
    iar.intid()
}

/// Routed to each processor in turn, SPI `intid` arrives there and nowhere else.
pub fn expect_to_follow_its_route(gic: &Gic, intid: Intid) -> Verdict {
    ready(gic, intid)?;
    for target in cpus::all() {
        gic.route(intid, target);
        gic.set_pending(intid, true);
        for cpu in cpus::all().filter(|&c| c != target) {
            let there = cpus::run_on(cpu, || gic.acknowledge().intid())?;
            let what = format!("CPU {} with target {}", cpu.0, target.0);
            expect_eq!(there, Intid::SPURIOUS, "{what}")?;
        }
        let there = cpus::run_on(target, || take(gic))?;
        expect_eq!(there, intid, "target {}", target.0)?;
    }
    Ok(())
}

/// SPI `intid`, which several processors may handle, is handled by one of them each time.
pub fn expect_one_handler(gic: &Gic, intid: Intid) -> Verdict {
    for round in 0..20 {
        gic.set_pending(intid, true);
        let taken = cpus::on_all(|_| take(gic))?;
        let count = taken.iter().filter(|i| **i == intid).count();
        expect_eq!(count, 1, "handlers in round {round}: {taken:?}")?;
    }
    Ok(())
}
