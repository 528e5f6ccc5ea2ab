//! LOAD CONTROL and STORE CONTROL, in both widths. Spec: SA22-7832 10 LOAD CONTROL, STORE CONTROL.
//!
//! A hypervisor keeps control registers outside the processor's own and must move the right
//! halves: the 32-bit forms leave the high half alone.

use guest_lib::arch::exec::{execute, registers};
use guest_lib::arch::registers::{Control, control};
use guest_lib::memory::{Frames, total};
use guest_lib::prelude::*;

// CR13 (home space) and CR7 (secondary space) mean nothing while DAT is off.

/// LCTLG loads all 64 bits, STCTG stores them.
#[case(spec = "SA22-7832 10 LOAD CONTROL")]
fn all_64_bits_are_kept() -> Verdict {
    let _kept = (Control::<13>::changed(|c| c), Control::<7>::changed(|c| c));
    for value in [0x1122_3344_5566_7788, u64::MAX, 0] {
        let _both = (Control::<13>::loaded(value), Control::<7>::loaded(!value));
        expect_eq!((control::<13>(), control::<7>()), (value, !value))?;
    }
    Ok(())
}

/// The 32-bit LCTL replaces the low half and keeps the high half.
#[case(spec = "SA22-7832 10 LOAD CONTROL")]
fn lctl_keeps_the_high_half() -> Verdict {
    let page = Frames::new(1);
    let _kept = Control::<13>::loaded(0x1122_3344_5566_7788);
    page.write(0, 0xaabb_ccddu32);
    execute(&[0xb7dd, 0x2000], registers([(2, page.address())]))?;
    expect_eq!(control::<13>(), 0x1122_3344_aabb_ccdd)
}

/// The 32-bit STCTL stores the low half only.
#[case(spec = "SA22-7832 10 STORE CONTROL")]
fn stctl_stores_the_low_half() -> Verdict {
    let page = Frames::new(1);
    let _kept = Control::<13>::loaded(0x1122_3344_5566_7788);
    page.write(0, u64::MAX);
    execute(&[0xb6dd, 0x2000], registers([(2, page.address())]))?;
    expect_eq!(page.read::<u64>(0), 0x5566_7788_ffff_ffff)
}

/// A range that wraps goes from register 15 on with register 0.
#[case(spec = "SA22-7832 10 STORE CONTROL")]
fn register_ranges_wrap() -> Verdict {
    let page = Frames::new(1);
    execute(&[0xebd1, 0x2000, 0x0025], registers([(2, page.address())]))?;
    let expected = [
        control::<13>(),
        control::<14>(),
        control::<15>(),
        control::<0>(),
        control::<1>(),
    ];
    let stored = [0, 8, 16, 24, 32].map(|i| page.read::<u64>(i));
    expect_eq!(stored, expected)?;
    expect_eq!(page.read::<u64>(40), 0, "five registers")
}

/// The operand must be on a word boundary, or a doubleword boundary for 64 bits.
#[case(spec = "SA22-7832 10 LOAD CONTROL", rows(
    lctl: (&[0xb7dd, 0x2000], 4),
    stctl: (&[0xb6dd, 0x2000], 4),
    lctlg: (&[0xebdd, 0x2000, 0x002f], 8),
    stctg: (&[0xebdd, 0x2000, 0x0025], 8),
))]
fn misaligned_operand_is_refused((code, size): (&[u16], u64)) -> Verdict {
    let page = Frames::new(1);
    let _kept = Control::<13>::changed(|c| c);
    for off in 1..size {
        let refused = execute(code, registers([(2, page.address() + off)]));
        expect_eq!(refused.err(), Some(Fault::SPECIFICATION), "{off} bytes off")?;
    }
    expect!(
        execute(code, registers([(2, page.address() + size)])).is_ok(),
        "aligned"
    )
}

/// An operand beyond storage is an addressing exception, and the register stays.
#[case(spec = "SA22-7832 10 LOAD CONTROL", rows(
    lctl: &[0xb7dd, 0x2000],
    stctl: &[0xb6dd, 0x2000],
    lctlg: &[0xebdd, 0x2000, 0x002f],
    stctg: &[0xebdd, 0x2000, 0x0025],
))]
fn operand_beyond_storage_is_refused(code: &[u16]) -> Verdict {
    let before = control::<13>();
    expect_eq!(
        execute(code, registers([(2, total())])).err(),
        Some(Fault::ADDRESSING)
    )?;
    expect_eq!(control::<13>(), before)
}
