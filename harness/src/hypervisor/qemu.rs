//! QEMU, with its own emulation (TCG).
//!
//! x86 payloads boot by their PVH note, arm64 ones as a Linux `Image` (QEMU passes no device tree
//! to an ELF file), s390x ones as ELF. The console is QEMU's standard output.

use super::{Boot, Hypervisor, Launch, Offer, Unavailable, Unmet, which};
use crate::arch::Arch;
use crate::manifest::{Machine, Unit};
use crate::process::CommandLine;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

/// QEMU under one accelerator.
pub struct Qemu {
    name: &'static str,
    accelerator: &'static str,
    cache: PathBuf,
}

impl Qemu {
    /// QEMU with TCG.
    pub fn tcg(cache: &Path) -> Self {
        Qemu {
            name: "qemu-tcg",
            accelerator: "tcg",
            cache: cache.join("qemu-versions.json"),
        }
    }

    /// QEMU with KVM, for payloads of the host's architecture.
    pub fn kvm(cache: &Path) -> Self {
        Qemu {
            name: "qemu-kvm",
            accelerator: "kvm",
            cache: cache.join("qemu-versions.json"),
        }
    }

    fn is_kvm(&self) -> bool {
        self.accelerator == "kvm"
    }
}

/// Why KVM cannot run payloads of `arch` here.
fn kvm_is_missing(arch: Arch) -> Option<String> {
    use rustix::fs::{Access, access};
    let host = match std::env::consts::ARCH {
        "x86_64" => Some(Arch::X86),
        "aarch64" => Some(Arch::Arm64),
        "s390x" => Some(Arch::S390x),
        _ => None,
    };
    if host != Some(arch) {
        let word = std::env::consts::ARCH;
        return Some(format!(
            "KVM on {word} runs no {arch} payloads; use qemu-tcg"
        ));
    }
    let device = crate::vmm::device();
    let open = access(&device, Access::READ_OK | Access::WRITE_OK);
    open.err()
        .map(|e| format!("{}: {e}; use qemu-tcg", device.display()))
}

/// The program for `arch`; `ASSAY_QEMU_X86`, `ASSAY_QEMU_ARM64`, `ASSAY_QEMU_S390X` override it.
fn program(arch: Arch) -> String {
    let usual = match arch {
        Arch::X86 => "qemu-system-x86_64",
        Arch::Arm64 => "qemu-system-aarch64",
        Arch::S390x => "qemu-system-s390x",
    };
    let key = format!("ASSAY_QEMU_{}", arch.word().to_ascii_uppercase());
    std::env::var(key).unwrap_or_else(|_| usual.to_owned())
}

fn package(arch: Arch) -> &'static str {
    match arch {
        Arch::X86 => "qemu-system-x86",
        Arch::Arm64 => "qemu-system-arm (Fedora: qemu-system-aarch64)",
        Arch::S390x => "qemu-system-misc (Ubuntu, Fedora: qemu-system-s390x)",
    }
}

