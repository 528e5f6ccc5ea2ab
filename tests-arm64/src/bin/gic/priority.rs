//! Priorities: order, mask, preemption. Spec: IHI0048 3.3, IHI0069 4.8.
//!
//! Lower numbers are more urgent. What is pending is taken in order of priority; only what is more urgent
//! than the mask and than the running priority gets through. A hypervisor that only ever saw one
//! priority (as from Linux) may never have run this code.

use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use guest_lib::arch::fault::Frame;
use guest_lib::arch::gic::registers::{gicc, gicd};
use guest_lib::arch::gic::{Gic, Intid};
use guest_lib::arch::interrupts;
use guest_lib::arch::registers::{IccBpr1El1, IccCtlrEl1};
use guest_lib::prelude::*;

fn raise(gic: &Gic, n: u32, priority: u8) -> Intid {
    let intid = Intid::spi(n);
    gic.set_edge(intid, true);
    gic.set_priority(intid, priority);
    gic.set_enabled(intid, true);
    gic.set_pending(intid, true);
    intid
}

/// Pending interrupts are acknowledged in order of priority, not of INTID or arrival.
#[case(spec = "IHI0069 4.8; IHI0048 3.3")]
fn order_is_by_priority(gic: &mut Gic) -> Verdict {
    let priorities = [0x50, 0x20, 0x80, 0x10, 0x40, 0x70, 0x30, 0x60];
    for (i, priority) in priorities.into_iter().enumerate() {
        raise(gic, 64 + i as u32, priority);
    }
    // Priority 0x10 first, and so on.
    let mut expected: Vec<_> = priorities
        .iter()
        .enumerate()
        .map(|(i, p)| (*p, i))
        .collect();
    expected.sort_unstable();
    for (priority, i) in expected {
        let intid = Intid::spi(64 + i as u32);
        expect_eq!(gic.highest_pending(), intid)?;
        let iar = gic.acknowledge();
        expect_eq!(iar.intid(), intid)?;
        expect_eq!(gic.running_priority(), priority)?;
        gic.end(iar);
    }
    expect_eq!(gic.acknowledge().intid(), Intid::SPURIOUS)
}

/// An interrupt gets through exactly when it is more urgent than the mask.
#[case(spec = "IHI0069 12.2 ICC_PMR_EL1; IHI0048 4.4.2")]
fn mask_lets_more_urgent_through(gic: &mut Gic) -> Verdict {
    let intid = raise(gic, 64, 0x60);
    for (mask, through) in [
        (0x00, false),
        (0x50, false),
        (0x60, false),
        (0x70, true),
        (0xf0, true),
    ] {
        gic.set_mask(mask);
        let expected = if through { intid } else { Intid::SPURIOUS };
        let iar = gic.acknowledge();
        expect_eq!(iar.intid(), expected, "with mask {mask:#x}")?;
        if through {
            gic.end(iar);
            gic.set_pending(intid, true);
        }
    }
    Ok(())
}

/// The mask keeps the bits that priorities have, and no others.
#[case(spec = "IHI0069 12.2 ICC_PMR_EL1; IHI0048 4.4.2")]
fn mask_keeps_implemented_bits(gic: &mut Gic) -> Verdict {
    gic.set_mask(0xff);
    let bits = gic.mask();
    expect_eq!(
        bits.leading_ones() >= 4,
        true,
        "at least 16 levels, mask {bits:#x}"
    )?;
    expect_eq!(
        bits.leading_ones() + bits.trailing_zeros(),
        8,
        "implemented bits {bits:#x}"
    )?;
    for value in [0, 0x5a, 0xa5, 0x80, 0x10] {
        gic.set_mask(value);
        expect_eq!(gic.mask(), value & bits, "after {value:#x}")?;
    }
    Ok(())
}

/// While an interrupt is handled, only a more urgent one gets through.
#[case(spec = "IHI0069 4.8; IHI0048 3.3.1")]
fn running_priority_holds_back(gic: &mut Gic) -> Verdict {
    raise(gic, 64, 0x40);
    let running = gic.acknowledge();
    let less = raise(gic, 65, 0x60);
    expect_eq!(gic.acknowledge().intid(), Intid::SPURIOUS, "less urgent")?;
    raise(gic, 66, 0x40);
    expect_eq!(gic.acknowledge().intid(), Intid::SPURIOUS, "as urgent")?;
    let more = raise(gic, 67, 0x20);
    let preempting = gic.acknowledge();
    expect_eq!(preempting.intid(), more, "more urgent")?;
    expect_eq!(gic.running_priority(), 0x20)?;
    gic.end(preempting);
    expect_eq!(
        gic.running_priority(),
        0x40,
        "after the end of the more urgent one"
    )?;
    gic.end(running);
    let next = gic.acknowledge();
    expect_eq!(next.intid(), Intid::spi(66), "as urgent, later")?;
    gic.end(next);
    expect_eq!(gic.acknowledge().intid(), less)
}

