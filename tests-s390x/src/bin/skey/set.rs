//! SET, INSERT and RESET: who may use them, which addresses, and which bits come back.
//!
//! Spec: SA22-7832 10. A hypervisor that keeps keys in a table of its own has to check privilege
//! and address itself, before the table is touched.

use crate::page::KeyedPage;
use guest_lib::arch::skey::{self, Skey};
use guest_lib::memory::total;
use guest_lib::prelude::*;

/// SSKE is privileged, and a refused one leaves the key.
#[case(spec = "SA22-7832 10 SET STORAGE KEY EXTENDED")]
fn sske_is_privileged(page: &mut KeyedPage) -> Verdict {
    page.set_key(Skey::acc(3))?;
    let refused = fault::catch_user(|| page.set_key(Skey::acc(5)))?;
    expect_eq!(refused, Err(Fault::PRIVILEGED_OPERATION))?;
    expect_eq!(page.key()?.protection(), Skey::acc(3))?;
    page.set_key(Skey::acc(5))?;
    expect_eq!(page.key()?.protection(), Skey::acc(5))
}

/// ISKE is privileged.
#[case(spec = "SA22-7832 10 INSERT STORAGE KEY EXTENDED")]
fn iske_is_privileged(page: &mut KeyedPage) -> Verdict {
    expect_eq!(
        fault::catch_user(|| page.key())?,
        Err(Fault::PRIVILEGED_OPERATION)
    )?;
    expect!(page.key().is_ok(), "supervisor state may")
}

/// RRBE is privileged, and a refused one leaves the reference bit.
#[case(spec = "SA22-7832 10 RESET REFERENCE BIT EXTENDED")]
fn rrbe_is_privileged(page: &mut KeyedPage) -> Verdict {
    page.set_key(Skey(Skey::REFERENCE))?;
    let refused = fault::catch_user(|| skey::reset_reference(page.address()))?;
    expect_eq!(refused, Err(Fault::PRIVILEGED_OPERATION))?;
    expect!(page.key()?.is_referenced(), "the reference bit stays")?;
    expect_eq!(skey::reset_reference(page.address())? & 2, 2)
}

/// A frame beyond storage has no key: addressing exception. The last frame has one.
#[case(spec = "SA22-7832 10 SET STORAGE KEY EXTENDED", rows(
    sske: |address| skey::set(address, Skey::acc(0)),
    iske: |address| skey::get(address).map(|_| ()),
    rrbe: |address| skey::reset_reference(address).map(|_| ()),
))]
fn frame_beyond_storage_is_refused(operate: fn(u64) -> Result<(), Fault>) -> Verdict {
    expect_eq!(operate(total() - 4096), Ok(()), "the last frame")?;
    expect_eq!(operate(total()), Err(Fault::ADDRESSING), "the first beyond")?;
    expect_eq!(operate(!0xfff), Err(Fault::ADDRESSING), "the last address")
}

/// Every access-control value with and without fetch protection reads back.
#[case(spec = "SA22-7832 10 SET STORAGE KEY EXTENDED")]
fn every_key_reads_back(page: &mut KeyedPage) -> Verdict {
    for value in (0..=0xf8u8).step_by(8) {
        page.set_key(Skey(value))?;
        expect_eq!(page.key()?.protection(), Skey(value))?;
    }
    Ok(())
}

/// All seven bits are set at once; the eighth bit of the operand is ignored and reads zero.
#[case(spec = "SA22-7832 10 SET STORAGE KEY EXTENDED")]
fn sske_sets_seven_bits(page: &mut KeyedPage) -> Verdict {
    page.set_key(Skey(0xff))?;
    expect_eq!(page.key()?, Skey(0xfe))?;
    page.set_key(Skey(0x00))?;
    expect_eq!(page.key()?, Skey(0x00))
}

/// ISKE replaces the low byte of its first operand and keeps the other seven.
#[case(spec = "SA22-7832 10 INSERT STORAGE KEY EXTENDED")]
fn iske_keeps_the_rest_of_the_register(page: &mut KeyedPage) -> Verdict {
    page.set_key(Skey::acc(9))?;
    let ran = guest_lib::arch::exec::rre(0xb229, 0x1122_3344_5566_7788, page.address())?;
    expect_eq!(ran.registers[2] & 0xf8, 0x90)?;
    expect_eq!(ran.registers[2] >> 8, 0x0011_2233_4455_6677)
}

/// A key belongs to its frame: the frames beside it keep theirs, and bits inside the frame's
/// address do not matter.
#[case(spec = "SA22-7832 3 Storage Key")]
fn key_belongs_to_one_frame() -> Verdict {
    let frames = guest_lib::memory::Frames::new(3);
    let at = |n: u64| frames.address() + 4096 * n;
    for n in 0..3 {
        skey::set(at(n), Skey::acc(1))?;
    }
    skey::set(at(1) + 0xabc, Skey::acc(7))?;
    let keys = [0, 1, 2].map(|n| skey::get(at(n)).map(Skey::protection));
    let inside = skey::get(at(1) + 0xfff).map(Skey::protection);
    for n in 0..3 {
        skey::set(at(n), Skey::acc(0))?;
    }
    expect_eq!(keys, [Ok(Skey::acc(1)), Ok(Skey::acc(7)), Ok(Skey::acc(1))])?;
    expect_eq!(inside, Ok(Skey::acc(7)))
}
