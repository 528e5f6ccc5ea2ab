//! QEMU, with its own emulation (TCG) or with an accelerator of the host.
//!
//! x86 payloads boot by their PVH note, arm64 ones as a Linux `Image` (QEMU passes no device tree
//! to an ELF file), s390x ones as ELF. The console is QEMU's standard output.

use super::vmms::UNVERIFIED;
use super::{Boot, Hypervisor, Launch, Offer, Unavailable, Unmet, which};
use crate::arch::Arch;
use crate::manifest::{Machine, Unit};
use crate::process::CommandLine;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, UNIX_EPOCH};
use wait_timeout::ChildExt;

/// An accelerator of QEMU.
struct Accelerator {
    /// The adaptor's name.
    name: &'static str,
    /// QEMU's word.
    word: &'static str,
    /// The operating system that has it, as Rust calls it; TCG is everywhere.
    os: Option<&'static str>,
    /// The device that must be there.
    device: Option<&'static str>,
    archs: &'static [Arch],
    remarks: &'static [&'static str],
}

const ACCELERATORS: &[Accelerator] = &[
    Accelerator {
        name: "qemu-tcg",
        word: "tcg",
        os: None,
        device: None,
        archs: &Arch::ALL,
        remarks: &[],
    },
    Accelerator {
        name: "qemu-kvm",
        word: "kvm",
        os: Some("linux"),
        device: Some("/dev/kvm"),
        archs: &Arch::ALL,
        remarks: &[],
    },
    Accelerator {
        name: "qemu-hvf",
        word: "hvf",
        os: Some("macos"),
        device: None,
        archs: &[Arch::X86, Arch::Arm64],
        remarks: &[UNVERIFIED],
    },
    Accelerator {
        name: "qemu-whpx",
        word: "whpx",
        os: Some("windows"),
        device: None,
        archs: &[Arch::X86, Arch::Arm64],
        remarks: &[UNVERIFIED],
    },
    Accelerator {
        name: "qemu-mshv",
        word: "mshv",
        os: Some("linux"),
        device: Some("/dev/mshv"),
        archs: &[Arch::X86],
        remarks: &[UNVERIFIED],
    },
];

/// The CPU models to try with KVM on x86, the fullest first. Some KVMs offer a feature and refuse
/// the register that comes with it; QEMU then aborts before anything runs.
const KVM_CPUS: &[&str] = &[
    "max",
    "max,arch-capabilities=off",
    "host,arch-capabilities=off",
    "qemu64",
];
/// The usual CPU model.
const CPU: &str = "max";
/// How long a QEMU may take that is to do nothing.
const PROBE_LIMIT: Duration = Duration::from_secs(20);
/// What QEMU says before it stops a machine that KVM cannot run on.
const KVM_HALTED: &str = "KVM internal error";

/// QEMU under one accelerator.
pub struct Qemu {
    accelerator: &'static Accelerator,
    cache: PathBuf,
    kvm_cpu: OnceLock<Result<KvmCpu, String>>,
    /// What KVM offers its guests.
    kvm_has: OnceLock<Vec<&'static str>>,
}

/// The CPU model for KVM on x86.
#[derive(Clone)]
struct KvmCpu {
    model: String,
    /// What QEMU said about the fuller ones.
    because: String,
}

impl Qemu {
    /// QEMU with TCG.
    pub fn tcg(cache: &Path) -> Self {
        Self::new(&ACCELERATORS[0], cache)
    }

    /// The QEMU adaptor called `name`.
    pub fn find(name: &str, cache: &Path) -> Option<Self> {
        let accelerator = ACCELERATORS.iter().find(|a| a.name == name)?;
        Some(Self::new(accelerator, cache))
    }

    fn new(accelerator: &'static Accelerator, cache: &Path) -> Self {
        Qemu {
            accelerator,
            cache: cache.join("qemu-versions.json"),
            kvm_cpu: OnceLock::new(),
            kvm_has: OnceLock::new(),
        }
    }

    fn is_tcg(&self) -> bool {
        self.accelerator.os.is_none()
    }

    fn is_kvm(&self) -> bool {
        self.accelerator.word == "kvm"
    }

