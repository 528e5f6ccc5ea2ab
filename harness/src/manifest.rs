//! `unittests.yaml`: which payload runs, on what machine, and in which groups.
//!
//! The file cannot lie: an unknown key, an unknown architecture word or a unit defined twice is
//! an error that names the line.

use crate::arch::Arch;
use crate::error::{Error, Result, did_you_mean};
use crate::hypervisor::template::{Described, Template};
use assay_protocol::need::NEEDS;
use glob::Pattern;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Seconds that a case may take unless something says otherwise.
pub const DEFAULT_TIMEOUT_S: u32 = 30;
/// Seconds that all launches of one unit may take together unless the unit says otherwise.
pub const DEFAULT_UNIT_TIMEOUT_S: u32 = 600;

/// The group of units that run only when asked for.
pub const NODEFAULT: &str = "nodefault";
/// The group of units that break on purpose; not even `-a` runs them.
pub const SELFCHECK: &str = "selfcheck";

/// The file as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawManifest {
    /// Payloads on machines.
    units: Vec<RawUnit>,
    /// Hypervisors beside those that are built in, by name.
    #[serde(default)]
    hypervisors: BTreeMap<String, Template>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawUnit {
    /// Its name, the second segment of its cases' ids.
    unit: String,
    /// Its architecture.
    arch: Arch,
    /// Binary in tests-<arch>/src/bin.
    payload: String,
    /// Words for -g; nodefault runs only when asked for, selfcheck breaks on purpose.
    #[serde(default)]
    groups: Vec<String>,
    /// The machine.
    #[serde(default)]
    machine: Machine,
    /// Globs over <topic>/<function>, to take a part of the payload.
    #[serde(default)]
    cases: Vec<String>,
    /// Limit of a case, in seconds.
    #[serde(default)]
    timeout_s: Option<u32>,
    /// Limit of the whole unit, in seconds.
    #[serde(default)]
    unit_timeout_s: Option<u32>,
    /// false is the same as the group nodefault.
    #[serde(default)]
    default: Option<bool>,
    /// Further words for the guest's command line.
    #[serde(default)]
    args: Option<String>,
    /// Further units <unit>_<name> whose machines differ in what is stated.
    #[serde(default)]
    variations: BTreeMap<String, Machine>,
}

/// What a unit asks of its machine. Absent means: the adaptor's usual choice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Virtual CPUs; 1 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// Memory in MiB; 256 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// KiB of memory on top of that: for a size that is not a whole number of MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_extra_kib: Option<u32>,
    /// Machine model: `pc`, `q35`, `microvm`, `virt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// arm64: GIC version, 2 or 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gic: Option<u8>,
    /// arm64: an Interrupt Translation Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub its: Option<bool>,
    /// arm64: start at EL2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub el2: Option<bool>,
    /// arm64: EL3 and the secure state exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secure: Option<bool>,
    /// x86: a programmable interval timer (present when absent here).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pit: Option<bool>,
    /// CPU model instead of the fullest one the adaptor has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// x86: CPU model of Bochs (`bochs --help cpu`), whose models differ in what they emulate; the
    /// one with VMX and CET when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bochs_cpu: Option<String>,
    /// CPU features, `+name` or `-name`, in the hypervisor's own words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[serde(default)]
    pub cpu_features: Vec<String>,
    /// Devices, in the hypervisor's own words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[serde(default)]
    pub devices: Vec<String>,
    /// Services that its cases ask the host for; the host offers those of them that it has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[serde(default)]
    pub services: Vec<String>,
}

impl Machine {
    /// Virtual CPUs.
    pub fn cpus(&self) -> u32 {
        self.cpus.unwrap_or(1)
    }

    /// Memory in MiB.
    pub fn memory_mib(&self) -> u32 {
        self.memory_mib.unwrap_or(256)
    }

