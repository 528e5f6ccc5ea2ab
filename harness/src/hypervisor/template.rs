//! Hypervisors that a command line describes: those of `hypervisors:` in unittests.yaml, and the
//! VMMs whose adaptor is no more than that.
//!
//! ```yaml
//! hypervisors:
//!   my_vmm:
//!     command: [my-vmm, --kernel, "{kernel}", --cpus, "{cpus}", --cmdline, "{args}"]
//!     archs: [x86]
//!     boot: elf                # elf (PVH note, or s390x) or image (arm64 Image)
//!     version: [my-vmm, --version]
//!     needs_pty: false         # it wants a terminal
//!     resets: false            # a reset starts the guest again instead of ending the process
//!     max_cpus: 64
//!     max_memory_mib: 4096
//!     capabilities: [x86.vmx]  # for `assay hypervisors`
//!     install: how to get it
//!     files: { config.json: '{"kernel": "{kernel}"}' }
//! ```
//!
//! Placeholders: `{kernel}`, `{args}`, `{cpus}`, `{memory_mib}`, `{memory_bytes}`, `{scratch}`;
//! `{args:json}` is the same text inside a JSON string. The guest's console is the program's standard
//! output. The guest ends the machine as the platform of the architecture lets it; a program that
//! lives on after `# done` is killed, so its exit status means nothing.

use super::kvm::own_program;
use super::{Boot, Hypervisor, Launch, Offer, Unavailable, Unmet, which};
use crate::arch::Arch;
use crate::error::{Error, Result, did_you_mean};
use crate::manifest::Unit;
use crate::process::CommandLine;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::process::Command;

/// What [`Template::boot`] can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BootWord {
    /// The ELF file.
    Elf,
    /// The flat image.
    Image,
}

/// A hypervisor as unittests.yaml describes it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// The command, with placeholders.
    pub command: Vec<String>,
    /// Architectures; x86 when absent.
    #[serde(default)]
    pub archs: Vec<Arch>,
    /// What it boots; the ELF file when absent.
    #[serde(default)]
    pub boot: Option<BootWord>,
    /// Command that prints the version.
    #[serde(default)]
    pub version: Vec<String>,
    /// It wants a terminal.
    #[serde(default)]
    pub needs_pty: bool,
    /// A reset starts the guest again.
    #[serde(default)]
    pub resets: bool,
    /// Most virtual CPUs.
    #[serde(default)]
    pub max_cpus: Option<u32>,
    /// Most memory.
    #[serde(default)]
    pub max_memory_mib: Option<u32>,
    /// Needs that its guests find met.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// How to get it.
    #[serde(default)]
    pub install: Option<String>,
    /// Files that are written to `{scratch}` first, with placeholders.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

const PLACEHOLDERS: &[&str] = &[
    "args",
    "args:json",
    "cpus",
    "kernel",
    "memory_bytes",
    "memory_mib",
    "scratch",
];

impl Template {
    /// Refuses what cannot work; `at` is the file's name.
    pub fn check(&self, at: &str, name: &str) -> Result<()> {
        let wrong = |what: String| Err(Error::usage(format!("{at}: hypervisor '{name}': {what}")));
        if !assay_protocol::id::is_segment(name) {
            return wrong("its name is not of the form [a-z][a-z0-9]*(_[a-z0-9]+)*".into());
        }
        if super::NAMES.contains(&name) || ["all", "auto"].contains(&name) {
            return wrong("this name is taken".into());
        }
        if self.command.first().is_none_or(String::is_empty) {
            return wrong("it has no command".into());
        }
        for text in self.command.iter().chain(self.files.values()) {
            for word in placeholders(text) {
                if !PLACEHOLDERS.contains(&word) {
                    let hint = did_you_mean(word, PLACEHOLDERS.iter().copied());
                    return wrong(format!("unknown placeholder '{{{word}}}'{hint}"));
                }
            }
        }
        if !self
            .command
            .iter()
            .chain(self.files.values())
            .any(|t| t.contains("{kernel}"))
        {
            return wrong("neither its command nor its files mention {kernel}".into());
        }
        for need in &self.capabilities {
            if assay_protocol::need::parse(need).is_none() {
                return wrong(format!(
                    "capability '{need}' is no need; see `assay list --needs`"
                ));
            }
        }
        Ok(())
    }
}