impl Hypervisor for Qemu {
    fn name(&self) -> &'static str {
        self.name
    }

    fn probe(&self, arch: Arch) -> Result<Offer, Unavailable> {
        if self.is_kvm()
            && let Some(why) = kvm_is_missing(arch)
        {
            return Err(Unavailable(why));
        }
        let program = program(arch);
        let path = which(&program).ok_or_else(|| {
            let package = package(arch);
            Unavailable(format!(
                "{program} not found; install package {package} or run ./run_tests.sh"
            ))
        })?;
        let version = self.version(&path).map_err(|why| {
            Unavailable(format!("cannot run {} --version: {why}", path.display()))
        })?;
        Ok(Offer {
            version,
            program: path,
            remarks: match self.is_kvm() && !super::kvm::in_hardware() && arch == Arch::X86 {
                true => vec![super::kvm::EMULATED.to_owned()],
                false => Vec::new(),
            },
        })
    }

    fn capabilities(&self, arch: Arch) -> Vec<String> {
        // What TCG emulates in every version that is supported. KVM offers what the host has.
        let emulated: &[&str] = match (self.is_kvm(), arch) {
            (true, _) => &[],
            (_, Arch::X86) => &["x86.svm", "x86.svm.npt"],
            (_, Arch::Arm64) => &["arm64.el2", "arm64.gicv2", "arm64.gicv3", "arm64.its"],
            (_, Arch::S390x) => &["s390x.vector"],
        };
        let services = SERVICES.iter().filter(|(_, archs)| archs.contains(&arch));
        let services = services.map(|(name, _)| format!("service.{name}"));
        emulated
            .iter()
            .map(|c| (*c).to_owned())
            .chain(services)
            .collect()
    }

    fn supports(&self, unit: &Unit) -> Result<(), Unmet> {
        // GICv4 came with QEMU 8; everything else the manifest can say, TCG can build.
        match unit.machine.gic {
            Some(gic) if gic > 3 => Err(Unmet("arm64.gicv4".into())),
            _ => Ok(()),
        }
    }

    fn boot(&self, arch: Arch) -> Boot {
        match arch {
            Arch::Arm64 => Boot::Image,
            Arch::X86 | Arch::S390x => Boot::Elf,
        }
    }

    fn debug(&self, command: &mut CommandLine, port: u16) -> bool {
        command.args([
            "-S".to_owned(),
            "-gdb".to_owned(),
            format!("tcp:127.0.0.1:{port}"),
        ]);
        true
    }

    fn services(&self, unit: &Unit) -> Vec<&'static str> {
        SERVICES
            .iter()
            .filter(|(_, archs)| archs.contains(&unit.arch))
            .map(|(name, _)| *name)
            .filter(|name| unit.machine.services.iter().any(|asked| asked == name))
            .collect()
    }

    /// A unit that asks for services runs under `assay supervise`; all others run QEMU itself.
    fn command(&self, launch: &Launch<'_>) -> CommandLine {
        let machine = self.machine(launch);
        match self.services(launch.unit).is_empty() {
            true => machine,
            false => supervised(machine),
        }
    }
}

/// What a QEMU can be asked for over its machine protocol, and on which architectures.
const SERVICES: &[(&str, &[Arch])] = &[
    ("inject", &[Arch::X86, Arch::S390x]),
    ("migrate", &Arch::ALL),
    ("migrate_postcopy", &Arch::ALL),
    ("save_restore", &Arch::ALL),
];

/// Names a fault that the supervisor makes in the migration stream: for the tests of the cases.
pub const SABOTAGE: &str = "ASSAY_QEMU_SABOTAGE";

/// This program. A test of cargo's lies one folder below it.
fn own_program() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_else(|_| "assay".into());
    let folder = own.parent().filter(|f| f.ends_with("deps"));
    let beside = folder.map(|f| f.with_file_name("assay"));
    beside.filter(|b| b.is_file()).unwrap_or(own)
}

/// `machine`, with someone beside it who answers the guest.
fn supervised(machine: CommandLine) -> CommandLine {
    let mut command = CommandLine::new(own_program());
    command.arg("supervise");
    if let Ok(word) = std::env::var(SABOTAGE) {
        command.args(["--sabotage".to_owned(), word]);
    }
    command.arg("--").arg(machine.program).args(machine.args);
    command
}

impl Qemu {
    /// QEMU with everything that the unit asks for.
    fn machine(&self, launch: &Launch<'_>) -> CommandLine {
        let (unit, machine) = (launch.unit, &launch.unit.machine);
        let mut command = CommandLine::new(program(unit.arch));
        command.args(["-accel", self.accelerator]);
        command.args(["-machine".to_owned(), model(unit.arch, machine)]);
        command.args(["-cpu".to_owned(), cpu(machine)]);
        command.args(["-smp".to_owned(), machine.cpus().to_string()]);
        command.args(["-m".to_owned(), memory(machine)]);
        command.args([
            "-display",
            "none",
            "-nodefaults",
            "-no-user-config",
            "-monitor",
            "none",
        ]);
        command.args(["-chardev", "stdio,id=console,signal=off"]);
        match unit.arch {
            Arch::S390x => command.args(["-device", "sclpconsole,chardev=console"]),
            Arch::X86 | Arch::Arm64 => command.args(["-serial", "chardev:console"]),
        };
        if unit.arch == Arch::X86 {
            command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
        }
        for device in &machine.devices {
            command.args(["-device", device]);
        }
        command.args([
            "-action",
            if launch.may_reset {
                "reboot=reset"
            } else {
                "reboot=shutdown"
            },
        ]);
        command.arg("-kernel").arg(launch.image);
        command.args(["-append", launch.guest_args]);
        command
    }
}

/// The value of `-m`.
fn memory(machine: &Machine) -> String {
    match machine.memory_extra_kib {
        None | Some(0) => machine.memory_mib().to_string(),
        Some(extra) => format!(
            "{}K",
            u64::from(machine.memory_mib()) * 1024 + u64::from(extra)
        ),
    }
}

