//! CHANNEL SUBSYSTEM CALL reads and writes its block under the PSW key.
//!
//! Spec: SA22-7832 14 CHANNEL SUBSYSTEM CALL, 3 Key-Controlled Protection. The command is Store
//! Channel-Subsystem Characteristics, which every machine answers.

use crate::page::KeyedPage;
use guest_lib::arch::channel;
use guest_lib::arch::exec::with_psw_key;
use guest_lib::arch::registers::{Cr0, cr0_with, cr0_without};
use guest_lib::arch::skey::Skey;
use guest_lib::prelude::*;

/// Writes the request, then gives the page its key.
fn prepare(page: &KeyedPage, key: Skey) -> Result<(), Fault> {
    page.set_key(Skey::acc(0))?;
    channel::scsc_request(page.frame());
    page.set_key(key)
}

/// The response code, 0 when nothing was stored.
fn response(page: &KeyedPage) -> u16 {
    page.frame().read(16 + 2)
}

/// With key zero, a matching key or the override's key the call is performed.
#[case(spec = "SA22-7832 14 CHANNEL SUBSYSTEM CALL", rows(
    key_zero: (Skey::acc(1).fetch(), 0, false),
    matching_key: (Skey::acc(1).fetch(), 1, false),
    override_and_key_nine: (Skey::acc(9), 2, true),
))]
fn permitted_call_is_performed(page: &mut KeyedPage, row: (Skey, u8, bool)) -> Verdict {
    let (key, psw, on) = row;
    let _override = match on {
        true => cr0_with(Cr0::STORAGE_PROTECTION_OVERRIDE),
        false => cr0_without(Cr0::STORAGE_PROTECTION_OVERRIDE),
    };
    prepare(page, key)?;
    expect_eq!(with_psw_key(psw, || channel::chsc(page.address())), Ok(0))?;
    expect_eq!(response(page), 1)
}

/// Another key is refused with a protection exception.
#[case(spec = "SA22-7832 14 CHANNEL SUBSYSTEM CALL", rows(
    other_key: (Skey::acc(1), false),
    fetch_protected: (Skey::acc(1).fetch(), false),
    override_and_other_key: (Skey::acc(8), true),
    key_nine_without_override: (Skey::acc(9), false),
))]
fn other_key_is_refused(page: &mut KeyedPage, (key, on): (Skey, bool)) -> Verdict {
    let _override = match on {
        true => cr0_with(Cr0::STORAGE_PROTECTION_OVERRIDE),
        false => cr0_without(Cr0::STORAGE_PROTECTION_OVERRIDE),
    };
    prepare(page, key)?;
    let refused = with_psw_key(2, || channel::chsc(page.address()));
    expect_eq!((refused, response(page)), (Err(Fault::PROTECTION), 0))
}
