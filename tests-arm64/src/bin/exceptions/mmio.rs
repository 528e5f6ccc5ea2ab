//! Device accesses of every form. Spec: DDI0487 C3.2.
//!
//! A hypervisor decodes a device access from the syndrome or from the instruction itself. Width, sign
//! extension, register and writeback must be right, and the instruction must retire exactly once. The
//! device here is the GIC's distributor: a word of priorities for reading and writing, set-enable and
//! clear-enable registers, which count a store as done once or not at all.

use guest_lib::arch::gic::registers::gicd;
use guest_lib::arch::gic::{Gic, Intid};
use guest_lib::arch::mmio::forms;
use guest_lib::prelude::*;

/// A word of priorities with a sign bit in each lane that matters.
struct Word {
    _gic: Gic,
    address: u64,
    value: u32,
}

impl Fixture for Word {
    fn fresh() -> Result<Self, Stop> {
        let gic = Gic::fresh()?;
        let register = gicd::IPRIORITYR + 64;
        gic.distributor().write32(register, 0x90a0_4080);
        gic.distributor().write32(register + 4, 0x7060_5040);
        let address = gic.distributor().base() + register;
        let value = gic.distributor().read32(register);
        expect_eq!(value, 0x90a0_4080, "the pattern")?;
        Ok(Word {
            _gic: gic,
            address,
            value,
        })
    }
}

/// A load gives the bytes of its width, extended as its form says.
#[case(
    spec = "DDI0487 C3.2",
    rows(
        ldrb: (forms::ldrb as fn(u64) -> u64, 0, 0x80),
        ldr_w: (forms::ldr_w, 0, 0x90a0_4080),
        ldrsb_w: (forms::ldrsb_w, 0, 0xffff_ff80),
        ldrsb_w_positive: (forms::ldrsb_w, 1, 0x40),
        ldrsb_x: (forms::ldrsb_x, 0, 0xffff_ffff_ffff_ff80),
        ldrsb_x_positive: (forms::ldrsb_x, 1, 0x40),
        ldrsw_x: (forms::ldrsw_x, 0, 0xffff_ffff_90a0_4080),
        ldrsw_x_positive: (forms::ldrsw_x, 4, 0x7060_5040),
        ldar_w: (forms::ldar_w, 0, 0x90a0_4080),
        ldur_w: (forms::ldur_w, 0, 0x90a0_4080),
    )
)]
fn load_is_extended_by_its_form(word: &mut Word, row: (fn(u64) -> u64, u64, u64)) -> Verdict {
    let (load, offset, expected) = row;
    let got = fault::catch(|| load(word.address + offset))?;
    expect_eq!(got, expected)
}

/// A load to WZR is thrown away.
#[case(spec = "DDI0487 C3.2")]
fn load_to_zero_register_is_discarded(word: &mut Word) -> Verdict {
    expect_eq!(fault::catch(|| forms::ldr_wzr(word.address))?, 0)
}

/// A store of WZR stores zero.
#[case(spec = "DDI0487 C3.2")]
fn store_of_zero_register_stores_zero(word: &mut Word) -> Verdict {
    fault::catch(|| forms::str_wzr(word.address))?;
    expect_eq!(forms::ldr_w(word.address), 0)?;
    expect_eq!(forms::ldr_w(word.address + 4), 0x7060_5040, "the next word")
}

/// Register 31 as base is the stack pointer, and x30 is a destination like any other.
#[case(spec = "DDI0487 C3.2")]
fn stack_pointer_can_be_the_base(word: &mut Word) -> Verdict {
    expect_eq!(
        fault::catch(|| forms::ldr_w30_sp(word.address))?,
        word.value.into()
    )
}

