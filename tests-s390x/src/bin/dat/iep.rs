//! Instruction-execution protection: a page whose bytes are data only.
//!
//! Spec: SA22-7832 3 Instruction-Execution Protection.

use crate::space::{HIGH, HighPage};
use guest_lib::arch::exec::{branch_to, load};
use guest_lib::arch::fault::last;
use guest_lib::arch::paging::{Level, PAGE_NO_EXECUTE};
use guest_lib::arch::registers::{Cr0, cr0_with, cr0_without};
use guest_lib::prelude::*;

/// A fetch from a protected page is a protection exception with its own identification; data is
/// readable all the same, and without the bit the code runs.
#[case(
    spec = "SA22-7832 3 Instruction-Execution Protection",
    needs("s390x.iep")
)]
fn protected_page_is_not_executed(page: &mut HighPage) -> Verdict {
    let _iep = cr0_with(Cr0::IEP);
    page.frame.write(0, 0x07feu16);
    expect!(
        page.space.run(|| branch_to(HIGH)).is_ok(),
        "without the bit"
    )?;
    page.change(Level::Page, PAGE_NO_EXECUTE, true);
    expect_eq!(
        page.space.run(|| branch_to(HIGH)).err(),
        Some(Fault::PROTECTION)
    )?;
    let teid = last().translation_exception;
    expect_eq!(teid & !0xfff, HIGH, "the page")?;
    // Bits 56, 60 and 61 are 1, 0 and 1 for this kind of protection.
    expect_eq!(
        (teid >> 7 & 1, teid >> 2 & 3),
        (1, 1),
        "the kind, {teid:#x}"
    )?;
    expect_eq!(page.space.run(|| load(HIGH)), Ok(0x07fe << 48))?;
    page.change(Level::Page, PAGE_NO_EXECUTE, false);
    expect!(
        page.space.run(|| branch_to(HIGH)).is_ok(),
        "without it again"
    )
}

/// With the control in CR0 off the bit means nothing.
#[case(
    spec = "SA22-7832 3 Instruction-Execution Protection",
    needs("s390x.iep")
)]
fn bit_is_ignored_without_the_control(page: &mut HighPage) -> Verdict {
    page.frame.write(0, 0x07feu16);
    page.change(Level::Page, PAGE_NO_EXECUTE, true);
    {
        let _off = cr0_without(Cr0::IEP);
        expect!(page.space.run(|| branch_to(HIGH)).is_ok(), "control off")?;
    }
    let _on = cr0_with(Cr0::IEP);
    expect_eq!(
        page.space.run(|| branch_to(HIGH)).err(),
        Some(Fault::PROTECTION)
    )
}
