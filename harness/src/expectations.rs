//! Known deviations of a hypervisor: `expectations/<hypervisor>.yaml`.
//!
//! ```yaml
//! - id: x86/svm/vmrun/*
//!   outcome: fail
//!   reason: reserved EFER bits are accepted
//!   reference: https://example.org/issue/1
//!   versions: ">=7.2 <9"
//!   when: "kernel>=6.1 arch=x86_64"
//!   sometimes: true
//! ```
//!
//! `versions` is the hypervisor's; `when` is the host's: `kernel`, `cpus` and `arch`. Both must hold
//! for an entry to count. `sometimes` is for a race: a pass is then as good as the known deviation.

mod update;

pub use update::{Deviation, update};

use crate::again;
use crate::error::{Error, Result};
use crate::outcome::{CaseResult, Outcome};
use glob::{MatchOptions, Pattern};
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::Path;

/// An entry as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawEntry {
    /// A glob over ids; * stops at a slash, ** does not.
    id: String,
    /// What is known to become of them: fail, crash, timeout or error.
    outcome: Outcome,
    /// Why.
    reason: String,
    /// Where that is written down.
    reference: String,
    /// Versions of the hypervisor that deviate, such as >=7.2 <9; absent means all.
    #[serde(default)]
    versions: Option<String>,
    #[serde(default)]
    when: Option<String>,
    /// Whether a race decides: the cases may also pass, and the entry is never stale.
    #[serde(default)]
    sometimes: bool,
}

/// One known deviation.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which cases.
    pub id: Pattern,
    /// What is known to become of them.
    pub outcome: Outcome,
    /// Why.
    pub reason: String,
    /// Where that is written down.
    pub reference: String,
    /// Versions of the hypervisor that deviate.
    versions: Vec<(Comparison, Vec<u64>)>,
    /// Whether its `when` holds on this host.
    here: bool,
    /// Whether a pass is as good.
    sometimes: bool,
}

#[derive(Clone, Copy, Debug)]
enum Comparison {
    Less,
    AtMost,
    Equal,
    AtLeast,
    Greater,
}

/// What is known about a deviation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Why, in one line without `#`, which would start a directive.
    pub text: String,
    /// Where that is written down.
    pub reference: String,
}

/// What an outcome means in the light of the expectations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A pass or a skip.
    Expected,
    /// A deviation that is known.
    Known(Reason),
    /// A pass although a deviation is known.
    Fixed(Reason),
    /// A pass, but not on every attempt; what the attempts came to.
    Flaky(String),
    /// Anything else.
    Unexpected,
}

/// The known deviations of one hypervisor.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    /// In the order of the file.
    pub entries: Vec<Entry>,
}

const GLOB: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

impl Expectations {
    /// Reads `path`. A file that does not exist holds nothing.
    pub fn load(path: &Path) -> Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&path.display().to_string(), &text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(Error::file("read", path, e)),
        }
    }

    /// Reads `text`; `name` is the file's name in messages.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        // A file of comments alone is an empty list.
        if text
            .lines()
            .all(|l| l.trim().is_empty() || l.trim_start().starts_with('#'))
        {
            return Ok(Self::default());
        }
        let raw: Vec<RawEntry> = serde_yaml::from_str(text)
            .map_err(|e| Error::usage(crate::manifest::yaml_message(name, &e)))?;
        let entries = raw.into_iter().enumerate().map(|(i, raw)| {
            let wrong = |what: String| Error::usage(format!("{name}: entry {}: {what}", i + 1));
            if matches!(raw.outcome, Outcome::Pass | Outcome::Skip) {
                return Err(wrong(format!("'{}' is no deviation", raw.outcome)));
            }
            if raw.reason.trim().is_empty() || raw.reference.trim().is_empty() {
                return Err(wrong("reason and reference must say something".into()));
            }
            let id = Pattern::new(&raw.id)
                .map_err(|e| wrong(format!("'{}' is not a glob: {e}", raw.id)))?;
            let versions = versions(raw.versions.as_deref().unwrap_or("")).map_err(wrong)?;
            let here = holds_here(raw.when.as_deref().unwrap_or("")).map_err(wrong)?;
            let reason = raw.reason.split_whitespace().collect::<Vec<_>>().join(" ");
            Ok(Entry {
                id,
                outcome: raw.outcome,
                reason,
                reference: raw.reference,
                versions,
                here,
                sometimes: raw.sometimes,
            })
        });
        Ok(Expectations {
            entries: entries.collect::<Result<_>>()?,
        })
    }

    /// Judges the result of case `id` on a hypervisor of version `version`.
    pub fn judge(&self, id: &str, version: &str, result: &CaseResult) -> Verdict {
        let version = numbers(version).unwrap_or_default();
        let mut entries = self
            .entries
            .iter()
            .filter(|e| e.covers_id(id) && e.covers(&version));
        match result.outcome {
            Outcome::Skip => Verdict::Expected,
            Outcome::Pass if again::is_flaky(result) => Verdict::Flaky(again::summary(result)),
            Outcome::Pass => match entries.find(|e| !e.sometimes) {
                Some(entry) => Verdict::Fixed(entry.known()),
                None => Verdict::Expected,
            },
            outcome => match entries.find(|e| e.outcome == outcome) {
                Some(entry) => Verdict::Known(entry.known()),
                None => Verdict::Unexpected,
            },
        }
    }
}

