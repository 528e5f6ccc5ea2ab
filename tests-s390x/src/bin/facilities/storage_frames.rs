//! PERFORM FRAME MANAGEMENT FUNCTION and SSKE over many blocks.
//!
//! Spec: SA22-7832 10 PERFORM FRAME MANAGEMENT FUNCTION, SET STORAGE KEY EXTENDED. Register R1: set
//! key (0x20000), clear (0x10000), frame size in bits 45-47 of the function, the key in the low
//! byte.

use guest_lib::arch::exec::load;
use guest_lib::arch::registers::{Cr0, cr0_with};
use guest_lib::arch::skey::{self, Skey};
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

const SET_KEY: u64 = 0x2_0000;
const CLEAR: u64 = 0x1_0000;
const MEGABYTE: u64 = 0x1000;

/// PFMF is privileged.
#[case(
    spec = "SA22-7832 10 PERFORM FRAME MANAGEMENT FUNCTION",
    needs("s390x.edat1")
)]
fn pfmf_is_privileged() -> Verdict {
    let page = Frames::new(1);
    let refused = fault::catch_user(|| skey::pfmf(CLEAR, page.address()).err())?;
    expect_eq!(refused, Some(Fault::PRIVILEGED_OPERATION))?;
    expect!(
        skey::pfmf(CLEAR, page.address()).is_ok(),
        "supervisor state may"
    )
}

/// A frame, or every frame of a megabyte, gets the key; the frame behind keeps its own.
#[case(spec = "SA22-7832 10 PERFORM FRAME MANAGEMENT FUNCTION", needs("s390x.edat1"), rows(
    frame: (0, 1), megabyte: (MEGABYTE, 256),
))]
fn frames_get_the_key((size, count): (u64, u64)) -> Verdict {
    let frames = Frames::aligned(257, 1 << 20);
    skey::pfmf(SET_KEY | size | u64::from(Skey::acc(3).0), frames.address())?;
    let keys: Vec<Skey> = (0..=count)
        .map(|n| skey::get(frames.address() + 4096 * n).map_or(Skey(0xff), Skey::protection))
        .collect();
    for n in 0..count {
        skey::set(frames.address() + 4096 * n, Skey::acc(0))?;
    }
    let with_key = keys.iter().filter(|&&key| key == Skey::acc(3)).count();
    expect_eq!(
        (with_key as u64, keys[count as usize]),
        (count, Skey::acc(0))
    )
}

/// A frame, or every frame of a megabyte, is cleared; the frame behind keeps its bytes.
#[case(spec = "SA22-7832 10 PERFORM FRAME MANAGEMENT FUNCTION", needs("s390x.edat1"), rows(
    frame: (0, 1), megabyte: (MEGABYTE, 256),
))]
fn frames_are_cleared((size, count): (u64, usize)) -> Verdict {
    let mut frames = Frames::aligned(257, 1 << 20);
    frames.bytes_mut().fill(0xaa);
    skey::pfmf(CLEAR | size, frames.address())?;
    expect!(
        frames.bytes()[..4096 * count].iter().all(|&b| b == 0),
        "cleared"
    )?;
    expect_eq!(frames.read::<u8>(4096 * count), 0xaa, "behind")
}

/// Low-address protection bars clearing of the first two frames.
#[case(spec = "SA22-7832 3 Low-Address Protection", needs("s390x.edat1"), rows(
    first: 0, second: 4096,
))]
fn low_address_protection_bars_clearing(frame: u64) -> Verdict {
    let _protection = cr0_with(Cr0::LOW_ADDRESS_PROTECTION);
    let before = load(frame + 0x700)?;
    expect_eq!(skey::pfmf(CLEAR, frame).err(), Some(Fault::PROTECTION))?;
    expect_eq!(load(frame + 0x700), Ok(before))
}

/// SSKE with the multiple-block control sets every key up to the end of the megabyte, and leaves
/// the address behind it.
#[case(spec = "SA22-7832 10 SET STORAGE KEY EXTENDED", needs("s390x.edat1"))]
fn multiple_blocks_get_the_key() -> Verdict {
    let frames = Frames::aligned(256, 1 << 20);
    let from = frames.address() + (250 << 12);
    let ran = skey::set_with(1, Skey::acc(5).0.into(), from)?;
    let keys = [249, 250, 255].map(|n| skey::get(frames.address() + (n << 12)));
    for n in 250..256 {
        skey::set(frames.address() + (n << 12), Skey::acc(0))?;
    }
    expect_eq!(ran.registers[4], frames.address() + (1 << 20))?;
    let expected = [Skey::acc(0), Skey::acc(5), Skey::acc(5)];
    expect_eq!(keys.map(|key| key.map(Skey::protection)), expected.map(Ok))
}

/// Where storage keys are removed, instructions that use them are special-operation exceptions.
#[case(spec = "SA22-7832 3 Storage Key", needs("s390x.kss"), rows(
    sske: |a| skey::set(a, Skey::acc(3)),
    iske: |a| skey::get(a).map(|_| ()),
    pfmf: |a| skey::pfmf(SET_KEY | 0x30, a).map(|_| ()),
    tprot: |a| skey::test_protection(a, 3).map(|_| ()),
))]
fn removed_keys_cannot_be_used(operate: fn(u64) -> Result<(), Fault>) -> Verdict {
    let page = Frames::new(1);
    expect_eq!(operate(page.address()), Err(Fault::SPECIAL_OPERATION))
}