/// The value of `-machine`.
fn model(arch: Arch, machine: &Machine) -> String {
    let chosen = machine.machine.as_deref();
    let flag = |on: bool| if on { "on" } else { "off" };
    match arch {
        Arch::X86 => {
            let mut model = chosen.unwrap_or("pc").to_owned();
            if model == "microvm" {
                // The console is a 16550 at 0x3f8. ACPI stays on: it names the processors.
                model += ",isa-serial=on";
            }
            if let Some(pit) = machine.pit {
                model += &format!(",pit={}", flag(pit));
            }
            model
        }
        Arch::Arm64 => {
            let mut model = chosen.unwrap_or("virt").to_owned();
            model += &format!(",gic-version={}", machine.gic.unwrap_or(3));
            if let Some(its) = machine.its {
                model += &format!(",its={}", flag(its));
            }
            if machine.el2 == Some(true) {
                model += ",virtualization=on";
            }
            if machine.secure == Some(true) {
                model += ",secure=on";
            }
            model
        }
        Arch::S390x => chosen.unwrap_or("s390-ccw-virtio").to_owned(),
    }
}

/// The value of `-cpu`.
fn cpu(machine: &Machine) -> String {
    let mut cpu = machine.cpu.clone().unwrap_or_else(|| "max".into());
    for feature in &machine.cpu_features {
        let (name, on) = match feature.split_at_checked(1) {
            Some(("+", name)) => (name, "on"),
            Some(("-", name)) => (name, "off"),
            _ => (feature.as_str(), "on"),
        };
        match name.contains('=') {
            true => cpu += &format!(",{name}"),
            false => cpu += &format!(",{name}={on}"),
        }
    }
    cpu
}

impl Qemu {
    /// The version of the program at `path`, asked for once per state of that file.
    fn version(&self, path: &Path) -> Result<String, String> {
        let meta = std::fs::metadata(path).map_err(|e| e.to_string())?;
        let time = meta
            .modified()
            .ok()
            .and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        let time = time.map_or(0, |t| t.as_nanos());
        let key = format!("{} {} {time}", path.display(), meta.len());
        let mut known: BTreeMap<String, String> = std::fs::read(&self.cache)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        if let Some(version) = known.get(&key) {
            return Ok(version.clone());
        }
        let output = Command::new(path)
            .arg("--version")
            .output()
            .map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text
            .split_ascii_whitespace()
            .skip_while(|word| *word != "version")
            .nth(1)
            .ok_or("it prints no version")?
            .to_owned();
        known.insert(key, version.clone());
        let text = serde_json::to_vec_pretty(&known).unwrap_or_default();
        // A cache that cannot be written costs a process start the next time, nothing else.
        let fresh = self.cache.with_extension(format!("{}", std::process::id()));
        let written = self.cache.parent().map(std::fs::create_dir_all).is_some();
        if written && std::fs::write(&fresh, text).is_ok() {
            let _ = std::fs::rename(&fresh, &self.cache);
        }
        Ok(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(yaml: &str, may_reset: bool) -> String {
        let unit = crate::manifest::parse("u", yaml).unwrap().remove(0);
        let launch = Launch {
            unit: &unit,
            image: Path::new("p"),
            guest_args: "unit=u cases=0",
            number: 1,
            may_reset,
            scratch: Path::new("s"),
        };
        Qemu::tcg(Path::new("c")).command(&launch).shell()
    }

    #[test]
    fn the_manifest_decides_the_machine() {
        let line = line(
            "units: [{unit: g, arch: arm64, payload: g, machine: {cpus: 4, gic: 2, el2: true, \
             cpu_features: [+sve, -pmu]}}]",
            false,
        );
        for part in [
            "qemu-system-aarch64 -accel tcg -machine virt,gic-version=2,virtualization=on ",
            "-cpu max,sve=on,pmu=off -smp 4 -m 256",
            "-action reboot=shutdown -kernel p -append 'unit=u cases=0'",
        ] {
            assert!(line.contains(part), "{line}");
        }
    }

    #[test]
    fn a_launch_that_may_reset_says_so() {
        let yaml = "units: [{unit: g, arch: x86, payload: g, machine: {machine: microvm}}]";
        let line = line(yaml, true);
        assert!(line.contains("-machine microvm,isa-serial=on "), "{line}");
        assert!(line.contains("-action reboot=reset"), "{line}");
    }
}
