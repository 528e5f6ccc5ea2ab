//! PSCI_FEATURES. Spec: DEN0022 5.16.
//!
//! Operating systems decide by it what they call. It must neither promise a function that then
//! answers NOT_SUPPORTED nor hide a mandatory one, and it must not answer for other families.

use guest_lib::arch::psci::{self, Status, id};
use guest_lib::prelude::*;

/// A mandatory function is reported as supported.
#[case(
    spec = "DEN0022 5.16 PSCI_FEATURES",
    needs("arm64.psci"),
    rows(
        psci_version: id::VERSION,
        cpu_suspend_32: id::CPU_SUSPEND_32,
        cpu_suspend_64: id::CPU_SUSPEND,
        cpu_off: id::CPU_OFF,
        cpu_on_32: id::CPU_ON_32,
        cpu_on_64: id::CPU_ON,
        affinity_info_32: id::AFFINITY_INFO_32,
        affinity_info_64: id::AFFINITY_INFO,
        system_off: id::SYSTEM_OFF,
        system_reset: id::SYSTEM_RESET,
        psci_features: id::FEATURES,
    )
)]
fn mandatory_function_is_supported(function: u64) -> Verdict {
    let flags = psci::features(function);
    if flags.0 < 0 {
        return fail!("PSCI_FEATURES({function:#x}) answers {flags:?}");
    }
    let suspend = function == id::CPU_SUSPEND || function == id::CPU_SUSPEND_32;
    let reserved = if suspend { !3 } else { !0 };
    expect_eq!(flags.0 & reserved, 0, "reserved flags")
}

/// An id that PSCI does not have is reported as not supported, and answers so when it is called.
#[case(
    spec = "DEN0022 5.16 PSCI_FEATURES",
    needs("arm64.psci"),
    rows(
        last_32: 0x8400_001f,
        last_64: 0xc400_001f,
        version_as_64: 0xc400_0000,
        cpu_off_as_64: 0xc400_0002,
        system_off_as_64: 0xc400_0008,
    )
)]
fn reserved_id_is_not_supported(function: u64) -> Verdict {
    expect_eq!(psci::features(id::VERSION).0 >= 0, true, "a known id")?;
    expect_eq!(psci::features(function), Status::NOT_SUPPORTED)?;
    expect_eq!(psci::psci(function, [0; 3]), Status::NOT_SUPPORTED)
}

/// PSCI_FEATURES does not answer for functions of other families.
#[case(
    spec = "DEN0022 5.16 PSCI_FEATURES",
    needs("arm64.psci"),
    rows(trng: id::TRNG_VERSION, pv_time: id::PV_TIME_FEATURES, vendor: id::VENDOR_HYP_UID)
)]
fn other_family_is_not_supported(function: u64) -> Verdict {
    expect_eq!(psci::features(id::VERSION).0 >= 0, true, "a known id")?;
    expect_eq!(psci::features(function), Status::NOT_SUPPORTED)
}

/// An optional function that is reported as not supported answers so when it is called.
#[case(
    spec = "DEN0022 5.16 PSCI_FEATURES",
    needs("arm64.psci"),
    rows(
        migrate: id::MIGRATE,
        cpu_freeze: id::CPU_FREEZE,
        cpu_default_suspend: id::CPU_DEFAULT_SUSPEND,
        node_hw_state: id::NODE_HW_STATE,
        system_suspend_32: id::SYSTEM_SUSPEND_32,
        system_suspend_64: id::SYSTEM_SUSPEND,
        set_suspend_mode: id::SET_SUSPEND_MODE,
        system_reset2: id::SYSTEM_RESET2,
        system_off2: id::SYSTEM_OFF2,
    )
)]
fn optional_function_agrees_with_features(function: u64) -> Verdict {
    let flags = psci::features(function);
    if flags.0 >= 0 {
        // A call could stop the machine; that it is supported is shown by other cases.
        note!("supported");
        return expect_eq!(flags.0 & !1, 0, "reserved flags");
    }
    expect_eq!(flags, Status::NOT_SUPPORTED)?;
    expect_eq!(psci::psci(function, [0; 3]), Status::NOT_SUPPORTED)
}

/// Every processor gets the same answers.
#[case(spec = "DEN0022 5.16 PSCI_FEATURES", needs("arm64.psci", "cpus>=2"))]
fn features_are_the_same_on_every_cpu() -> Verdict {
    let all = || {
        (0..32)
            .map(|n| psci::features(id::CPU_SUSPEND + n))
            .collect::<Vec<_>>()
    };
    let here = all();
    for (i, there) in cpus::on_all(|_| all())?.into_iter().enumerate() {
        expect_eq!(there, here, "on CPU {i}")?;
    }
    Ok(())
}
