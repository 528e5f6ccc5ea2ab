//! TEST PROTECTION under storage keys: the access key is an operand, so nothing is at risk.
//!
//! Spec: SA22-7832 10 TEST PROTECTION, 3 Key-Controlled Protection. Condition code 0: fetch and
//! store are permitted; 1: fetch only; 2: neither.

use crate::page::KeyedPage;
use guest_lib::arch::registers::{Cr0, cr0_with, cr0_without};
use guest_lib::arch::skey;
use guest_lib::arch::skey::{Skey, test_protection};
use guest_lib::prelude::*;

struct Row {
    key: Skey,
    access: u8,
    cc: u8,
}

/// Fetches and stores are permitted as access key and storage key say.
#[case(spec = "SA22-7832 10 TEST PROTECTION", rows(
    key_zero_may_do_all: Row { key: Skey::acc(1).fetch(), access: 0, cc: 0 },
    matching_key_may_do_all: Row { key: Skey::acc(1).fetch(), access: 1, cc: 0 },
    other_key_may_only_fetch: Row { key: Skey::acc(1), access: 2, cc: 1 },
    fetch_protection_bars_all: Row { key: Skey::acc(1).fetch(), access: 2, cc: 2 },
    storage_key_zero_protects_too: Row { key: Skey::acc(0), access: 2, cc: 1 },
))]
fn keys_decide(page: &mut KeyedPage, row: Row) -> Verdict {
    page.set_key(row.key)?;
    expect_eq!(test_protection(page.address(), row.access), Ok(row.cc))
}

/// With storage-protection override, key 9 is open to every access key; other keys are not.
#[case(spec = "SA22-7832 3 Storage-Protection-Override Control")]
fn storage_protection_override_opens_key_nine(page: &mut KeyedPage) -> Verdict {
    let _override = cr0_with(Cr0::STORAGE_PROTECTION_OVERRIDE);
    page.set_key(Skey::acc(9).fetch())?;
    expect_eq!(test_protection(page.address(), 2), Ok(0))
}

/// Without storage-protection override, key 9 is a key like others.
#[case(spec = "SA22-7832 3 Storage-Protection-Override Control")]
fn key_nine_is_closed_without_override(page: &mut KeyedPage) -> Verdict {
    let _plain = cr0_without(Cr0::STORAGE_PROTECTION_OVERRIDE);
    page.set_key(Skey::acc(9))?;
    expect_eq!(test_protection(page.address(), 2), Ok(1))
}

/// Storage-protection override does not open other keys.
#[case(spec = "SA22-7832 3 Storage-Protection-Override Control")]
fn storage_protection_override_opens_no_other_key(page: &mut KeyedPage) -> Verdict {
    let _override = cr0_with(Cr0::STORAGE_PROTECTION_OVERRIDE);
    page.set_key(Skey::acc(8))?;
    expect_eq!(test_protection(page.address(), 2), Ok(1))
}

/// A key on the frame at effective address 0, for a while.
struct LowKey;

impl LowKey {
    fn set(key: Skey) -> Result<Self, Fault> {
        skey::set(0, key)?;
        Ok(LowKey)
    }
}

impl Drop for LowKey {
    fn drop(&mut self) {
        // Storage exists at 0.
        let _ = skey::set(0, Skey::acc(0));
    }
}

/// Fetch-protection override permits fetches at effective addresses below 2048, and only there.
#[case(spec = "SA22-7832 3 Fetch-Protection-Override Control", rows(
    off: (false, 2047, 2),
    below_2048: (true, 2047, 1),
    at_2048: (true, 2048, 2),
))]
fn fetch_protection_override((on, address, cc): (bool, u64, u8)) -> Verdict {
    let _override = match on {
        true => cr0_with(Cr0::FETCH_PROTECTION_OVERRIDE),
        false => cr0_without(Cr0::FETCH_PROTECTION_OVERRIDE),
    };
    let _key = LowKey::set(Skey::acc(1).fetch())?;
    expect_eq!(test_protection(address, 2), Ok(cc))
}

/// TEST PROTECTION is privileged.
#[case(spec = "SA22-7832 10 TEST PROTECTION")]
fn tprot_is_privileged(page: &mut KeyedPage) -> Verdict {
    let refused = fault::catch_user(|| test_protection(page.address(), 0))?;
    expect_eq!(refused, Err(Fault::PRIVILEGED_OPERATION))?;
    expect_eq!(test_protection(page.address(), 0), Ok(0))
}
