//! SYSTEM_OFF, SYSTEM_RESET and their relatives. Spec: DEN0022 5.11 to 5.13.
//!
//! These end the machine; the runner sees how. A call that returns, or that ends the machine another
//! way, fails.

use guest_lib::arch::psci::{self, Status, id};
use guest_lib::prelude::*;
use guest_lib::protocol::table::Ends;
use guest_lib::runner::expect_end;

fn by(cpu: Cpu, function: u64, end: Ends) -> Verdict {
    if cpu != Cpu::BOOT {
        cpus::start(cpu)?;
    }
    arch::platform::console_drain();
    expect_end(end);
    let status = cpus::run_on(cpu, || psci::psci(function, [0; 3]))?;
    fail!("the call returned {status:?}")
}

/// SYSTEM_OFF powers the machine off.
#[case(spec = "DEN0022 5.11 SYSTEM_OFF", needs("arm64.psci"), ends = poweroff)]
fn system_off_powers_off() -> Verdict {
    by(Cpu::BOOT, id::SYSTEM_OFF, Ends::Poweroff)
}

/// SYSTEM_OFF from a secondary processor powers the machine off.
#[case(spec = "DEN0022 5.11 SYSTEM_OFF", needs("arm64.psci", "cpus>=2"), ends = poweroff)]
fn secondary_cpu_powers_off() -> Verdict {
    by(Cpu(1), id::SYSTEM_OFF, Ends::Poweroff)
}

/// SYSTEM_RESET resets the machine.
#[case(spec = "DEN0022 5.12 SYSTEM_RESET", needs("arm64.psci"), ends = reset)]
fn system_reset_resets() -> Verdict {
    by(Cpu::BOOT, id::SYSTEM_RESET, Ends::Reset)
}

/// SYSTEM_RESET from a secondary processor resets the machine.
#[case(spec = "DEN0022 5.12 SYSTEM_RESET", needs("arm64.psci", "cpus>=2"), ends = reset)]
fn secondary_cpu_resets() -> Verdict {
    by(Cpu(1), id::SYSTEM_RESET, Ends::Reset)
}

/// SYSTEM_RESET2 refuses a reserved architectural reset type, or is not supported at all.
#[case(spec = "DEN0022 5.13 SYSTEM_RESET2", needs("arm64.psci"))]
fn reset2_refuses_a_reserved_type() -> Verdict {
    let expected = match psci::features(id::SYSTEM_RESET2).0 {
        0.. => Status::INVALID_PARAMETERS,
        _ => Status::NOT_SUPPORTED,
    };
    expect_eq!(psci::psci(id::SYSTEM_RESET2, [0x1234, 0, 0]), expected)
}

/// MIGRATE_INFO_TYPE says that no Trusted OS needs migration, or is not supported.
#[case(spec = "DEN0022 5.9 MIGRATE_INFO_TYPE", needs("arm64.psci"))]
fn no_trusted_os_needs_migration() -> Verdict {
    let kind = psci::psci(id::MIGRATE_INFO_TYPE, [0; 3]);
    expect_eq!(
        [Status(2), Status::NOT_SUPPORTED].contains(&kind),
        true,
        "answer {kind:?}"
    )?;
    let reported = psci::features(id::MIGRATE_INFO_TYPE).0 >= 0;
    expect_eq!(
        reported,
        kind != Status::NOT_SUPPORTED,
        "PSCI_FEATURES agrees"
    )
}
