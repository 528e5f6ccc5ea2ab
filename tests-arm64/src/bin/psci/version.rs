//! PSCI_VERSION. Spec: DEN0022 5.3.
//!
//! It is the one function that says how to read all others, so it must be the same everywhere and
//! never look like an error.

use guest_lib::arch::psci::{self, id};
use guest_lib::prelude::*;

fn version() -> u64 {
    psci::call([id::VERSION, 0, 0, 0])[0]
}

/// The version is at least 0.2 and has bit 31 clear.
#[case(spec = "DEN0022 5.3 PSCI_VERSION", needs("arm64.psci"))]
fn version_is_0_2_or_later() -> Verdict {
    let version = version();
    note!("PSCI {}.{}", version >> 16 & 0x7fff, version & 0xffff);
    expect_eq!(version >> 31 & 1, 0, "bit 31")?;
    expect_eq!(version as u32 >= 2, true, "{version:#x} is 0.2 or later")
}

/// Every processor gets the same version.
#[case(spec = "DEN0022 5.3 PSCI_VERSION", needs("arm64.psci", "cpus>=2"))]
fn version_is_the_same_on_every_cpu() -> Verdict {
    let here = version();
    for (i, there) in cpus::on_all(|_| version())?.into_iter().enumerate() {
        expect_eq!(there, here, "on CPU {i}")?;
    }
    Ok(())
}

/// A version that says 1.0 or later comes with PSCI_FEATURES, an earlier one without.
#[case(spec = "DEN0022 5.16 PSCI_FEATURES", needs("arm64.psci"))]
fn features_come_with_1_0() -> Verdict {
    let supported = psci::features(id::FEATURES).0 >= 0;
    expect_eq!(supported, version() as u32 >= 0x1_0000)
}