/// Ever more urgent interrupts preempt each other's handlers, and end in reverse.
#[case(spec = "IHI0069 4.8; IHI0048 3.3.1")]
fn handlers_preempt_each_other(gic: &mut Gic) -> Verdict {
    const DEPTH: u32 = 6;
    let (entered, ended, wrong) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    let gic = &*gic;
    let handler = |_: &mut Frame| {
        let iar = gic.acknowledge();
        let depth = entered.fetch_add(1, SeqCst);
        if iar.intid() != Intid::spi(64 + depth) {
            wrong.fetch_add(1, SeqCst);
        }
        if depth + 1 < DEPTH {
            gic.set_pending(Intid::spi(64 + depth + 1), true);
            interrupts::unmask_irq();
            let inner = time::wait_until(time::PATIENCE, || entered.load(SeqCst) > depth + 1);
            interrupts::mask_irq();
            wrong.fetch_add(u32::from(!inner), SeqCst);
        }
        gic.end(iar);
        // The innermost one ends first.
        if ended.fetch_add(1, SeqCst) != DEPTH - 1 - depth {
            wrong.fetch_add(1, SeqCst);
        }
    };
    for n in 0..DEPTH {
        let intid = Intid::spi(64 + n);
        gic.set_edge(intid, true);
        gic.set_priority(intid, 0x80 - (n as u8) * 0x10);
        gic.set_enabled(intid, true);
    }
    interrupts::with_irq_handler(&handler, || {
        gic.set_pending(Intid::spi(64), true);
        interrupts::unmask_irq();
        time::wait_until(time::PATIENCE, || ended.load(SeqCst) == DEPTH);
        interrupts::mask_irq();
    });
    expect_eq!(
        (entered.load(SeqCst), ended.load(SeqCst)),
        (DEPTH, DEPTH),
        "(entered, ended)"
    )?;
    expect_eq!(wrong.load(SeqCst), 0, "wrong INTIDs or order")
}

/// The binary point keeps interrupts of one priority group from preempting each other.
#[case(spec = "IHI0069 12.2 ICC_BPR1_EL1; IHI0048 4.4.3")]
fn binary_point_groups_priorities(gic: &mut Gic) -> Verdict {
    // Group priority = bits 7:6 (binary point 5).
    let set = |point: u64| match gic.version() {
        3 => {
            // Group 1 counts one bit less as group priority.
            IccBpr1El1::write(point + 1);
            IccBpr1El1::read() == point + 1
        }
        _ => {
            gic.cpu_interface().write32(gicc::BPR, point as u32);
            gic.cpu_interface().read32(gicc::BPR) == point as u32
        }
    };
    expect_eq!(set(5), true, "the binary point reads back")?;
    raise(gic, 64, 0x70);
    let running = gic.acknowledge();
    raise(gic, 65, 0x50);
    expect_eq!(
        gic.acknowledge().intid(),
        Intid::SPURIOUS,
        "of the same group"
    )?;
    let more = raise(gic, 66, 0x30);
    let preempting = gic.acknowledge();
    expect_eq!(preempting.intid(), more, "of a more urgent group")?;
    gic.end(preempting);
    gic.end(running);
    let next = gic.acknowledge();
    expect_eq!(next.intid(), Intid::spi(65), "after the end")?;
    gic.end(next);
    set(2);
    Ok(())
}

/// Every INTID's priority has the same implemented bits, at least the upper four.
#[case(spec = "IHI0069 12.9 GICD_IPRIORITYR<n>; IHI0048 4.3.11")]
fn priorities_have_the_same_bits(gic: &mut Gic) -> Verdict {
    gic.set_priority(Intid(32), 0xff);
    let first_spi = gic.priority(Intid(32));
    for n in 0..gic.lines() {
        gic.set_priority(Intid(n), 0xff);
        let bits = gic.priority(Intid(n));
        expect_eq!(bits.leading_ones() >= 4, true, "INTID {n}: {bits:#x}")?;
        expect_eq!(bits, first_spi, "INTID {n} as the first SPI")?;
        gic.set_priority(Intid(n), 0);
        expect_eq!(gic.priority(Intid(n)), 0, "INTID {n}")?;
    }
    Ok(())
}

/// A word of priorities keeps a pattern in its implemented bits, and bytes reach their own lane.
#[case(spec = "IHI0069 12.9 GICD_IPRIORITYR<n>; IHI0048 4.3.11")]
fn priority_lanes_are_bytes(gic: &mut Gic) -> Verdict {
    let d = gic.distributor();
    let word = gicd::IPRIORITYR + u64::from(gic.lines() - 4);
    d.write32(word, !0);
    let mask = d.read32(word);
    expect_eq!(
        mask.to_ne_bytes(),
        [mask as u8; 4],
        "implemented bits of the last word"
    )?;
    d.write32(word, 0);
    expect_eq!(d.read32(word), 0)?;
    const PATTERN: u32 = 0xff7f_bf3f;
    d.write32(word, PATTERN);
    expect_eq!(d.read32(word), PATTERN & mask)?;
    for lane in 0..4 {
        let expected = (PATTERN & mask) >> (8 * lane) & 0xff;
        expect_eq!(u32::from(d.read8(word + lane)), expected, "byte {lane}")?;
    }
    d.write8(word + 1, 0x50);
    let changed = PATTERN & mask & !0xff00 | 0x5000 & mask;
    expect_eq!(d.read32(word), changed, "after a write of byte 1")
}

/// The number of priority bits that the CPU interface states is that of the registers.
#[case(spec = "IHI0069 12.2 ICC_CTLR_EL1", needs("arm64.gicv3"))]
fn pribits_states_the_implemented_bits(gic: &mut Gic) -> Verdict {
    gic.set_mask(0xff);
    let stated = (IccCtlrEl1::read() >> 8 & 7) as u32 + 1;
    expect_eq!((4..=8).contains(&stated), true, "{stated} bits")?;
    expect_eq!(gic.mask().leading_ones(), stated)
}