    /// This machine with everything that `over` states put over it.
    fn overlaid(&self, over: &Machine) -> Machine {
        fn list(base: &[String], over: &[String]) -> Vec<String> {
            base.iter().chain(over).cloned().collect()
        }
        Machine {
            cpus: over.cpus.or(self.cpus),
            memory_mib: over.memory_mib.or(self.memory_mib),
            memory_extra_kib: over.memory_extra_kib.or(self.memory_extra_kib),
            machine: over.machine.clone().or_else(|| self.machine.clone()),
            gic: over.gic.or(self.gic),
            its: over.its.or(self.its),
            el2: over.el2.or(self.el2),
            secure: over.secure.or(self.secure),
            pit: over.pit.or(self.pit),
            cpu: over.cpu.clone().or_else(|| self.cpu.clone()),
            bochs_cpu: over.bochs_cpu.clone().or_else(|| self.bochs_cpu.clone()),
            cpu_features: list(&self.cpu_features, &over.cpu_features),
            devices: list(&self.devices, &over.devices),
            services: list(&self.services, &over.services),
        }
    }
}

/// One unit: a payload on a machine.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Its name, the second segment of its cases' ids.
    pub name: String,
    /// Its architecture.
    pub arch: Arch,
    /// Binary name in the architecture's package.
    pub payload: String,
    /// Groups of all its cases.
    pub groups: Vec<String>,
    /// The machine.
    pub machine: Machine,
    /// Globs over the paths of cases; empty means all.
    pub cases: Vec<Pattern>,
    /// Limit of a case, in seconds.
    pub timeout_s: u32,
    /// Limit of the whole unit, in seconds.
    pub unit_timeout_s: u32,
    /// Further words for the guest's command line.
    pub args: String,
    /// `file:line` of its definition.
    pub at: String,
}

impl Unit {
    /// `<arch>/<unit>`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.arch, self.name)
    }
}

/// Reads and validates the manifest at `path`.
pub fn load(path: &Path) -> Result<Vec<Unit>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::file("read", path, e))?;
    let name = path
        .file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    parse(&name, &text)
}

/// The hypervisors that the manifest at `path` describes.
pub fn hypervisors(path: &Path) -> Result<Vec<Described>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::file("read", path, e))?;
    let name = path
        .file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let raw: RawManifest =
        serde_yaml::from_str(&text).map_err(|e| Error::usage(yaml_message(&name, &e)))?;
    let described = |(word, template): (String, Template)| {
        template.check(&name, &word)?;
        Ok(Described::new(&word, template, &[]))
    };
    raw.hypervisors.into_iter().map(described).collect()
}

/// Reads and validates `text`; `name` is the file's name in messages.
pub fn parse(name: &str, text: &str) -> Result<Vec<Unit>> {
    let raw: RawManifest =
        serde_yaml::from_str(text).map_err(|e| Error::usage(yaml_message(name, &e)))?;
    for (word, template) in &raw.hypervisors {
        template.check(name, word)?;
    }
    let lines = unit_lines(text);
    let line_of = |i: usize| match lines.len() == raw.units.len() {
        true => format!("{name}:{}", lines[i]),
        false => format!("{name}: unit {}", i + 1),
    };
    let mut units = Vec::new();
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (i, raw) in raw.units.iter().enumerate() {
        let at = line_of(i);
        for unit in expand(raw, &at)? {
            if let Some(first) = seen.insert(unit.id(), at.clone()) {
                return Err(Error::usage(format!(
                    "{at}: unit '{}' is defined twice (first at {first}); give one of them another name",
                    unit.id()
                )));
            }
            units.push(unit);
        }
    }
    Ok(units)
}

