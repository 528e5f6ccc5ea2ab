//! `config.mak`, `<arch>/unittests.cfg` and `errata.txt` of a kvm-unit-tests build.
//!
//! Where kvm-unit-tests looks away, this reader does not: an unknown key, a section twice, a line
//! that is neither key nor section are errors with their line.

use super::shell::{self, Variables};
use crate::error::{Error, Result, did_you_mean};
use std::collections::BTreeMap;
use std::path::Path;

/// Keys of a section, with the other names of some.
const KEYS: [(&str, &str); 15] = [
    ("file", "file"),
    ("smp", "smp"),
    ("test_args", "test_args"),
    ("extra_params", "params"),
    ("qemu_params", "params"),
    ("kvmtool_params", "kvmtool_params"),
    ("groups", "groups"),
    ("arch", "arch"),
    ("machine", "machine"),
    ("accel", "accel"),
    ("timeout", "timeout"),
    ("check", "check"),
    ("disabled_if", "disabled_if"),
    ("append", "test_args"),
    ("nodefault", "nodefault"),
];

/// One section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// Payload, beside the file.
    pub file: String,
    /// Virtual CPUs.
    pub smp: String,
    /// The guest's arguments.
    pub args: String,
    /// Arguments of the hypervisor.
    pub params: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Only on this architecture.
    pub arch: String,
    /// Only on this machine model.
    pub machine: String,
    /// Only with this accelerator.
    pub accel: String,
    /// Limit, as `90s`.
    pub timeout: String,
    /// `path=value` pairs that must hold.
    pub check: String,
    /// A condition under which it does not run.
    pub disabled_if: String,
    /// `file:line`.
    pub at: String,
}

/// Reads `config.mak`: `KEY=value` lines.
pub fn config_mak(path: &Path) -> Result<Variables> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        let cure = "is this a configured build of kvm-unit-tests?";
        Error::file("read", path, format!("{e}; {cure}"))
    })?;
    let mut variables = Variables::new();
    for line in text.lines() {
        if let Some((key, value)) = line.split_once('=')
            && !line.trim_start().starts_with('#')
        {
            let value = value.trim().trim_matches('"');
            variables.insert(
                key.trim().trim_end_matches(':').to_owned(),
                value.to_owned(),
            );
        }
    }
    Ok(variables)
}

/// Reads the sections of `text`; `name` is the file's name in messages.
pub fn sections(name: &str, text: &str) -> Result<Vec<Section>> {
    let wrong = |line: usize, what: String| Error::usage(format!("{name}:{line}: {what}"));
    let mut sections: Vec<Section> = Vec::new();
    let mut lines = text.lines().enumerate().map(|(i, line)| (i + 1, line));
    while let Some((number, line)) = lines.next() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(title) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            if let Some(first) = sections.iter().find(|s| s.name == title) {
                let what = format!("section '{title}' is there twice (first at {})", first.at);
                return Err(wrong(number, what));
            }
            let at = format!("{name}:{number}");
            sections.push(Section {
                name: title.into(),
                at,
                ..Section::default()
            });
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            return Err(wrong(
                number,
                format!("'{line}' is neither a section nor a key"),
            ));
        };
        let (key, mut value) = (key.trim(), value.trim().to_owned());
        if let Some(opened) = value.strip_prefix("\"\"\"") {
            let mut all = opened.to_owned();
            while !all.trim_end().ends_with("\"\"\"") {
                let (_, line) = lines
                    .next()
                    .ok_or_else(|| wrong(number, "\"\"\" is never closed".into()))?;
                all.push('\n');
                all.push_str(line);
            }
            let inner = all.trim_end().trim_end_matches('"');
            value = inner
                .replace("\\\n", " ")
                .replace('\n', " ")
                .trim()
                .to_owned();
        }
        let Some((_, field)) = KEYS.iter().find(|(known, _)| *known == key) else {
            let hint = did_you_mean(key, KEYS.iter().map(|(k, _)| *k));
            return Err(wrong(number, format!("unknown key '{key}'{hint}")));
        };
        let Some(section) = sections.last_mut() else {
            return Err(wrong(
                number,
                format!("'{key}' stands before the first section"),
            ));
        };
        match *field {
            "file" => section.file = value,
            "smp" => section.smp = value,
            "test_args" => section.args = value,
            "params" => section.params = value,
            "groups" => section.groups = value.split_whitespace().map(str::to_owned).collect(),
            "arch" => section.arch = value,
            "machine" => section.machine = value,
            "accel" => section.accel = value,
            "timeout" => section.timeout = value,
            "check" => section.check = value,
            "disabled_if" => section.disabled_if = value,
            // Parameters of another hypervisor than the one that runs here.
            "kvmtool_params" => {}
            _ => section.groups.push("nodefault".into()),
        }
    }
    for section in &sections {
        if section.file.is_empty() {
            return Err(Error::usage(format!("{}: section has no file", section.at)));
        }
    }
    Ok(sections)
}