/// Words in braces that look like placeholders: JSON braces do not.
fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| {
        let word = rest.split_once('}')?.0;
        let plain = |c: char| c.is_ascii_lowercase() || c == '_' || c == ':';
        (!word.is_empty() && word.chars().all(plain)).then_some(word)
    })
}

/// The adaptor.
pub struct Described {
    name: &'static str,
    template: Template,
    archs: &'static [Arch],
    /// Remarks on every offer.
    remarks: Vec<String>,
}

impl Described {
    /// The hypervisor `name`. Names and lists live as long as the process: there are few.
    pub fn new(name: &str, template: Template, remarks: &[&str]) -> Self {
        let archs = match template.archs.is_empty() {
            true => vec![Arch::X86],
            false => template.archs.clone(),
        };
        Described {
            name: Box::leak(name.to_owned().into_boxed_str()),
            template,
            archs: Box::leak(archs.into_boxed_slice()),
            remarks: remarks.iter().map(|r| (*r).to_owned()).collect(),
        }
    }

    fn fill(text: &str, launch: &Launch<'_>) -> String {
        let machine = &launch.unit.machine;
        // A JSON string without the quotes around it: the template writes those.
        let json = serde_json::Value::from(launch.guest_args).to_string();
        let memory = machine.memory_mib();
        let values = [
            ("{kernel}", launch.image.display().to_string()),
            ("{args:json}", json[1..json.len() - 1].to_owned()),
            ("{args}", launch.guest_args.to_owned()),
            ("{cpus}", machine.cpus().to_string()),
            ("{memory_mib}", memory.to_string()),
            ("{memory_bytes}", (u64::from(memory) << 20).to_string()),
            ("{scratch}", launch.scratch.display().to_string()),
        ];
        values.iter().fold(text.to_owned(), |text, (key, value)| {
            text.replace(key, value)
        })
    }
}

