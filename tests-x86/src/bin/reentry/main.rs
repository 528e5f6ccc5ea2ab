//! Leaving the guest and coming back: nothing is done twice, nothing is forgotten.
//!
//! A device access takes the guest out to its host and back. In between the host may be
//! interrupted, may look at the registers and write them back, may even move the whole machine into
//! another one. The guest must not be able to tell: an access reaches the device exactly once, and
//! the next instruction finds every register as it was.
//!
//! Spec: the kernel's KVM API document, section 5 (the run structure: an access is complete only when
//! the guest is entered again), and the processor manual for what each part of the state is.
#![no_std]
#![no_main]
guest_lib::payload!();

mod demand;
mod inject;
mod mmio;
mod restore;

use guest_lib::prelude::*;
use guest_lib::service::{self, Access, Counted, PORT_OFFSET};

/// The device that counts, quiet and empty.
#[derive(Debug)]
pub struct Device(());

impl Fixture for Device {
    fn fresh() -> Result<Self, Stop> {
        service::counter_reset(0, 0)?;
        Ok(Device(()))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = service::counter_reset(0, 0);
    }
}

impl Device {
    /// Forgets what it saw; every `every`th access is interrupted as `kind` says.
    pub fn reset(&self, every: u64, kind: u64) -> Verdict {
        service::counter_reset(every, kind)?;
        Ok(())
    }

    /// What it saw.
    pub fn seen(&self) -> Result<Counted, Stop> {
        Ok(service::counter_read()?)
    }
}

/// The accesses of one kind as bytes, in order: (offset, value). How a hypervisor cuts an access into
/// pieces at a page boundary is its own business; the bytes are not.
pub fn bytes(log: &[Access], writes: bool) -> Vec<(u32, u8)> {
    let of = |a: &Access| {
        (0..u32::from(a.width))
            .map(|i| (a.offset + i, (a.value >> (8 * i)) as u8))
            .collect::<Vec<_>>()
    };
    // A string access to a port names the same port again and again, so ports stay as they are.
    log.iter()
        .filter(|a| (a.is_write == 1) == writes)
        .flat_map(|a| match a.offset >= PORT_OFFSET && a.width == 1 {
            true => vec![(a.offset, a.value as u8)],
            false => of(a),
        })
        .collect()
}
