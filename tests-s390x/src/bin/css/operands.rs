//! Operands of I/O instructions: boundaries, subchannel words, absent subchannels.
//!
//! Spec: SA22-7832 14 (each instruction), 6 Operand Exception.

use guest_lib::arch::channel::{self, Device};
use guest_lib::memory::{Frames, total};
use guest_lib::prelude::*;

type Operate = fn(u32, u64) -> Result<u8, Fault>;

/// An operand that is not on a word boundary is a specification exception.
#[case(spec = "SA22-7832 6 Specification Exception", rows(
    ssch: channel::start, msch: channel::modify, stsch: channel::store, tsch: channel::test,
    stcrw: channel::store_report, tpi: channel::test_pending,
))]
fn misaligned_operand_is_refused(operate: Operate) -> Verdict {
    let page = Frames::new(1);
    for off in 1..4 {
        let refused = operate(0x0001_ffff, page.address() + off);
        expect_eq!(refused, Err(Fault::SPECIFICATION), "{off} bytes off")?;
    }
    expect!(page.bytes().iter().all(|&b| b == 0), "nothing is stored")?;
    expect_ne!(
        operate(0x0001_ffff, page.address()),
        Err(Fault::SPECIFICATION),
        "aligned"
    )
}

/// A subchannel word whose bits 32 to 47 are not 0x0001 is an operand exception.
#[case(spec = "SA22-7832 6 Operand Exception", rows(
    ssch: channel::start, msch: channel::modify, stsch: channel::store, tsch: channel::test,
    csch: |s, _| channel::clear(s.into()), hsch: |s, _| channel::halt(s.into()),
    rsch: |s, _| channel::resume(s.into()), xsch: |s, _| channel::cancel(s.into()),
))]
fn bad_subchannel_word_is_refused(operate: Operate) -> Verdict {
    let page = Frames::new(1);
    for word in [0x0000_ffff, 0x1000_ffff, 0x0100_ffff] {
        expect_eq!(
            operate(word, page.address()),
            Err(Fault::OPERAND),
            "{word:#x}"
        )?;
    }
    expect_ne!(
        operate(0x0001_ffff, page.address()),
        Err(Fault::OPERAND),
        "a good word"
    )
}

/// A subchannel that is not there is condition code 3.
#[case(spec = "SA22-7832 14", rows(
    ssch: channel::start, msch: channel::modify, stsch: channel::store, tsch: channel::test,
    csch: |s, _| channel::clear(s.into()), hsch: |s, _| channel::halt(s.into()),
    rsch: |s, _| channel::resume(s.into()), xsch: |s, _| channel::cancel(s.into()),
))]
fn absent_subchannel_is_code_3(operate: Operate) -> Verdict {
    let page = Frames::new(1);
    // An ORB or SCHIB of zeroes is a valid one.
    expect_eq!(operate(0x0001_ffff, page.address()), Ok(3))
}

/// An operand beyond storage is an addressing exception.
#[case(spec = "SA22-7832 6 Addressing Exception", rows(
    ssch: channel::start, msch: channel::modify, stsch: channel::store, tsch: channel::test,
    tpi: channel::test_pending,
))]
fn operand_beyond_storage_is_refused(device: &mut Device, operate: Operate) -> Verdict {
    // Something must be pending for TEST SUBCHANNEL and TEST PENDING INTERRUPTION to store.
    channel::clear(device.name().into())?;
    expect_eq!(operate(device.name(), total()), Err(Fault::ADDRESSING))
}

/// An ORB with reserved bits is an operand exception.
#[case(spec = "SA22-7832 15 Operation-Request Block")]
fn reserved_orb_bits_are_refused(device: &mut Device) -> Verdict {
    let orb = device.prepare(device.program.address(), 0);
    for i in 0..8 {
        device.blocks().write(128 + 4 * i, u32::MAX);
    }
    expect_eq!(
        channel::start(device.name(), orb),
        Err(Fault::OPERAND),
        "all ones"
    )?;
    let orb = device.prepare(1 << 31 | device.program.address(), 0);
    expect_eq!(
        channel::start(device.name(), orb),
        Err(Fault::OPERAND),
        "bit 0 of the address"
    )
}

/// Reserved flags of the path-management-control word are operand exceptions and do not stick;
/// bit 5 is ignored.
#[case(spec = "SA22-7832 15 Subchannel-Information Block", rows(
    bit0: 0x8000, bit1: 0x4000, bit6: 0x0200, bit7: 0x0100,
))]
fn reserved_pmcw_flags_are_refused(device: &mut Device, flag: u16) -> Verdict {
    expect_eq!(
        device.change_flags(|flags| flags | flag),
        Err(Fault::OPERAND)
    )?;
    device.store()?;
    expect_eq!(
        device.blocks().read::<u16>(4) & flag,
        0,
        "it does not stick"
    )?;
    expect_eq!(device.change_flags(|flags| flags), Ok(0), "mended")
}

/// Bit 5 of the same word is ignored and reads zero.
#[case(spec = "SA22-7832 15 Subchannel-Information Block")]
fn ignored_pmcw_flag_reads_zero(device: &mut Device) -> Verdict {
    expect_eq!(device.change_flags(|flags| flags | 0x0400), Ok(0))?;
    device.store()?;
    expect_eq!(device.blocks().read::<u16>(4) & 0x0400, 0)
}
