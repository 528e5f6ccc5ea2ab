//! Hypervisors under test: one file per adaptor.
//!
//! An adaptor says what it offers on this host, whether it can build the machine a unit asks
//! for, and the exact command that runs a launch. To add one, write a file here that implements
//! [`Hypervisor`] and name it in [`find`] and [`NAMES`].

pub mod auto;
pub mod bochs;
pub mod kvm;
pub mod prepare;
pub mod qemu;
pub mod replay;
pub mod template;
pub mod vmms;

use crate::arch::Arch;
use crate::error::{Error, Result, did_you_mean};
use crate::manifest::Unit;
use crate::process::CommandLine;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What an adaptor boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    /// The payload's ELF file.
    Elf,
    /// The payload as a flat image ([`crate::payload::flat_image`]).
    Image,
}

/// What this host's copy of a hypervisor is.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// Its version, as numbers: `7.2.22`.
    pub version: String,
    /// The program.
    pub program: PathBuf,
    /// Remarks for people, such as `unverified`.
    pub remarks: Vec<String>,
}

/// Why a hypervisor cannot be used here, with the cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable(pub String);

/// A property of a machine that an adaptor lacks, as the word a skip names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet(pub String);

/// One start of a machine.
pub struct Launch<'a> {
    /// The unit.
    pub unit: &'a Unit,
    /// What to boot, in the form that [`Hypervisor::boot`] names.
    pub image: &'a Path,
    /// The guest's command line.
    pub guest_args: &'a str,
    /// Which launch of the unit this is, from 1.
    pub number: u32,
    /// Whether a reset must start the payload again instead of ending the process.
    pub may_reset: bool,
    /// A folder for sockets and the like that belong to this unit alone; made on first use.
    pub scratch: &'a Path,
}

/// One hypervisor that payloads can be started on.
pub trait Hypervisor: Send + Sync {
    /// The word used by `--hypervisor`, in reports, and as the name of its expectations.
    fn name(&self) -> &'static str;

    /// The name of its expectations: its own, unless it deviates by the kind of host.
    fn expectations(&self) -> &'static str {
        self.name()
    }

    /// The architectures whose units make sense on it.
    fn archs(&self) -> &'static [Arch] {
        &Arch::ALL
    }

    /// What this host's copy offers for `arch`, or why it cannot be used.
    fn probe(&self, arch: Arch) -> std::result::Result<Offer, Unavailable>;

    /// Features and services that payloads of `arch` find there, as far as they are known without
    /// running one.
    fn capabilities(&self, _arch: Arch) -> Vec<String> {
        Vec::new()
    }

    /// Whether cases of `unit` find `need` there, as far as that is known without running one.
    fn meets(&self, unit: &Unit, need: &str) -> bool {
        match need.strip_prefix("service.") {
            Some(service) => self.services(unit).contains(&service),
            None => self.capabilities(unit.arch).iter().any(|c| c == need),
        }
    }

    /// Whether it was written from documentation alone and has never run.
    fn is_unverified(&self) -> bool {
        false
    }

    /// Whether it can build the machine that `unit` asks for.
    fn supports(&self, unit: &Unit) -> std::result::Result<(), Unmet>;

    /// What it boots on `arch`.
    fn boot(&self, arch: Arch) -> Boot;

    /// The exact process that runs `launch`.
    fn command(&self, launch: &Launch<'_>) -> CommandLine;

    /// Makes `command` start the machine stopped, with a gdb stub on TCP `port` of this host; says
    /// whether this hypervisor can.
    fn debug(&self, _command: &mut CommandLine, _port: u16) -> bool {
        false
    }

    /// The words on standard error that say that the machine has stopped for good although the
    /// process lives on.
    fn halted(&self, _stderr: &str) -> Option<String> {
        None
    }

    /// Whether the process ends, instead of booting again, when the machine resets.
    fn exits_on_reset(&self) -> bool {
        false
    }

    /// The services it offers to the machine of `unit`: the guest learns them from `services=`.
    fn services(&self, _unit: &Unit) -> Vec<&'static str> {
        Vec::new()
    }
}

/// Every adaptor that can be chosen by name.
pub const NAMES: &[&str] = &[
    "kvm",
    "qemu-tcg",
    "qemu-kvm",
    "qemu-hvf",
    "qemu-whpx",
    "qemu-mshv",
    "bochs",
    "alioth",
    "cloud-hypervisor",
    "firecracker",
    "crosvm",
    "kvmtool",
    "xen",
];

/// The adaptor called `name`. `cache` is a folder for what probing found out.
pub fn find(name: &str, cache: &Path) -> Result<Arc<dyn Hypervisor>> {
    match name {
        "kvm" => Ok(Arc::new(kvm::Kvm::default())),
        "bochs" => Ok(Arc::new(bochs::Bochs::default())),
        _ => match (qemu::Qemu::find(name, cache), vmms::find(name)) {
            (Some(qemu), _) => Ok(Arc::new(qemu)),
            (_, Some(described)) => Ok(Arc::new(described)),
            _ => Err(Error::usage(format!(
                "unknown hypervisor '{name}'{}; known are auto, all, {}, and those of \
                 `hypervisors:` in unittests.yaml",
                did_you_mean(name, NAMES.iter().copied()),
                NAMES.join(", ")
            ))),
        },
    }
}

/// The file that runs when `program` is started: itself when it holds a slash, else from `PATH`.
pub fn which(program: &str) -> Option<PathBuf> {
    use rustix::fs::{Access, access};
    let runs = |path: &PathBuf| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(runs);
    }
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join(program))
        .find(runs)
}
