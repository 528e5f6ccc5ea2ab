//! MODIFY SUBCHANNEL fetches its block under the PSW key.
//!
//! Spec: SA22-7832 14 MODIFY SUBCHANNEL, 3 Key-Controlled Protection. The hypervisor reads the block,
//! so the hypervisor has to compare the keys.

use guest_lib::arch::channel::{Device, modify};
use guest_lib::arch::exec::with_psw_key;
use guest_lib::arch::lowcore::{read64, write64};
use guest_lib::arch::paging::AddressSpace;
use guest_lib::arch::registers::{Cr0, cr0_with};
use guest_lib::arch::skey::{self, Skey};
use guest_lib::prelude::*;

const PARAMETER: u32 = 0x1234_5678;

/// Gives a frame a key for one call.
fn under_key<T>(frame: u64, key: Skey, work: impl FnOnce() -> T) -> Result<T, Fault> {
    skey::set(frame, key)?;
    let result = work();
    skey::set(frame, Skey::acc(0))?;
    Ok(result)
}

/// The interruption parameter that the subchannel has now.
fn parameter(device: &Device) -> Result<u32, Fault> {
    device.store()?;
    Ok(device.blocks().read(0))
}

/// A block with another interruption parameter.
fn prepare(device: &Device) -> Result<(), Fault> {
    device.store()?;
    device.blocks().write(0, PARAMETER);
    Ok(())
}

/// Copies the block to a low address, where nothing else lies.
fn copy_low(device: &Device, at: u64) {
    for word in (0..56).step_by(8) {
        write64(at + word, device.blocks().read(word as usize));
    }
}

/// The block is fetched with key zero, a matching key, or any key without fetch protection.
#[case(spec = "SA22-7832 14 MODIFY SUBCHANNEL", rows(
    key_zero: (Skey::acc(1).fetch(), 0),
    matching_key: (Skey::acc(1).fetch(), 1),
    no_fetch_protection: (Skey::acc(1), 2),
))]
fn schib_may_be_fetched(device: &mut Device, (key, psw): (Skey, u8)) -> Verdict {
    prepare(device)?;
    let frame = device.blocks().address();
    let answer = under_key(frame, key, || with_psw_key(psw, || device.modify()))?;
    expect_eq!((answer, parameter(device)?), (Ok(0), PARAMETER))
}

/// Below 2048 fetch-protection override permits the fetch.
#[case(spec = "SA22-7832 3 Fetch-Protection-Override Control")]
fn override_permits_low_addresses(device: &mut Device) -> Verdict {
    prepare(device)?;
    copy_low(device, 0x780);
    let _override = cr0_with(Cr0::FETCH_PROTECTION_OVERRIDE);
    let key = Skey::acc(1).fetch();
    let answer = under_key(0, key, || with_psw_key(2, || modify(device.name(), 0x780)))?;
    expect_eq!((answer, parameter(device)?), (Ok(0), PARAMETER))
}

/// A fetch-protected block under another key is a protection exception; the subchannel stays.
#[case(spec = "SA22-7832 14 MODIFY SUBCHANNEL")]
fn fetch_protected_schib_is_refused(device: &mut Device) -> Verdict {
    let before = parameter(device)?;
    prepare(device)?;
    let (frame, key) = (device.blocks().address(), Skey::acc(1).fetch());
    let answer = under_key(frame, key, || with_psw_key(2, || device.modify()))?;
    expect_eq!(
        (answer, parameter(device)?),
        (Err(Fault::PROTECTION), before)
    )
}

/// From 2048 on the override permits nothing.
#[case(spec = "SA22-7832 3 Fetch-Protection-Override Control")]
fn override_ends_at_2048(device: &mut Device) -> Verdict {
    let before = parameter(device)?;
    prepare(device)?;
    copy_low(device, 0x800);
    let _override = cr0_with(Cr0::FETCH_PROTECTION_OVERRIDE);
    let key = Skey::acc(1).fetch();
    let answer = under_key(0, key, || with_psw_key(2, || modify(device.name(), 0x800)))?;
    expect_eq!(
        (answer, parameter(device)?),
        (Err(Fault::PROTECTION), before)
    )
}

/// The override goes by the virtual address: through a high page, low storage stays protected.
#[case(spec = "SA22-7832 3 Fetch-Protection-Override Control")]
fn remapped_schib_is_refused(device: &mut Device) -> Verdict {
    const HIGH: u64 = 1 << 40;
    let before = parameter(device)?;
    prepare(device)?;
    copy_low(device, 0x780);
    expect_eq!(read64(0x780) >> 32, u64::from(PARAMETER), "the copy")?;
    let mut space = AddressSpace::identity();
    space.map(HIGH, 0);
    let _override = cr0_with(Cr0::FETCH_PROTECTION_OVERRIDE);
    let key = Skey::acc(1).fetch();
    let answer = under_key(0, key, || {
        space.run(|| with_psw_key(2, || modify(device.name(), HIGH + 0x780)))
    })?;
    expect_eq!(
        (answer, parameter(device)?),
        (Err(Fault::PROTECTION), before)
    )
}