impl Expectations {
    /// Pairs of entries (from 0) that claim the same case with the same outcome, whatever their
    /// versions say: one of them can never count, or both can and say different things.
    pub fn overlaps<'a>(&self, ids: impl Iterator<Item = &'a str> + Clone) -> Vec<(usize, usize)> {
        let mut pairs = Vec::new();
        for (j, b) in self.entries.iter().enumerate() {
            for (i, a) in self.entries[..j].iter().enumerate() {
                let same = a.outcome == b.outcome && a.versions.is_empty() && b.versions.is_empty();
                if same && ids.clone().any(|id| a.covers_id(id) && b.covers_id(id)) {
                    pairs.push((i, j));
                }
            }
        }
        pairs
    }

    /// Entries (from 0) that cover cases of `results` on `version`, none of which deviated: all
    /// passed or were skipped, and at least one passed. What happens only sometimes is never stale.
    pub fn stale(&self, version: &str, results: &[(String, Outcome)]) -> Vec<usize> {
        let version = numbers(version).unwrap_or_default();
        let stale = |entry: &Entry| {
            let covered = || results.iter().filter(|(id, _)| entry.covers_id(id));
            entry.covers(&version)
                && !entry.sometimes
                && covered().any(|(_, o)| *o == Outcome::Pass)
                && covered().all(|(_, o)| matches!(o, Outcome::Pass | Outcome::Skip))
        };
        (0..self.entries.len())
            .filter(|&i| stale(&self.entries[i]))
            .collect()
    }
}

impl Entry {
    /// Whether it concerns case `id`.
    pub fn covers_id(&self, id: &str) -> bool {
        self.id.matches_with(id, GLOB)
    }

    fn covers(&self, version: &[u64]) -> bool {
        self.here && self.versions.iter().all(|bound| within(version, bound))
    }

    fn known(&self) -> Reason {
        Reason {
            text: self.reason.replace('#', ""),
            reference: self.reference.clone(),
        }
    }
}

fn within(version: &[u64], (comparison, bound): &(Comparison, Vec<u64>)) -> bool {
    // `<9` and `=7.2` compare as many numbers as they name.
    let cut = &version[..version.len().min(bound.len())];
    match comparison {
        Comparison::Less => cut < &bound[..],
        Comparison::AtMost => cut <= &bound[..],
        Comparison::Equal => cut == &bound[..],
        Comparison::AtLeast => cut >= &bound[..],
        Comparison::Greater => cut > &bound[..],
    }
}

/// Whether all of `kernel>=6.1 cpus>=4 arch=x86_64` hold on this host.
fn holds_here(text: &str) -> std::result::Result<bool, String> {
    let mut holds = true;
    for word in text.split([' ', ',']).filter(|w| !w.is_empty()) {
        let split = word.find(['<', '>', '=']).unwrap_or(word.len());
        let (name, rest) = word.split_at(split);
        holds &= match name {
            "arch" => rest
                .strip_prefix('=')
                .ok_or_else(|| format!("when: '{word}' is not like 'arch=x86_64'"))?
                .eq(std::env::consts::ARCH),
            "kernel" | "cpus" => {
                let have = match name {
                    "cpus" => std::thread::available_parallelism()
                        .map_or(1, usize::from)
                        .to_string(),
                    _ => rustix::system::uname()
                        .release()
                        .to_string_lossy()
                        .into_owned(),
                };
                let bounds =
                    versions(rest).map_err(|_| format!("when: '{word}' compares nothing"))?;
                if bounds.is_empty() {
                    return Err(format!("when: '{word}' compares nothing"));
                }
                let have = numbers(&have).unwrap_or_default();
                bounds.iter().all(|bound| within(&have, bound))
            }
            _ => return Err(format!("when: '{word}': known are kernel, cpus and arch")),
        };
    }
    Ok(holds)
}

/// `>=7.2 <9`, also with commas.
fn versions(text: &str) -> std::result::Result<Vec<(Comparison, Vec<u64>)>, String> {
    let words = text.split([' ', ',']).filter(|w| !w.is_empty());
    words
        .map(|word| {
            let table = [
                ("<=", Comparison::AtMost),
                (">=", Comparison::AtLeast),
                ("<", Comparison::Less),
                (">", Comparison::Greater),
                ("=", Comparison::Equal),
            ];
            let found = table
                .iter()
                .find_map(|(sign, c)| Some((c, word.strip_prefix(sign)?)));
            let (comparison, rest) = found.unwrap_or((&Comparison::Equal, word));
            let numbers = numbers(rest)
                .ok_or_else(|| format!("versions: '{word}' is not like '>=7.2' or '<9'"))?;
            Ok((*comparison, numbers))
        })
        .collect()
}