/// A unit and its variations.
fn expand(raw: &RawUnit, at: &str) -> Result<Vec<Unit>> {
    let slug = |what: &str, word: &str| match assay_protocol::id::is_segment(word) {
        true => Ok(()),
        false => Err(Error::usage(format!(
            "{at}: {what} '{word}' is not of the form [a-z][a-z0-9]*(_[a-z0-9]+)*"
        ))),
    };
    slug("unit name", &raw.unit)?;
    slug("payload", &raw.payload)?;
    raw.groups.iter().try_for_each(|g| slug("group", g))?;
    raw.variations
        .keys()
        .try_for_each(|v| slug("variation", v))?;
    let cases = raw
        .cases
        .iter()
        .map(|glob| {
            Pattern::new(glob)
                .map_err(|e| Error::usage(format!("{at}: '{glob}' is not a glob: {e}")))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut groups: BTreeSet<String> = raw.groups.iter().cloned().collect();
    if raw.default == Some(false) {
        groups.insert(NODEFAULT.into());
    }
    let make = |name: String, machine: Machine| -> Result<Unit> {
        check_machine(raw.arch, &machine, at)?;
        Ok(Unit {
            name,
            arch: raw.arch,
            payload: raw.payload.clone(),
            groups: groups.iter().cloned().collect(),
            machine,
            cases: cases.clone(),
            timeout_s: raw.timeout_s.unwrap_or(DEFAULT_TIMEOUT_S).max(1),
            unit_timeout_s: raw.unit_timeout_s.unwrap_or(DEFAULT_UNIT_TIMEOUT_S).max(1),
            args: raw.args.clone().unwrap_or_default(),
            at: at.to_owned(),
        })
    };
    let mut units = vec![make(raw.unit.clone(), raw.machine.clone())?];
    for (word, over) in &raw.variations {
        units.push(make(
            format!("{}_{word}", raw.unit),
            raw.machine.overlaid(over),
        )?);
    }
    Ok(units)
}

/// Refuses machines that cannot exist.
fn check_machine(arch: Arch, machine: &Machine, at: &str) -> Result<()> {
    let wrong = |what: String| Err(Error::usage(format!("{at}: {what}")));
    if !(1..=512).contains(&machine.cpus()) {
        return wrong(format!("cpus: {} is not within 1 to 512", machine.cpus()));
    }
    if !(1..=1 << 20).contains(&machine.memory_mib()) {
        return wrong(format!(
            "memory_mib: {} is not within 1 to 1048576",
            machine.memory_mib()
        ));
    }
    let arm = [
        ("gic", machine.gic.is_some()),
        ("its", machine.its.is_some()),
        ("el2", machine.el2.is_some()),
        ("secure", machine.secure.is_some()),
    ];
    if arch != Arch::Arm64
        && let Some((key, _)) = arm.iter().find(|(_, set)| *set)
    {
        return wrong(format!("{key} means nothing on {arch}"));
    }
    if arch != Arch::X86 && machine.pit.is_some() {
        return wrong(format!("pit means nothing on {arch}"));
    }
    if let Some(model) = &machine.bochs_cpu {
        if arch != Arch::X86 {
            return wrong(format!("bochs_cpu means nothing on {arch}"));
        }
        // It goes into a line of options of Bochs.
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if model.is_empty() || !model.chars().all(plain) {
            return wrong(format!(
                "bochs_cpu: '{model}' is no model of `bochs --help cpu`"
            ));
        }
    }
    if let Some(gic) = machine.gic
        && ![2, 3, 4].contains(&gic)
    {
        return wrong(format!("gic: {gic} is not 2, 3 or 4"));
    }
    for service in &machine.services {
        let known = || NEEDS.iter().filter_map(|n| n.word.strip_prefix("service."));
        if !known().any(|word| word == service) {
            let hint = did_you_mean(service, known());
            return wrong(format!("services: no service is called '{service}'{hint}"));
        }
    }
    let models: &[&str] = match arch {
        Arch::X86 => &["pc", "q35", "microvm"],
        Arch::Arm64 => &["virt"],
        Arch::S390x => &["s390-ccw-virtio"],
    };
    if let Some(model) = &machine.machine
        && !models.contains(&model.as_str())
    {
        let hint = did_you_mean(model, models.iter().copied());
        return wrong(format!(
            "machine: '{model}' is not one of {}{hint}",
            models.join(", ")
        ));
    }
    Ok(())
}

/// The line of each unit's `unit:` key, from 1.
fn unit_lines(text: &str) -> Vec<usize> {
    let key = |line: &str| {
        let line = line.trim_start();
        let line = line.strip_prefix("- ").map_or(line, str::trim_start);
        line.trim_start_matches(['{', ' ']).starts_with("unit:")
    };
    text.lines()
        .enumerate()
        .filter(|(_, line)| key(line))
        .map(|(i, _)| i + 1)
        .collect()
}

/// A YAML error as `file:line:column: what (did you mean ...?)`.
pub(crate) fn yaml_message(name: &str, error: &serde_yaml::Error) -> String {
    let place = match error.location() {
        Some(l) => format!("{name}:{}:{}", l.line(), l.column()),
        None => name.to_owned(),
    };
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or(&text);
    let words: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
    let unknown = ["unknown field", "unknown variant"]
        .into_iter()
        .find(|k| text.contains(k));
    match (unknown, words.split_first()) {
        (Some(kind), Some((word, known))) => {
            let kind = if kind == "unknown field" {
                "key"
            } else {
                "word"
            };
            let hint = did_you_mean(word, known.iter().copied());
            format!(
                "{place}: unknown {kind} '{word}'{hint}; known are {}",
                known.join(", ")
            )
        }
        _ => format!("{place}: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "units:\n  - unit: svm\n    arch: x86\n    payload: svm\n    groups: [svm]\n    \
                        machine: { cpus: 2 }\n    variations: { pit_off: { pit: false } }\n";

    fn message(text: &str) -> String {
        parse("unittests.yaml", text).unwrap_err().message
    }

    #[test]
    fn variations_become_units_of_their_own() {
        let units = parse("unittests.yaml", GOOD).unwrap();
        let names: Vec<_> = units.iter().map(Unit::id).collect();
        assert_eq!(names, ["x86/svm", "x86/svm_pit_off"]);
        assert_eq!(units[1].machine.cpus(), 2);
        assert_eq!(units[1].machine.pit, Some(false));
        assert_eq!(units[1].at, "unittests.yaml:2");
    }

    #[test]
    fn an_unknown_key_names_its_line_and_the_nearest_key() {
        let text = GOOD.replace("groups", "grups");
        let message = message(&text);
        assert!(message.starts_with("unittests.yaml:5:"), "{message}");
        assert!(
            message.contains("unknown key 'grups' (did you mean 'groups'?)"),
            "{message}"
        );
        let text = GOOD.replace("cpus", "cpu_s");
        assert!(self::message(&text).contains("did you mean 'cpus'?"));
    }

    #[test]
    fn an_unknown_architecture_is_refused_with_a_hint() {
        let message = message(&GOOD.replace("arch: x86", "arch: x68"));
        assert!(
            message.contains("unknown word 'x68' (did you mean 'x86'?)"),
            "{message}"
        );
    }

    #[test]
    fn a_unit_defined_twice_names_both_lines() {
        let text = format!("{GOOD}  - unit: svm\n    arch: x86\n    payload: svm\n");
        let message = message(&text);
        assert!(message.starts_with("unittests.yaml:8: unit 'x86/svm' is defined twice"));
        assert!(message.contains("unittests.yaml:2"), "{message}");
    }

    #[test]
    fn impossible_machines_are_refused() {
        for (from, to, part) in [
            ("cpus: 2", "cpus: 0", "cpus: 0 is not within"),
            ("cpus: 2", "gic: 3", "gic means nothing on x86"),
            ("cpus: 2", "machine: q53", "did you mean 'q35'?"),
            ("cpus: 2", "bochs_cpu: 'ryzen, ips=1'", "is no model of"),
        ] {
            let message = message(&GOOD.replace(from, to));
            assert!(message.contains(part), "{message}");
        }
    }
}