impl Hypervisor for Described {
    fn name(&self) -> &'static str {
        self.name
    }

    fn archs(&self) -> &'static [Arch] {
        self.archs
    }

    /// What KVM's emulator does is no doing of the VMM on top of it.
    fn expectations(&self) -> &'static str {
        let on_kvm = super::vmms::ON_KVM.contains(&self.name);
        match on_kvm && !super::kvm::in_hardware() {
            true => super::kvm::EMULATED_FILE,
            false => self.name,
        }
    }

    fn is_unverified(&self) -> bool {
        self.remarks.iter().any(|r| r == super::vmms::UNVERIFIED)
    }

    fn capabilities(&self, _: Arch) -> Vec<String> {
        self.template.capabilities.clone()
    }

    fn probe(&self, arch: Arch) -> std::result::Result<Offer, Unavailable> {
        if !self.archs.contains(&arch) {
            return Err(Unavailable(format!(
                "{} does not run {arch} payloads",
                self.name
            )));
        }
        let program = &self.template.command[0];
        let path = which(program).ok_or_else(|| {
            let cure = self.template.install.as_deref().map(|i| format!("; {i}"));
            Unavailable(format!("{program} not found{}", cure.unwrap_or_default()))
        })?;
        let version = match self.template.version.split_first() {
            None => "0".to_owned(),
            Some((program, args)) => {
                let output = Command::new(program).args(args).output();
                let output =
                    output.map_err(|e| Unavailable(format!("cannot run {program}: {e}")))?;
                let text = [output.stdout, output.stderr].concat();
                let text = String::from_utf8_lossy(&text);
                let number = |w: &str| w.trim_start_matches('v').to_owned();
                let is_version = |w: &&str| number(w).starts_with(|c: char| c.is_ascii_digit());
                text.split_whitespace()
                    .find(is_version)
                    .map_or("0".into(), number)
            }
        };
        Ok(Offer {
            version,
            program: path,
            remarks: self.remarks.clone(),
        })
    }

    fn supports(&self, unit: &Unit) -> std::result::Result<(), Unmet> {
        let machine = &unit.machine;
        let unmet = |what: String| Err(Unmet(what));
        let more = |most: Option<u32>, asked: u32| most.is_some_and(|most| asked > most);
        match (&machine.machine, machine.devices.first()) {
            (Some(model), _) => unmet(format!("machine.{model}")),
            (_, Some(device)) => unmet(format!("device.{device}")),
            _ if more(self.template.max_cpus, machine.cpus()) => {
                unmet(format!("cpus>={}", machine.cpus()))
            }
            _ if more(self.template.max_memory_mib, machine.memory_mib()) => {
                unmet(format!("memory>={}", machine.memory_mib()))
            }
            _ => Ok(()),
        }
    }

    fn boot(&self, _: Arch) -> Boot {
        match self.template.boot {
            Some(BootWord::Image) => Boot::Image,
            _ => Boot::Elf,
        }
    }

    fn exits_on_reset(&self) -> bool {
        !self.template.resets
    }

    fn command(&self, launch: &Launch<'_>) -> CommandLine {
        let filled = self.template.command.iter().map(|t| Self::fill(t, launch));
        if self.template.files.is_empty() && !self.template.needs_pty {
            let mut filled = filled;
            let mut command = CommandLine::new(filled.next().unwrap_or_default());
            command.args(filled);
            return command;
        }
        let mut command = CommandLine::new(own_program());
        command.args(["launch", "exec"]);
        if !self.template.files.is_empty() {
            command.arg("--dir").arg(launch.scratch);
        }
        for (name, text) in &self.template.files {
            command
                .arg("--file")
                .arg(format!("{name}={}", Self::fill(text, launch)));
        }
        if self.template.needs_pty {
            command.arg("--pty");
        }
        command.arg("--").args(filled);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn template(yaml: &str) -> Template {
        serde_yaml::from_str(yaml).unwrap()
    }

    fn line(template: Template) -> String {
        let yaml = "units: [{unit: u, arch: x86, payload: p, machine: {cpus: 2}}]";
        let unit = crate::manifest::parse("u", yaml).unwrap().remove(0);
        let launch = Launch {
            unit: &unit,
            image: Path::new("k"),
            guest_args: "unit=u a=\"b\"",
            number: 1,
            may_reset: false,
            scratch: Path::new("s"),
        };
        Described::new("mine", template, &[])
            .command(&launch)
            .shell()
    }

    #[test]
    fn placeholders_are_filled() {
        let yaml = "command: [vmm, --cpus, '{cpus}', '-m{memory_mib}M', '{kernel}', '{args}']";
        assert_eq!(
            line(template(yaml)),
            "vmm --cpus 2 -m256M k 'unit=u a=\"b\"'"
        );
    }

    #[test]
    fn files_and_terminals_are_prepared_by_the_runner() {
        let yaml = "command: [vmm, '{scratch}/c']\nneeds_pty: true\n\
                    files: {c: '{\"k\": \"{kernel}\", \"a\": \"{args:json}\"}'}";
        let line = line(template(yaml));
        let part =
            r#"launch exec --dir s --file 'c={"k": "k", "a": "unit=u a=\"b\""}' --pty -- vmm s/c"#;
        assert!(line.ends_with(part), "{line}");
    }

    #[test]
    fn mistakes_are_named() {
        for (yaml, name, part) in [
            (
                "command: [vmm, '{kernal}']",
                "mine",
                "unknown placeholder '{kernal}' (did you mean 'kernel'?)",
            ),
            ("command: [vmm]", "mine", "mention {kernel}"),
            ("command: []", "mine", "no command"),
            ("command: [vmm, '{kernel}']", "kvm", "taken"),
            ("command: [vmm, '{kernel}']", "My", "form"),
            (
                "command: [vmm, '{kernel}']\ncapabilities: [x86.nonsense]",
                "mine",
                "is no need",
            ),
        ] {
            let error = template(yaml).check("unittests.yaml", name).unwrap_err();
            assert!(error.message.contains(part), "{error}");
        }
    }
}
