//! EXTRACT AND SET STORAGE ATTRIBUTES: what the guest tells its host about each page.
//!
//! Spec: Linux-s390 ESSA (the state machine of usage and content states). The answer holds the
//! old usage state in bits 60-61 and the content state in bits 62-63.

use guest_lib::arch::skey::essa;
use guest_lib::memory::Frames;
use guest_lib::prelude::*;

const GET: u8 = 0;
const SET_STABLE: u8 = 1;
const SET_UNUSED: u8 = 2;
const SET_VOLATILE: u8 = 3;
const SET_POTENTIALLY_VOLATILE: u8 = 4;

fn usage(address: u64, order: u8) -> Result<u64, Fault> {
    essa(order, address).map(|ran| ran.registers[2] >> 2 & 3)
}

/// ESSA is privileged.
#[case(spec = "Linux-s390 ESSA", needs("s390x.essa"))]
fn essa_is_privileged() -> Verdict {
    let page = Frames::new(1);
    let refused = fault::catch_user(|| essa(GET, page.address()).err())?;
    expect_eq!(refused, Some(Fault::PRIVILEGED_OPERATION))?;
    expect!(essa(GET, page.address()).is_ok(), "supervisor state may")
}

/// Order codes from 8 on are refused.
#[case(spec = "Linux-s390 ESSA", needs("s390x.essa"))]
fn unknown_order_is_refused() -> Verdict {
    let page = Frames::new(1);
    for order in 8..16 {
        let refused = essa(order, page.address()).err();
        expect_eq!(refused, Some(Fault::SPECIFICATION), "order {order}")?;
    }
    Ok(())
}

/// A fresh page is stable; each set shows in the next get, and stable again at the end.
#[case(spec = "Linux-s390 ESSA", needs("s390x.essa"))]
fn usage_states_follow_the_orders() -> Verdict {
    let page = Frames::new(1);
    let at = page.address();
    expect_eq!(usage(at, SET_STABLE)?, 0, "before")?;
    for (order, state) in [
        (SET_UNUSED, 1),
        (SET_POTENTIALLY_VOLATILE, 2),
        (SET_VOLATILE, 3),
    ] {
        expect_eq!(usage(at, order)?, 0, "old state, order {order}")?;
        expect_eq!(usage(at, GET)?, state, "order {order}")?;
        expect_eq!(usage(at, SET_STABLE)?, state, "back, order {order}")?;
    }
    expect_eq!(usage(at, GET)?, 0)
}

/// An address beyond storage is an addressing exception.
#[case(spec = "Linux-s390 ESSA", needs("s390x.essa"))]
fn page_beyond_storage_is_refused() -> Verdict {
    expect_eq!(
        essa(GET, guest_lib::memory::total()).err(),
        Some(Fault::ADDRESSING)
    )
}