/// The leading dotted numbers of a version.
fn numbers(text: &str) -> Option<Vec<u64>> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    text[..end]
        .trim_end_matches('.')
        .split('.')
        .map(|n| n.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "- id: x86/svm/**\n  outcome: fail\n  reason: a\n  reference: b#1\n  \
                        versions: \">=7.2 <9\"\n";

    fn judge(id: &str, version: &str, outcome: Outcome) -> Verdict {
        let e = Expectations::parse("e", TEXT).unwrap();
        e.judge(id, version, &CaseResult::plain(outcome))
    }

    #[test]
    fn a_known_deviation_covers_its_cases_versions_and_outcome() {
        let known = Verdict::Known(Reason {
            text: "a".into(),
            reference: "b#1".into(),
        });
        assert_eq!(judge("x86/svm/vmrun/a", "7.2.22", Outcome::Fail), known);
        assert_eq!(judge("x86/svm/vmrun/a", "8.2", Outcome::Fail), known);
        for (id, version, outcome) in [
            ("x86/svm/vmrun/a", "9.0.1", Outcome::Fail),
            ("x86/svm/vmrun/a", "7.1", Outcome::Fail),
            ("x86/svm/vmrun/a", "7.2", Outcome::Crash),
            ("x86/vmx/vmrun/a", "7.2", Outcome::Fail),
        ] {
            assert_eq!(judge(id, version, outcome), Verdict::Unexpected);
        }
    }

    #[test]
    fn a_pass_of_a_known_deviation_is_reported_as_fixed() {
        assert!(matches!(
            judge("x86/svm/a/b", "8", Outcome::Pass),
            Verdict::Fixed(_)
        ));
        assert_eq!(judge("x86/svm/a/b", "9", Outcome::Pass), Verdict::Expected);
        assert_eq!(judge("x86/svm/a/b", "8", Outcome::Skip), Verdict::Expected);
    }

    #[test]
    fn what_happens_sometimes_is_neither_fixed_nor_stale() {
        let e = Expectations::parse("e", &format!("{TEXT}  sometimes: true\n")).unwrap();
        let judge = |id, outcome| e.judge(id, "8", &CaseResult::plain(outcome));
        let id = "x86/svm/a/b";
        assert_eq!(judge(id, Outcome::Pass), Verdict::Expected);
        assert!(matches!(judge(id, Outcome::Fail), Verdict::Known(_)));
        // Only the outcome that is known.
        assert_eq!(judge(id, Outcome::Crash), Verdict::Unexpected);
        let passed = [(id.to_owned(), Outcome::Pass)];
        assert_eq!(e.stale("8", &passed), [0usize; 0]);
        // Another entry that promises a deviation is still told of the pass.
        let both = format!("{TEXT}  sometimes: true\n{TEXT}");
        let e = Expectations::parse("e", &both).unwrap();
        let pass = CaseResult::plain(Outcome::Pass);
        assert!(matches!(e.judge(id, "8", &pass), Verdict::Fixed(_)));
        assert_eq!(e.stale("8", &passed), [1]);
    }

    #[test]
    fn a_host_condition_counts() {
        for (when, verdict) in [
            ("cpus>=1 kernel>=1", true),
            ("cpus<1", false),
            ("arch=vax", false),
        ] {
            let text = TEXT.replace("versions: \">=7.2 <9\"", &format!("when: {when}"));
            let e = Expectations::parse("e", &text).unwrap();
            let judged = e.judge("x86/svm/a/b", "1", &CaseResult::plain(Outcome::Fail));
            assert_eq!(matches!(judged, Verdict::Known(_)), verdict, "{when}");
        }
    }

    #[test]
    fn mistakes_are_refused() {
        for (from, to, part) in [
            ("reason", "raeson", "did you mean 'reason'?"),
            ("fail", "pass", "'pass' is no deviation"),
            ("<9", "<x", "versions: '<x' is not like"),
            ("reference: b#1", "reference: ''", "must say something"),
            (
                "versions: \">=7.2 <9\"",
                "when: moon=full",
                "known are kernel, cpus and arch",
            ),
            ("versions: \">=7.2 <9\"", "when: kernel", "compares nothing"),
        ] {
            let error = Expectations::parse("e", &TEXT.replace(from, to)).unwrap_err();
            assert!(error.message.contains(part), "{error}");
        }
        assert!(
            Expectations::parse("e", "# nothing\n")
                .unwrap()
                .entries
                .is_empty()
        );
    }
}
