//! The dirty log, seen from both sides: the guest writes, the host reports, the guest compares.
//!
//! A dirty log is a promise about absence. Live migration copies what the log names and nothing
//! else, so a page that was written and is not named is lost data; a page that is named without
//! need is only time. KVM promises more than that, and a case that asks for the exact set finds
//! faults in both directions. What the API lets a hypervisor report in excess is said where it is
//! so.
//!
//! Spec: the kernel's KVM API document, sections 4.8, 4.35, 4.117, 7.18, 8.29. The host must be Assay's own
//! VMM: no other hypervisor lets its guest see its dirty log.
#![no_std]
#![no_main]
guest_lib::payload!();

mod bitmap;
mod manual;
mod ring;
mod slots;
mod smp;
mod writers;

use guest_lib::prelude::*;
use guest_lib::service::{SLOTS, ServiceError, Slot, flag};

/// Pages of a logged slot: no multiple of 64, so that the last word of the bitmap is partial.
pub const PAGES: u64 = 131;

/// A slot with logging on and nothing dirty.
#[derive(Debug)]
pub struct Logged(pub Slot);

impl Fixture for Logged {
    fn fresh() -> Result<Self, Stop> {
        let slot = Slot::add(1, SLOTS, PAGES, flag::LOG)?;
        slot.dirty()?;
        Ok(Logged(slot))
    }
}

/// The pages that differ between the log and what was written: (missing, in excess).
pub fn difference(log: &[u64], written: &[u64]) -> (Vec<u64>, Vec<u64>) {
    let not_in = |a: &[u64], b: &[u64]| a.iter().copied().filter(|p| !b.contains(p)).collect();
    (not_in(written, log), not_in(log, written))
}

/// The log is exactly `written`.
pub fn expect_exactly(slot: &Slot, written: &[u64]) -> Verdict {
    let log = slot.dirty()?;
    expect_eq!(
        difference(&log, written),
        (Vec::new(), Vec::new()),
        "pages (missing from the log, in excess)"
    )
}

/// A call that the kernel must refuse with EINVAL.
pub fn expect_invalid<T: core::fmt::Debug>(what: &str, got: Result<T, ServiceError>) -> Verdict {
    expect_eq!(got.map(|_| ()), Err(ServiceError::INVALID), "{what}")
}
