//! The built-in VMM: a payload on `/dev/kvm` without firmware, in milliseconds.
//!
//! It exists for two reasons. Nothing has to be installed, and a launch costs so little that a
//! fresh machine per case is affordable. And it helps payloads from the outside: dirty logs, memory
//! slots, save and restore, injected interrupts, accesses that are counted ([`services`]). No
//! other hypervisor can be asked for these by its guest.
//!
//! It runs as a child process, `assay vmm ...`, like every other hypervisor. Its faults are part of
//! the suite: with `--sabotage` it breaks one promise on purpose, so that tests can see the
//! cases that guard this promise go red.
//!
//! This is the one place of the runner with more than a few `unsafe` blocks: KVM takes addresses.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod acpi;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod boot;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod cpuid;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod devices;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod gather;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod machine;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod ring;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod services;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod slots;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod state;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod userfault;

mod probe;
mod sabotage;

pub use probe::{Found, probe};
pub use sabotage::Sabotage;

use crate::error::{Error, Result};
use clap::Args;
use std::path::PathBuf;

/// The environment variable that names another device than `/dev/kvm`.
pub const DEVICE_KEY: &str = "ASSAY_KVM_DEVICE";

/// The device.
pub fn device() -> PathBuf {
    std::env::var_os(DEVICE_KEY).map_or_else(|| PathBuf::from("/dev/kvm"), PathBuf::from)
}

/// Whether `name` is a processor feature that `--cpu-feature -NAME` can take away.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub fn is_feature(name: &str) -> bool {
    cpuid::is_feature(name)
}

/// Whether `name` is a processor feature that `--cpu-feature -NAME` can take away.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
pub fn is_feature(_name: &str) -> bool {
    false
}

/// `assay vmm`
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The payload: an ELF file with a PVH note
    #[arg(long, value_name = "FILE")]
    pub kernel: PathBuf,
    /// Virtual CPUs
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub cpus: u32,
    /// Memory in MiB
    #[arg(long, default_value_t = 256, value_name = "MIB", value_parser = clap::value_parser!(u32).range(4..=2048))]
    pub memory: u32,
    /// The guest's command line
    #[arg(
        long,
        default_value = "",
        value_name = "WORDS",
        allow_hyphen_values = true
    )]
    pub append: String,
    /// A CPUID feature to take away, `-name` (repeat)
    #[arg(
        long = "cpu-feature",
        value_name = "FEATURE",
        allow_hyphen_values = true
    )]
    pub cpu_features: Vec<String>,
    /// No programmable interval timer
    #[arg(long)]
    pub no_pit: bool,
    /// A reset starts the payload again instead of ending the process
    #[arg(long)]
    pub reset: bool,
    /// Enter as PVH says, in 32-bit mode without paging, even when the payload has a 64-bit entry
    #[arg(long)]
    pub pvh: bool,
    /// Break one promise on purpose
    #[arg(long, value_name = "NAME")]
    pub sabotage: Option<Sabotage>,
}

/// Runs a payload to its end; the exit code of the process.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub fn run(options: &Options) -> Result<u8> {
    machine::run(options).map_err(|why| Error::usage(format!("vmm: {why}")))
}

/// Runs a payload to its end; the exit code of the process.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
pub fn run(_options: &Options) -> Result<u8> {
    Err(Error::usage(format!("vmm: {}", probe::ELSEWHERE)))
}