/// An access with writeback gives the right value and base, or a fault that leaves both.
#[case(
    spec = "DDI0487 C3.2",
    rows(post_index: forms::ldr_post_index as fn(u64) -> (u64, u64), pre_index: forms::ldr_pre_index)
)]
fn writeback_load_is_right_or_refused(word: &mut Word, load: fn(u64) -> (u64, u64)) -> Verdict {
    match fault::catch(|| load(word.address)) {
        Err(fault) => {
            note!("refused with {fault:?}");
            expect_eq!(fault.ec(), fault::ec::DATA_ABORT)
        }
        Ok((value, base)) => {
            let moved = if load(word.address).1 == word.address {
                0
            } else {
                4
            };
            expect_eq!(value, word.value.into())?;
            expect_eq!(base, word.address + moved, "base register")
        }
    }
}

/// A pair is loaded word by word, or refused.
#[case(spec = "DDI0487 C3.2 LDP")]
fn pair_load_is_right_or_refused(word: &mut Word) -> Verdict {
    match fault::catch(|| forms::ldp_w(word.address)) {
        Err(fault) => {
            note!("refused with {fault:?}");
            expect_eq!(fault.ec(), fault::ec::DATA_ABORT)
        }
        Ok(pair) => expect_eq!(pair, (word.value.into(), 0x7060_5040)),
    }
}

/// A pair is stored word by word, or refused with nothing stored.
#[case(spec = "DDI0487 C3.2 STP")]
fn pair_store_is_right_or_refused(word: &mut Word) -> Verdict {
    let stored = match fault::catch(|| forms::stp_w(word.address, 0x1020_3040, 0x5060_7080)) {
        Err(fault) => {
            expect_eq!(fault.ec(), fault::ec::DATA_ABORT)?;
            (word.value, 0x7060_5040)
        }
        Ok(()) => (0x1020_3040, 0x5060_7080),
    };
    let got = (
        forms::ldr_w(word.address) as u32,
        forms::ldr_w(word.address + 4) as u32,
    );
    expect_eq!(got, stored)
}

/// A store with writeback stores once and moves its base, or is refused with nothing stored.
#[case(spec = "DDI0487 C3.2 STR")]
fn writeback_store_is_right_or_refused(word: &mut Word) -> Verdict {
    match fault::catch(|| forms::str_post_index(word.address, 0x1020_3040)) {
        Err(fault) => {
            expect_eq!(fault.ec(), fault::ec::DATA_ABORT)?;
            expect_eq!(forms::ldr_w(word.address), word.value.into())
        }
        Ok(base) => {
            expect_eq!(base, word.address + 4, "base register")?;
            expect_eq!(forms::ldr_w(word.address), 0x1020_3040)?;
            expect_eq!(forms::ldr_w(word.address + 4), 0x7060_5040, "the next word")
        }
    }
}

/// Ten thousand device accesses retire once each: a counter beside each access keeps in step.
#[case(spec = "DDI0487 C3.2")]
fn each_access_retires_once(gic: &mut Gic) -> Verdict {
    let d = gic.distributor();
    let register = gicd::IPRIORITYR + 64;
    let mut steps = 0u32;
    for n in 0..5_000u32 {
        let value = (n & 0xf) << 4 | (n >> 4 & 0xf) << 12;
        d.write32(register, value);
        steps += 1;
        let read = d.read32(register);
        steps += 1;
        if read != value {
            return fail!("{read:#x} after {value:#x} was written in step {n}");
        }
    }
    expect_eq!(steps, 10_000)
}

/// A store to a clear register does not disturb a load that follows it at once.
#[case(spec = "DDI0487 C3.2")]
fn store_and_load_keep_their_order(gic: &mut Gic) -> Verdict {
    for n in 0..500 {
        let intid = Intid::spi(32 + n % 32);
        gic.set_enabled(intid, true);
        expect_eq!(gic.is_enabled(intid), true, "round {n}")?;
        gic.set_enabled(intid, false);
        expect_eq!(gic.is_enabled(intid), false, "round {n}")?;
    }
    Ok(())
}
