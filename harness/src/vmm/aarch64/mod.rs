//! The machine of an arm64 host. It compiles, and its parts that need no arm64 host have tests; it has
//! never run.
//!
//! The payload is entered by the Linux boot protocol, with a device tree, at EL1. KVM itself is the
//! interrupt controller (GICv3), the timers and PSCI; the console is a PL011 that is polled.

mod board;
/// The payloads' own reader of device trees.
#[cfg(test)]
#[expect(dead_code, reason = "payloads use more of it than the tests here")]
#[path = "../../../../guest-lib/src/arch/arm64/dtb.rs"]
mod dtb;
mod pl011;

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod machine;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
pub use board::MAX_CPUS;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
pub use machine::{probe, run};
