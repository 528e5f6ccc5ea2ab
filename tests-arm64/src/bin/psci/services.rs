//! Services that answer by the same convention: random numbers, stolen time, a vendor's own.
//!
//! Each has a function that says what the others do. A service is either there with all its rules, or
//! every one of its functions answers NOT_SUPPORTED; half a service makes a guest fail late.

use guest_lib::arch::psci::{self, id};
use guest_lib::prelude::*;

const NOT_SUPPORTED: i32 = -1;
const INVALID_PARAMETERS: i32 = -2;
const NO_ENTROPY: i32 = -3;

fn call(function: u64, argument: u64) -> [u64; 4] {
    psci::call([function, argument, 0, 0])
}

fn answer(function: u64, argument: u64) -> i32 {
    call(function, argument)[0] as i32
}

fn has_trng() -> bool {
    answer(id::TRNG_VERSION, 0) >= 0
}

/// TRNG is there from version 1.0 with all its functions, or not at all.
#[case(spec = "DEN0098 2", needs("arm64.psci"))]
fn trng_is_whole_or_absent() -> Verdict {
    let version = answer(id::TRNG_VERSION, 0);
    let features = |function| answer(id::TRNG_FEATURES, function);
    if has_trng() {
        note!("TRNG {}.{}", version >> 16, version & 0xffff);
        expect_eq!(version >= 0x1_0000, true, "version {version:#x}")?;
        expect_eq!(features(id::TRNG_UUID) >= 0, true)?;
        expect_eq!(features(id::TRNG_RND) >= 0, true)?;
        return expect_ne!(call(id::TRNG_UUID, 0)[0] as u32, !0);
    }
    expect_eq!(version, NOT_SUPPORTED)?;
    expect_eq!(features(id::TRNG_RND), NOT_SUPPORTED)?;
    expect_eq!(answer(id::TRNG_UUID, 0), NOT_SUPPORTED)?;
    expect_eq!(answer(id::TRNG_RND, 64), NOT_SUPPORTED)
}

/// TRNG_RND takes 1 to 192 bits and refuses other numbers; without TRNG it refuses all.
#[case(
    spec = "DEN0098 2 TRNG_RND",
    needs("arm64.psci"),
    rows(zero: (0, false), one: (1, true), most: (192, true), too_many: (193, false))
)]
fn trng_rnd_checks_its_length(row: (u64, bool)) -> Verdict {
    let (bits, valid) = row;
    let status = answer(id::TRNG_RND, bits);
    let expected: &[i32] = match (has_trng(), valid) {
        (false, _) => &[NOT_SUPPORTED],
        (true, true) => &[0, NO_ENTROPY],
        (true, false) => &[INVALID_PARAMETERS],
    };
    expect_eq!(expected.contains(&status), true, "answer {status}")
}

/// Stolen time is reported and has a place of 64-byte alignment, or neither.
#[case(spec = "DEN0057 3", needs("arm64.psci"))]
fn stolen_time_is_whole_or_absent() -> Verdict {
    let reported = answer(id::PV_TIME_FEATURES, id::PV_TIME_ST) >= 0;
    let place = call(id::PV_TIME_ST, 0)[0];
    match reported {
        true => expect_eq!(
            place as i64 == -1 || place.is_multiple_of(64),
            true,
            "place {place:#x}"
        ),
        false => expect_eq!(place as i32, NOT_SUPPORTED),
    }
}

/// A vendor's hypervisor service has a UID in four words, or answers NOT_SUPPORTED throughout.
#[case(spec = "DEN0028 6.1", needs("arm64.psci"))]
fn vendor_service_has_a_uid_or_is_absent() -> Verdict {
    let uid = call(id::VENDOR_HYP_UID, 0);
    if uid[0] as i32 != NOT_SUPPORTED {
        note!(
            "UID {:08x} {:08x} {:08x} {:08x}",
            uid[0],
            uid[1],
            uid[2],
            uid[3]
        );
        let high = uid.iter().find(|w| **w >> 32 != 0);
        return expect_eq!(high, None, "a word with more than 32 bits");
    }
    expect_eq!(answer(id::VENDOR_HYP_FEATURES, 0), NOT_SUPPORTED)
}