    /// The CPU model for payloads of `arch` whose unit names none, and why it is not the usual one.
    fn cpu_model(&self, arch: Arch) -> Result<KvmCpu, String> {
        if !self.is_kvm() || arch != Arch::X86 {
            return Ok(KvmCpu {
                model: CPU.to_owned(),
                because: String::new(),
            });
        }
        let find = || {
            let program = which(&program(arch)).ok_or("QEMU is not installed")?;
            // What KVM refuses changes with the kernel and the machine.
            let host = rustix::system::uname();
            let host = format!(
                "cpu {} {}",
                host.nodename().to_string_lossy(),
                host.release().to_string_lossy()
            );
            let found = self.remembered(&program, &host, || find_kvm_cpu(&program))?;
            let (model, because) = found.split_once('\n').unwrap_or((found.as_str(), ""));
            Ok(KvmCpu {
                model: model.to_owned(),
                because: because.to_owned(),
            })
        };
        self.kvm_cpu.get_or_init(find).clone()
    }
}

/// The first CPU model that QEMU can make a machine of with KVM; what it said about the first one
/// that it could not is in the second line.
fn find_kvm_cpu(program: &Path) -> Result<String, String> {
    let mut said: Option<String> = None;
    for cpu in KVM_CPUS {
        match starts(program, cpu) {
            Ok(()) => return Ok(format!("{cpu}\n{}", said.unwrap_or_default())),
            Err(why) => {
                said.get_or_insert(why);
            }
        }
    }
    Err(format!(
        "QEMU ends with '{}' with each of the CPU models {}",
        said.unwrap_or_default(),
        KVM_CPUS.join("; ")
    ))
}

/// Makes a stopped machine with `cpu` and lets QEMU end at once; what it says when it fails.
fn starts(program: &Path, cpu: &str) -> Result<(), String> {
    use std::io::{Read, Write};
    let mut command = Command::new(program);
    command.args(["-accel", "kvm", "-cpu", cpu, "-S", "-display", "none"]);
    command.args(["-nodefaults", "-no-user-config", "-monitor", "none"]);
    command.args(["-serial", "none", "-qmp", "stdio"]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // A QEMU that is gone already has its reason on standard error.
        let _ = stdin.write_all(b"{\"execute\":\"qmp_capabilities\"}{\"execute\":\"quit\"}");
    }
    let status = child.wait_timeout(PROBE_LIMIT).map_err(|e| e.to_string())?;
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
        return Err("no answer".into());
    }
    let mut text = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = stderr.read_to_string(&mut text);
    }
    if status.is_some_and(|s| s.success()) {
        return Ok(());
    }
    let line = text.lines().find(|l| l.contains("error"));
    let line = line.or_else(|| text.lines().last()).unwrap_or("no word");
    let short = line.split_once(": ").map_or(line, |(_, rest)| rest);
    Err(short.trim_start_matches("error: ").to_owned())
}

