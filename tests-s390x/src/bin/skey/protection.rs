//! Key-controlled protection of stores: by ordinary ones and by control instructions.
//!
//! Spec: SA22-7832 3 Key-Controlled Protection, 6 Protection Exception. A hypervisor that
//! executes a control instruction for its guest stores with its own rights; it has to look at the
//! guest's PSW key itself. Each row runs one instruction under a key that matches, one that is
//! zero and one that does not match.

use crate::page::KeyedPage;
use guest_lib::arch::cpu;
use guest_lib::arch::exec::{load, store, with_psw_key};
use guest_lib::arch::fault::last;
use guest_lib::arch::registers::{Cr0, cr0_with, cr0_without};
use guest_lib::arch::skey::Skey;
use guest_lib::prelude::*;

type Store = fn(u64) -> Result<(), Fault>;

/// With key zero or a matching key the instruction stores.
#[case(spec = "SA22-7832 3 Key-Controlled Protection", rows(
    stap: cpu::store_cpu_address,
    stidp: cpu::store_cpu_id,
    stpx: cpu::store_prefix,
    store: |a| store(a, 0x42),
))]
fn matching_key_may_store(page: &mut KeyedPage, operate: Store) -> Verdict {
    for (storage, psw) in [(1, 0), (1, 1), (0, 0), (15, 15)] {
        page.set_key(Skey::acc(0))?;
        page.frame().write(0, u64::MAX);
        page.set_key(Skey::acc(storage))?;
        expect_eq!(
            with_psw_key(psw, || operate(page.address())),
            Ok(()),
            "PSW key {psw}"
        )?;
        expect_ne!(
            page.frame().read::<u64>(0),
            u64::MAX,
            "stored with PSW key {psw}"
        )?;
    }
    Ok(())
}

/// With another key the store is a protection exception, and storage stays as it was.
#[case(spec = "SA22-7832 3 Key-Controlled Protection", rows(
    stap: cpu::store_cpu_address,
    stidp: cpu::store_cpu_id,
    stpx: cpu::store_prefix,
    store: |a| store(a, 0x42),
))]
fn other_key_may_not_store(page: &mut KeyedPage, operate: Store) -> Verdict {
    page.frame().write(0, u64::MAX);
    page.set_key(Skey::acc(1))?;
    let refused = with_psw_key(2, || operate(page.address()));
    let stored = page.frame().read::<u64>(0) != u64::MAX;
    expect_eq!(
        (refused, stored),
        (Err(Fault::PROTECTION), false),
        "fault and whether it stored"
    )?;
    expect_eq!(with_psw_key(1, || operate(page.address())), Ok(()))
}

/// A fetch with another key is refused only with fetch protection.
#[case(spec = "SA22-7832 3 Key-Controlled Protection")]
fn fetch_protection_refuses_fetches(page: &mut KeyedPage) -> Verdict {
    page.set_key(Skey::acc(1))?;
    expect_eq!(
        with_psw_key(2, || load(page.address())),
        Ok(0),
        "no fetch protection"
    )?;
    page.set_key(Skey::acc(1).fetch())?;
    expect_eq!(
        with_psw_key(1, || load(page.address())),
        Ok(0),
        "the right key"
    )?;
    expect_eq!(
        with_psw_key(2, || load(page.address())),
        Err(Fault::PROTECTION)
    )
}

/// With storage-protection override a store to key 9 is permitted under every PSW key.
#[case(spec = "SA22-7832 3 Storage-Protection-Override Control", rows(
    stap: cpu::store_cpu_address,
    store: |a| store(a, 0x42),
))]
fn override_lets_stores_into_key_nine(page: &mut KeyedPage, operate: Store) -> Verdict {
    let _override = cr0_with(Cr0::STORAGE_PROTECTION_OVERRIDE);
    page.frame().write(0, u64::MAX);
    page.set_key(Skey::acc(9))?;
    expect_eq!(with_psw_key(2, || operate(page.address())), Ok(()))?;
    expect_ne!(page.frame().read::<u64>(0), u64::MAX)
}

/// Key 9 refuses stores when the override is off, and other keys refuse them when it is on.
#[case(spec = "SA22-7832 3 Storage-Protection-Override Control", rows(
    stap_override_off: (false, 9, cpu::store_cpu_address as Store),
    stap_other_key: (true, 8, cpu::store_cpu_address as Store),
    store_override_off: (false, 9, (|a| store(a, 0x42)) as Store),
    store_other_key: (true, 8, (|a| store(a, 0x42)) as Store),
))]
fn override_opens_nothing_else(page: &mut KeyedPage, row: (bool, u8, Store)) -> Verdict {
    let (on, acc, operate) = row;
    let _override = match on {
        true => cr0_with(Cr0::STORAGE_PROTECTION_OVERRIDE),
        false => cr0_without(Cr0::STORAGE_PROTECTION_OVERRIDE),
    };
    page.frame().write(0, u64::MAX);
    page.set_key(Skey::acc(acc))?;
    let refused = with_psw_key(2, || operate(page.address()));
    expect_eq!(refused, Err(Fault::PROTECTION))?;
    expect_eq!(page.frame().read::<u64>(0), u64::MAX)
}

/// The translation-exception identification of a key violation does not claim DAT protection.
#[case(spec = "SA22-7832 3 Enhanced Suppression on Protection")]
fn key_violation_is_told_from_dat_protection(page: &mut KeyedPage) -> Verdict {
    page.set_key(Skey::acc(1))?;
    let refused = with_psw_key(2, || cpu::store_cpu_address(page.address()));
    expect_eq!(refused, Err(Fault::PROTECTION))?;
    // Bits 56, 60 and 61: 0b001 is low-address protection, 0b100 and 0b101 are DAT and
    // instruction-execution protection.
    let teid = last().translation_exception;
    let kind = (teid >> 7 & 1) << 2 | teid >> 2 & 3;
    expect!(![1, 4, 5].contains(&kind), "identification {teid:#x}")
}