/// A duration as timeout(1) reads it, in seconds; 0 is no limit.
pub fn seconds(text: &str) -> std::result::Result<f64, String> {
    let (number, factor) = match text.trim().char_indices().last() {
        Some((i, 's')) => (&text.trim()[..i], 1.0),
        Some((i, 'm')) => (&text.trim()[..i], 60.0),
        Some((i, 'h')) => (&text.trim()[..i], 3600.0),
        _ => (text.trim(), 1.0),
    };
    let value: f64 = number
        .parse()
        .map_err(|_| format!("'{text}' is no duration like 90s"))?;
    match value.is_finite() && value >= 0.0 {
        true => Ok(value * factor),
        false => Err(format!("'{text}' is no duration like 90s")),
    }
}

/// The guest's environment: `ERRATA_<commit>=y` where this kernel has the fix.
pub fn errata(text: &str, kernel: (u64, u64), force: bool) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for line in text.lines().filter(|l| !l.trim_start().starts_with('#')) {
        let mut parts = line.splitn(3, ':').map(str::trim);
        let (Some(commit), Some(version)) = (parts.next(), parts.next()) else {
            continue;
        };
        let numbers: Vec<u64> = version.split('.').filter_map(|n| n.parse().ok()).collect();
        let [major, minor, ..] = numbers[..] else {
            continue;
        };
        if commit.len() >= 12 && commit.bytes().all(|b| b.is_ascii_hexdigit()) {
            let has = force || kernel >= (major, minor);
            let key = format!("ERRATA_{}", &commit[..12]);
            values.insert(key, if has { "y" } else { "n" }.to_owned());
        }
    }
    values
}

impl Section {
    /// Expands a field; a mistake names the section's line.
    pub fn expand(&self, text: &str, variables: &Variables) -> Result<String> {
        shell::expand(text, variables).map_err(|e| Error::usage(format!("{}: {e}", self.at)))
    }

    /// Expands a field and splits it into words.
    pub fn words(&self, text: &str, variables: &Variables) -> Result<Vec<String>> {
        let words = shell::expand(text, variables).and_then(|text| shell::words(&text));
        words.map_err(|e| Error::usage(format!("{}: {e}", self.at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# a comment\n[one]\nfile = one.flat\nsmp = $MAX_SMP\n\
        extra_params = \"\"\"-cpu max \\\n  -device x\"\"\"\ngroups = a nodefault\n\n\
        [two]\nfile = two.flat\ntest_args = \"x y\"\ntimeout = 2m\ncheck = /sys/x=Y\n";

    #[test]
    fn sections_and_their_keys_are_read() {
        let all = sections("u.cfg", TEXT).unwrap();
        assert_eq!(all[0].params, "-cpu max    -device x");
        assert_eq!(all[0].groups, ["a", "nodefault"]);
        assert_eq!(
            (all[1].name.as_str(), all[1].at.as_str()),
            ("two", "u.cfg:9")
        );
        assert_eq!(all[1].args, "\"x y\"");
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (from, to, part) in [
            (
                "groups",
                "group",
                "u.cfg:7: unknown key 'group' (did you mean 'groups'?)",
            ),
            (
                "[two]",
                "[one]",
                "u.cfg:9: section 'one' is there twice (first at u.cfg:2)",
            ),
            ("file = two.flat\n", "", "u.cfg:9: section has no file"),
            ("x\"\"\"", "x", "u.cfg:5: \"\"\" is never closed"),
            (
                "[one]\n",
                "",
                "u.cfg:2: 'file' stands before the first section",
            ),
            (
                "timeout = 2m",
                "timeout",
                "u.cfg:12: 'timeout' is neither a section nor a key",
            ),
        ] {
            let error = sections("u.cfg", &TEXT.replacen(from, to, 1))
                .unwrap_err()
                .message;
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn durations_and_errata_are_read() {
        assert_eq!(seconds("90s"), Ok(90.0));
        assert_eq!(seconds("2m"), Ok(120.0));
        assert_eq!(seconds("0"), Ok(0.0));
        assert!(seconds("soon").is_err());
        let text = "#commit : kernel : text\n9e3f7a296940 : 4.11 : x\n7b6b46311a85 : 6.1 : y\n";
        let values = errata(text, (5, 10), false);
        assert_eq!(values["ERRATA_9e3f7a296940"], "y");
        assert_eq!(values["ERRATA_7b6b46311a85"], "n");
        assert_eq!(errata(text, (1, 0), true)["ERRATA_7b6b46311a85"], "y");
    }
}
