//! SET PREFIX fetches its operand under the PSW key.
//!
//! Spec: SA22-7832 10 SET PREFIX, 3 Key-Controlled Protection. Here the operand is fetched, so
//! only fetch protection can refuse it; a hypervisor that reads the operand itself has to check.

use crate::page::KeyedPage;
use guest_lib::arch::cpu;
use guest_lib::arch::exec::with_psw_key;
use guest_lib::arch::lowcore::PrefixArea;
use guest_lib::arch::registers::{Cr0, cr0_with};
use guest_lib::arch::skey::{self, Skey};
use guest_lib::prelude::*;

/// The operand is fetched with key zero, a matching key, or any key without fetch protection.
#[case(spec = "SA22-7832 10 SET PREFIX", rows(
    key_zero: (Skey::acc(1).fetch(), 0),
    matching_key: (Skey::acc(1).fetch(), 1),
    no_fetch_protection: (Skey::acc(1), 2),
))]
fn operand_may_be_fetched(
    page: &mut KeyedPage,
    area: &mut PrefixArea,
    (key, psw): (Skey, u8),
) -> Verdict {
    page.frame().write(0, area.address() as u32);
    page.set_key(key)?;
    expect_eq!(
        with_psw_key(psw, || cpu::set_prefix(page.address())),
        Ok(())
    )?;
    expect_eq!(area.current()?, area.address())
}

/// A fetch-protected operand under another key is a protection exception, and the prefix stays.
#[case(spec = "SA22-7832 10 SET PREFIX")]
fn fetch_protected_operand_is_refused(page: &mut KeyedPage, area: &mut PrefixArea) -> Verdict {
    let before = area.current()?;
    page.frame().write(0, area.address() as u32);
    page.set_key(Skey::acc(1).fetch())?;
    let refused = with_psw_key(2, || cpu::set_prefix(page.address()));
    expect_eq!((refused, area.current()?), (Err(Fault::PROTECTION), before))
}

/// Fetch-protection override lets the operand be fetched below 2048, and not from 2048 on.
#[case(spec = "SA22-7832 3 Fetch-Protection-Override Control", rows(
    below_2048: (2040, true),
    at_2048: (2048, false),
))]
fn fetch_protection_override(area: &mut PrefixArea, (at, permitted): (u64, bool)) -> Verdict {
    let before = area.current()?;
    guest_lib::arch::lowcore::write32(at, area.address() as u32);
    let _override = cr0_with(Cr0::FETCH_PROTECTION_OVERRIDE);
    skey::set(0, Skey::acc(1).fetch())?;
    let answer = with_psw_key(2, || cpu::set_prefix(at));
    // Address 0 is another frame now, if the prefix changed.
    let now = area.current()?;
    area.back()?;
    skey::set(0, Skey::acc(0))?;
    match permitted {
        true => expect_eq!((answer, now), (Ok(()), area.address())),
        false => expect_eq!((answer, now), (Err(Fault::PROTECTION), before)),
    }
}

/// The override goes by the virtual address: through a high page, low storage stays protected.
#[case(spec = "SA22-7832 3 Fetch-Protection-Override Control")]
fn remapped_operand_is_refused(area: &mut PrefixArea) -> Verdict {
    const HIGH: u64 = 1 << 40;
    const AT: u64 = 2040;
    let before = area.current()?;
    let mut space = guest_lib::arch::paging::AddressSpace::identity();
    space.map(HIGH, 0);
    guest_lib::arch::lowcore::write32(AT, area.address() as u32);
    let _override = cr0_with(Cr0::FETCH_PROTECTION_OVERRIDE);
    skey::set(0, Skey::acc(1).fetch())?;
    let answer = space.run(|| with_psw_key(2, || cpu::set_prefix(HIGH + AT)));
    let now = area.current()?;
    area.back()?;
    skey::set(0, Skey::acc(0))?;
    expect_eq!((answer, now), (Err(Fault::PROTECTION), before))
}
