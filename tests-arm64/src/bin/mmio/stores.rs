//! Stores to a device. Spec: DDI0487 C3.2.
//!
//! The priorities of the interrupt controller are bytes that can be written one at a time or four at once.
//! A store must change those of its own size and address only, take its value from the right
//! register (31 is zero as a source, and the stack pointer as a base), and be followed by the next
//! instruction.

use crate::access::{Outcome, before, done, expect_registers, run};
use guest_lib::arch::gic::{Gic, registers::gicd};
use guest_lib::arch::probe::Registers;
use guest_lib::arch::snippets::{self, Snippet};
use guest_lib::prelude::*;

const AT: u64 = gicd::IPRIORITYR + 40;
/// What the three words around hold before.
const OLD: [u32; 3] = [0x9090_9090, 0x6060_6060, 0x7070_7070];

fn prepare(gic: &Gic) -> Registers {
    for (i, word) in OLD.into_iter().enumerate() {
        gic.distributor().write32(AT - 4 + i as u64 * 4, word);
    }
    let mut registers = before(gic.distributor().base() + AT);
    registers.x[0] = 0xffff_ffff_2040_80c0;
    registers.x[2] = 0xffff_ffff_a0b0_1030;
    registers.x[30] = 0xffff_ffff_2040_80c0;
    registers.q[0] = [0xffff_ffff_2040_80c0, !0];
    registers
}

fn expect_words(gic: &Gic, expected: [u32; 3]) -> Verdict {
    let words: [u32; 3] = core::array::from_fn(|i| gic.distributor().read32(AT - 4 + i as u64 * 4));
    expect_eq!(words, expected, "the registers around")
}

/// A store with a full syndrome changes its own bytes, and no register.
#[case(
    spec = "DDI0487 C3.2",
    rows(
        strb: (snippets::STRB, 0x6060_60c0),
        str_w: (snippets::STR_W, 0x2040_80c0),
        strb_wzr: (snippets::STRB_WZR, 0x6060_6000),
        str_wzr: (snippets::STR_WZR, 0),
        stlr_w: (snippets::STLR_W, 0x2040_80c0),
        str_w30_to_sp: (snippets::STR_W30_SP, 0x2040_80c0)
    )
)]
fn store_changes_its_own_bytes(gic: &mut Gic, row: (Snippet, u32)) -> Verdict {
    let (snippet, expected) = row;
    let registers = prepare(gic);
    let after = done(snippet, &registers)?;
    expect_registers(&after, &registers)?;
    expect_words(gic, [OLD[0], expected, OLD[2]])
}

/// A byte store reaches the byte of its address.
#[case(spec = "DDI0487 C3.2 STRB")]
fn byte_stores_have_addresses(gic: &mut Gic) -> Verdict {
    for i in 0..4 {
        let mut registers = prepare(gic);
        registers.x[1] += i;
        done(snippets::STRB, &registers)?;
        let expected = OLD[1] & !(0xff << (8 * i)) | 0xc0 << (8 * i);
        expect_words(gic, [OLD[0], expected, OLD[2]])?;
    }
    Ok(())
}

/// A store without a full syndrome is done right, or refused without changing anything.
#[case(
    spec = "DDI0487 C3.2",
    rows(
        post_index: (snippets::STR_POST, [OLD[0], 0x2040_80c0, OLD[2]], 0),
        pre_index: (snippets::STR_PRE, [OLD[0], 0x2040_80c0, OLD[2]], 4),
        stp_w: (snippets::STP_W, [OLD[0], 0x2040_80c0, 0xa0b0_1030], 0),
        str_s: (snippets::STR_S, [OLD[0], 0x2040_80c0, OLD[2]], 0)
    )
)]
fn undescribed_store_is_right_or_refused(gic: &mut Gic, row: (Snippet, [u32; 3], u64)) -> Verdict {
    let (snippet, expected, ahead) = row;
    let mut registers = prepare(gic);
    registers.x[1] -= ahead;
    let Outcome::Done(after) = run(snippet, &registers)? else {
        note!("refused");
        return expect_words(gic, OLD);
    };
    let indexed = expected[2] == OLD[2] && snippet.words() != snippets::STR_S.words();
    let mut left = registers;
    left.x[1] += if indexed { 4 } else { 0 };
    expect_registers(&after, &left)?;
    expect_words(gic, expected)
}

/// Writing ones to set and to clear acts once per store and leaves the other bits.
#[case(spec = "DDI0487 C3.2 STR")]
fn set_and_clear_registers_act(gic: &mut Gic) -> Verdict {
    let distributor = gic.distributor();
    let word = |offset: u64| distributor.base() + offset + 4;
    let store = |offset: u64, value: u64| {
        let mut registers = before(word(offset));
        registers.x[0] = value;
        done(snippets::STR_W, &registers)
    };
    store(gicd::ISENABLER, 0x0000_0300)?;
    expect_eq!(distributor.read32(gicd::ISENABLER + 4), 0x300)?;
    store(gicd::ICENABLER, 0x0000_0100)?;
    expect_eq!(distributor.read32(gicd::ISENABLER + 4), 0x200)?;
    store(gicd::ISENABLER, 0)?;
    expect_eq!(distributor.read32(gicd::ISENABLER + 4), 0x200)?;
    store(gicd::ICENABLER, 0x0000_0200)?;
    expect_eq!(distributor.read32(gicd::ISENABLER + 4), 0)
}
