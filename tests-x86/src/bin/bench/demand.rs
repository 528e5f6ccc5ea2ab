//! First writes to pages that the host has yet to fill. Spec: KVM api 4.35.

use crate::Bench;
use guest_lib::prelude::*;
use guest_lib::protocol::bench::Kind;
use guest_lib::service::{ServiceError, flag};

/// Every page is filled once, by its first write, with its own contents.
fn filled_once(kind: Kind, flags: u64, cpus: usize) -> Verdict {
    let bench = Bench::of(kind, cpus)?;
    for round in bench.rounds() {
        let slot = match bench.slot(flags) {
            // The kernel does not let this process use userfaultfd.
            Err(ServiceError::Refused(1 | 13 | 22 | 38)) => return skip("service.userfault"),
            other => other?,
        };
        expect_eq!(slot.faults()?, 0, "pages filled before the first write")?;
        bench.round(&slot, round, true)?;
        expect_eq!(slot.faults()?, bench.pages(), "pages filled")?;
    }
    Ok(())
}

/// A write to a page that is not there is made once the host has filled the page.
#[case(
    spec = "KVM api 4.35",
    needs("cpus>=2", "service.userfault"),
    rows(one_cpu: 1, two_cpus: 2)
)]
fn missing_page_is_filled_once(cpus: usize) -> Verdict {
    filled_once(Kind::Missing, flag::ON_DEMAND, cpus)
}

/// A write to a page that is there but not mapped is made once the host has mapped the page.
#[case(
    spec = "KVM api 4.35",
    needs("cpus>=2", "service.userfault"),
    rows(one_cpu: 1, two_cpus: 2)
)]
fn minor_page_is_filled_once(cpus: usize) -> Verdict {
    filled_once(Kind::Minor, flag::ON_DEMAND | flag::MINOR, cpus)
}
