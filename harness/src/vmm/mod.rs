//! The built-in VMM: a payload on `/dev/kvm` without firmware, in milliseconds.
//!
//! It exists for two reasons. Nothing has to be installed, and a launch costs so little that a
//! fresh machine per case is affordable. And it helps payloads from the outside: dirty logs, memory
//! slots, save and restore, injected interrupts, accesses that are counted ([`services`]). No
//! other hypervisor can be asked for these by its guest. On an arm64 host it has no services, and it has
//! never run there.
//!
//! It runs as a child process, `assay vmm ...`, like every other hypervisor. Its faults are part of
//! the suite: with `--sabotage` it breaks one promise on purpose, so that tests can see the
//! cases that guard this promise go red.
//!
//! This is the one place of the runner with more than a few `unsafe` blocks: KVM takes addresses.

/// What a `/dev/kvm` of either architecture needs.
macro_rules! with_kvm {
    ($($item:item)*) => {$(
        #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
        $item
    )*};
}

with_kvm! {
    mod console;
    mod memory;
}
#[cfg(any(test, all(target_os = "linux", target_arch = "aarch64")))]
mod aarch64;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod x86_64;

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
    x86_64::is_feature(name)
}

/// Whether `name` is a processor feature that `--cpu-feature -NAME` can take away.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
pub fn is_feature(_name: &str) -> bool {
    false
}

/// `assay vmm`
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The payload: an ELF file with a PVH note; on an arm64 host an Image
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
#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
pub fn run(options: &Options) -> Result<u8> {
    #[cfg(target_arch = "aarch64")]
    use aarch64 as host;
    #[cfg(target_arch = "x86_64")]
    use x86_64 as host;
    host::run(options).map_err(|why| Error::usage(format!("vmm: {why}")))
}

/// Runs a payload to its end; the exit code of the process.
#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
pub fn run(_options: &Options) -> Result<u8> {
    Err(Error::usage(format!("vmm: {}", probe::ELSEWHERE)))
}

with_kvm! {
    /// The exit code when the guest shuts a processor down or KVM cannot go on.
    const DIED: u8 = 4;

    /// Becomes the same program with the same arguments, so that nothing of the old machine can stay
    /// behind. It returns when that fails.
    fn start_again() {
        use std::os::unix::process::CommandExt;
        let mut args = std::env::args_os();
        let error = match (std::env::current_exe(), args.next()) {
            (Ok(program), _) => std::process::Command::new(program).args(args).exec(),
            (Err(e), _) => e,
        };
        eprintln!("assay: vmm: cannot start again: {error}");
    }
}
