//! The built-in VMM on `/dev/kvm`, as a child process of this very program: `assay vmm ...`.

use super::{Boot, Hypervisor, Launch, Offer, Unavailable, Unmet};
use crate::arch::Arch;
use crate::manifest::Unit;
use crate::process::CommandLine;
use crate::vmm::{self, Found};
use std::path::PathBuf;
use std::sync::OnceLock;

/// The expectations of a KVM without hardware virtualization: its emulator deviates, whichever VMM
/// drives it.
pub const EMULATED_FILE: &str = "kvm-emulated";

/// Memory of the largest machine, in MiB: the devices begin above.
const MAX_MEMORY_MIB: u32 = 2048;

/// The architecture of this host: KVM runs no other.
const HOST: Arch = match cfg!(target_arch = "aarch64") {
    true => Arch::Arm64,
    false => Arch::X86,
};

/// The adaptor.
#[derive(Default)]
pub struct Kvm {
    found: OnceLock<Result<Found, String>>,
}

impl Kvm {
    fn found(&self) -> Result<&Found, String> {
        self.found
            .get_or_init(vmm::probe)
            .as_ref()
            .map_err(Clone::clone)
    }

    /// Whether the processor itself runs guests. Without that KVM emulates privileged code, which
    /// is what payloads consist of, and QEMU's TCG is faster.
    pub fn in_hardware(&self) -> bool {
        in_hardware()
    }
}

/// What the VMM does for its guests.
const SERVICES: &[&str] = match HOST {
    Arch::X86 => X86_SERVICES,
    Arch::Arm64 | Arch::S390x => &[],
};
const X86_SERVICES: &[&str] = &[
    "dirty_log",
    "dirty_ring",
    "inject",
    "kick",
    "memslot",
    "mmio_counter",
    "save_restore",
    "userfault",
];

/// Said of a KVM that is not in hardware.
pub(super) const EMULATED: &str =
    "no hardware virtualization: KVM emulates privileged code, so `auto` prefers qemu-tcg";

/// Whether KVM here uses the processor's own virtualization.
pub(super) fn in_hardware() -> bool {
    // There is no KVM for arm64 without EL2.
    HOST == Arch::Arm64
        || ["kvm_intel", "kvm_amd"]
            .iter()
            .any(|m| PathBuf::from("/sys/module").join(m).is_dir())
}

/// This program.
pub(super) fn own_program() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("assay"))
}

impl Hypervisor for Kvm {
    fn name(&self) -> &'static str {
        "kvm"
    }

    fn expectations(&self) -> &'static str {
        if self.in_hardware() {
            "kvm"
        } else {
            EMULATED_FILE
        }
    }

    fn archs(&self) -> &'static [Arch] {
        &[HOST]
    }

    fn capabilities(&self, _: Arch) -> Vec<String> {
        let Ok(found) = self.found() else {
            return Vec::new();
        };
        let features = found.capabilities.iter().map(|c| (*c).to_owned());
        features
            .chain(SERVICES.iter().map(|s| format!("service.{s}")))
            .collect()
    }

    fn probe(&self, arch: Arch) -> Result<Offer, Unavailable> {
        if arch != HOST {
            return Err(Unavailable(format!(
                "the built-in VMM runs {HOST} payloads on this host, not {arch}; use qemu-tcg"
            )));
        }
        let found = self.found().map_err(Unavailable)?;
        let mut remarks = Vec::new();
        if !self.in_hardware() {
            remarks.push(EMULATED.to_owned());
        }
        Ok(Offer {
            version: found.version.clone(),
            program: vmm::device(),
            remarks,
        })
    }

    fn is_unverified(&self) -> bool {
        HOST == Arch::Arm64
    }

    fn supports(&self, unit: &Unit) -> Result<(), Unmet> {
        let machine = &unit.machine;
        let unmet = |what: String| Err(Unmet(what));
        if let Some(model) = &machine.machine {
            return unmet(format!("machine.{model}"));
        }
        if let Some(device) = machine.devices.first() {
            return unmet(format!("device.{device}"));
        }
        // The machine of an arm64 host begins at EL1, with a GICv3 and nothing else.
        for (asked, word) in [
            (machine.gic.is_some_and(|gic| gic != 3), "arm64.gicv2"),
            (machine.its == Some(true), "arm64.its"),
            (machine.el2 == Some(true), "arm64.el2"),
            (machine.secure == Some(true), "arm64.el3"),
        ] {
            if HOST == Arch::Arm64 && asked {
                return unmet(word.into());
            }
        }
        let most = self.found().map_or(0, |f| f.max_cpus);
        if machine.cpus() as usize > most {
            return unmet(format!("cpus>={}", machine.cpus()));
        }
        if machine.memory_mib() > MAX_MEMORY_MIB {
            return unmet(format!("memory>={}", machine.memory_mib()));
        }
        let known = |f: &&String| f.starts_with('-') && vmm::is_feature(&f[1..]);
        let on = |f: &&String| f.starts_with('+');
        match machine.cpu_features.iter().find(|f| !known(f) && !on(f)) {
            Some(feature) => unmet(format!("cpu_feature.{feature}")),
            None => Ok(()),
        }
    }

    fn boot(&self, _: Arch) -> Boot {
        match HOST {
            Arch::Arm64 => Boot::Image,
            Arch::X86 | Arch::S390x => Boot::Elf,
        }
    }

    fn command(&self, launch: &Launch<'_>) -> CommandLine {
        let machine = &launch.unit.machine;
        let mut command = CommandLine::new(own_program());
        command.args(["vmm", "--kernel"]).arg(launch.image);
        command.args(["--cpus".to_owned(), machine.cpus().to_string()]);
        command.args(["--memory".to_owned(), machine.memory_mib().to_string()]);
        for feature in machine.cpu_features.iter().filter(|f| f.starts_with('-')) {
            command.args(["--cpu-feature", feature]);
        }
        if machine.pit == Some(false) && HOST == Arch::X86 {
            command.arg("--no-pit");
        }
        if launch.may_reset {
            command.arg("--reset");
        }
        // For the suite's own tests: which promise to break.
        if let Some(what) = std::env::var_os("ASSAY_VMM_SABOTAGE") {
            command.arg("--sabotage").arg(what);
        }
        command.args(["--append", launch.guest_args]);
        command
    }

    fn services(&self, _: &Unit) -> Vec<&'static str> {
        SERVICES.to_vec()
    }
}