/// Why `accelerator` cannot run payloads of `arch` on this host, whatever QEMU it has.
fn is_missing(accelerator: &Accelerator, arch: Arch) -> Option<String> {
    use rustix::fs::{Access, access};
    let (word, os) = (accelerator.word, accelerator.os?);
    if os != std::env::consts::OS {
        let here = std::env::consts::OS;
        return Some(format!(
            "{word} is an accelerator of {os} hosts, and this is {here}; use qemu-tcg"
        ));
    }
    let host = match std::env::consts::ARCH {
        "x86_64" => Some(Arch::X86),
        "aarch64" => Some(Arch::Arm64),
        "s390x" => Some(Arch::S390x),
        _ => None,
    };
    if host != Some(arch) {
        let cpu = std::env::consts::ARCH;
        return Some(format!(
            "{word} on {cpu} hosts runs no {arch} payloads; use qemu-tcg"
        ));
    }
    let device = accelerator.device?;
    let open = access(device, Access::READ_OK | Access::WRITE_OK);
    open.err().map(|e| format!("{device}: {e}; use qemu-tcg"))
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
        self.accelerator.name
    }

    /// What KVM's emulator does is no doing of QEMU's.
    fn expectations(&self) -> &'static str {
        match self.is_kvm() && !super::kvm::in_hardware() {
            true => super::kvm::EMULATED_FILE,
            false => self.accelerator.name,
        }
    }

    fn archs(&self) -> &'static [Arch] {
        self.accelerator.archs
    }

    fn is_unverified(&self) -> bool {
        self.accelerator.remarks.contains(&UNVERIFIED)
    }

    fn halted(&self, stderr: &str) -> Option<String> {
        let line = stderr.lines().find(|l| l.starts_with(KVM_HALTED));
        line.filter(|_| self.is_kvm()).map(str::to_owned)
    }

    fn probe(&self, arch: Arch) -> Result<Offer, Unavailable> {
        if let Some(why) = is_missing(self.accelerator, arch) {
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
        let word = self.accelerator.word;
        if !self.is_tcg() {
            let known = self.remembered(&path, "accelerators", || accelerators(&path));
            let known = known.map_err(Unavailable)?;
            if !known.split(' ').any(|w| w == word) {
                let path = path.display();
                return Err(Unavailable(format!(
                    "{path} has no accelerator {word}, only {known}; use qemu-tcg"
                )));
            }
        }
        let mut remarks: Vec<String> = self
            .accelerator
            .remarks
            .iter()
            .map(|r| (*r).to_owned())
            .collect();
        let cpu = self.cpu_model(arch).map_err(Unavailable)?;
        if cpu.model != CPU {
            let KvmCpu { model, because } = cpu;
            remarks.push(format!("runs with -cpu {model}: with {CPU}, '{because}'"));
        }
        if self.is_kvm() && arch == Arch::X86 && !super::kvm::in_hardware() {
            remarks.push(super::kvm::EMULATED.to_owned());
        }
        Ok(Offer {
            version,
            program: path,
            remarks,
        })
    }

    fn capabilities(&self, arch: Arch) -> Vec<String> {
        // What TCG emulates in every version that is supported. KVM offers what the host has.
        let emulated: &[&str] = match (self.is_tcg(), arch) {
            (false, _) => &[],
            (_, Arch::X86) => &["x86.svm", "x86.svm.npt"],
            (_, Arch::Arm64) => &["arm64.el2", "arm64.gicv2", "arm64.gicv3", "arm64.its"],
            (_, Arch::S390x) => &["s390x.vector"],
        };
        // KVM offers what the host has, and `max` is all of it.
        let probe = || crate::vmm::probe().map_or_else(|_| Vec::new(), |found| found.capabilities);
        let found: &[&str] = match self.is_kvm() && arch == Arch::X86 {
            true => self.kvm_has.get_or_init(probe),
            false => &[],
        };
        let services = SERVICES.iter().filter(|(_, archs)| archs.contains(&arch));
        let services = services.map(|(name, _)| format!("service.{name}"));
        emulated
            .iter()
            .chain(found)
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
        command.args(["-accel", self.accelerator.word]);
        command.args(["-machine".to_owned(), model(unit.arch, machine)]);
        let usual = self.cpu_model(unit.arch);
        let usual = usual.map_or_else(|_| CPU.to_owned(), |found| found.model);
        command.args(["-cpu".to_owned(), cpu(machine, &usual)]);
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

/// The value of `-cpu`; `usual` is for a machine that names no model.
fn cpu(machine: &Machine, usual: &str) -> String {
    let mut cpu = machine.cpu.clone().unwrap_or_else(|| usual.to_owned());
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

/// The words of the accelerators that the QEMU at `path` was built with.
fn accelerators(path: &Path) -> Result<String, String> {
    let output = Command::new(path).args(["-accel", "help"]).output();
    let output = output.map_err(|e| format!("cannot run {} -accel help: {e}", path.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    // One word a line, after a headline.
    let words = text.lines().map(str::trim);
    let words = words.filter(|l| !l.is_empty() && !l.contains(' '));
    Ok(words.collect::<Vec<_>>().join(" "))
}

/// The version that the program at `path` prints.
fn version(path: &Path) -> Result<String, String> {
    let output = Command::new(path)
        .arg("--version")
        .output()
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut words = text
        .split_ascii_whitespace()
        .skip_while(|word| *word != "version");
    let version = words.nth(1).ok_or("it prints no version")?;
    Ok(version.to_owned())
}

impl Qemu {
    /// The version of the program at `path`.
    fn version(&self, path: &Path) -> Result<String, String> {
        self.remembered(path, "", || version(path))
    }

    /// What `find` says of the program at `path`, asked for once per state of that file. `what`
    /// tells one question from another; an error is not remembered.
    fn remembered(
        &self,
        path: &Path,
        what: &str,
        find: impl FnOnce() -> Result<String, String>,
    ) -> Result<String, String> {
        let meta = std::fs::metadata(path).map_err(|e| e.to_string())?;
        let time = meta
            .modified()
            .ok()
            .and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        let time = time.map_or(0, |t| t.as_nanos());
        let key = format!("{} {} {time} {what}", path.display(), meta.len());
        let key = key.trim_end().to_owned();
        let mut known: BTreeMap<String, String> = std::fs::read(&self.cache)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        if let Some(answer) = known.get(&key) {
            return Ok(answer.clone());
        }
        let answer = find()?;
        known.insert(key, answer.clone());
        let text = serde_json::to_vec_pretty(&known).unwrap_or_default();
        // A cache that cannot be written costs a process start the next time, nothing else.
        let fresh = self.cache.with_extension(format!("{}", std::process::id()));
        let written = self.cache.parent().map(std::fs::create_dir_all).is_some();
        if written && std::fs::write(&fresh, text).is_ok() {
            let _ = std::fs::rename(&fresh, &self.cache);
        }
        Ok(answer)
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

    /// A QEMU that makes machines with one CPU model only.
    fn picky(folder: &Path, cpu: &str) -> PathBuf {
        std::fs::create_dir_all(folder).unwrap();
        let path = folder.join("qemu");
        let refusal = "echo qemu: error: failed to set MSR 0x10a >&2; exit 1";
        let text =
            format!("#!/bin/sh\n[ \"$4\" = '{cpu}' ] || {{ {refusal}; }}\nread line; exit 0\n");
        // Another process writes it, so that no other test's child has it open for writing.
        let mut write = Command::new("sh");
        write.args(["-c", "printf %s \"$1\" >\"$0\" && chmod +x \"$0\""]);
        assert!(write.arg(&path).arg(text).status().unwrap().success());
        path
    }

    #[test]
    fn the_cpu_model_for_kvm_is_one_that_starts() {
        let folder = std::env::temp_dir().join(format!("assay-picky-{}", std::process::id()));
        let find = |cpu| find_kvm_cpu(&picky(&folder, cpu));
        assert_eq!(find("max"), Ok("max\n".to_owned()));
        let (next, why) = (KVM_CPUS[1], "failed to set MSR 0x10a");
        assert_eq!(find(next), Ok(format!("{next}\n{why}")));
        let none = find("none of them").unwrap_err();
        assert!(none.contains(why) && none.contains("qemu64"), "{none}");
        // A question is asked once, a failure again.
        let qemu = Qemu::new(&ACCELERATORS[1], &folder);
        let program = picky(&folder, "max");
        assert!(qemu.remembered(&program, "q", || Err("no".into())).is_err());
        for answer in ["first", "second"] {
            let answer = qemu.remembered(&program, "q", || Ok(answer.into()));
            assert_eq!(answer, Ok("first".to_owned()));
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_machine_that_kvm_gave_up_is_told_from_one_that_runs() {
        let said = "qemu: warning: x\nKVM internal error. Suberror: 1\nEAX=00000004\n";
        let of = |name| Qemu::find(name, Path::new("c")).unwrap().halted(said);
        assert_eq!(
            of("qemu-kvm").as_deref(),
            Some("KVM internal error. Suberror: 1")
        );
        assert_eq!(of("qemu-tcg"), None);
        assert_eq!(Qemu::tcg(Path::new("c")).halted("warning"), None);
    }

    #[test]
    fn a_launch_that_may_reset_says_so() {
        let yaml = "units: [{unit: g, arch: x86, payload: g, machine: {machine: microvm}}]";
        let line = line(yaml, true);
        assert!(line.contains("-machine microvm,isa-serial=on "), "{line}");
        assert!(line.contains("-action reboot=reset"), "{line}");
    }
}
