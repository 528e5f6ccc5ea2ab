//! Earlier runs, read back: a run directory, its results.json, or any TAP file.

use crate::error::{Error, Result, did_you_mean};
use crate::outcome::{Diagnostic, Outcome};
use crate::report::json::{Case, Document, SCHEMA};
use crate::tap;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The name of the document in a run directory.
pub const RESULTS: &str = "results.json";
/// What a column is called whose hypervisor nobody wrote down.
pub const NAMELESS: &str = "";

/// A run that was read.
#[derive(Clone, Debug)]
pub struct Run {
    /// What people call it: the last parts of its path.
    pub label: String,
    /// Where its logs are, if it is a directory.
    pub dir: Option<PathBuf>,
    /// What became of its cases.
    pub document: Document,
}

/// Reads the run at `path`.
pub fn read(path: &Path) -> Result<Run> {
    let file = if path.is_dir() {
        path.join(RESULTS)
    } else {
        path.to_owned()
    };
    let text = std::fs::read(&file).map_err(|e| Error::file("read", &file, e))?;
    let dir = file
        .parent()
        .map(Path::to_owned)
        .filter(|_| file.ends_with(RESULTS));
    let label = label(path);
    let json = file.extension().is_some_and(|e| e == "json");
    let document = match json {
        true => {
            let document: Document =
                serde_json::from_slice(&text).map_err(|e| Error::file("read", &file, e))?;
            if document.schema != SCHEMA {
                let why = format!("its schema is '{}', not '{SCHEMA}'", document.schema);
                return Err(Error::file("use", &file, why));
            }
            document
        }
        false => {
            let text = String::from_utf8_lossy(&text);
            let stream = tap::read(&text).map_err(|e| Error::file("read TAP from", &file, e))?;
            if stream.plan.is_none() && stream.points.is_empty() {
                return Err(Error::file("use", &file, "it holds no TAP"));
            }
            of_tap(&label, stream)
        }
    };
    Ok(Run {
        label,
        dir,
        document,
    })
}

/// `latest` says nothing: a link is called by what it points at.
fn label(path: &Path) -> String {
    let real = match path.is_symlink() {
        true => std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()),
        false => path.to_owned(),
    };
    let named = match real.ends_with(RESULTS) {
        true => real
            .parent()
            .filter(|p| *p != Path::new(""))
            .unwrap_or(&real),
        false => &real,
    };
    let name = named
        .file_name()
        .unwrap_or(named.as_os_str())
        .to_string_lossy();
    name.trim_end_matches(".tap").to_owned()
}

/// The document of a run that only left a TAP stream.
fn of_tap(label: &str, stream: tap::Stream) -> Document {
    let promised = stream.plan.unwrap_or(stream.points.len());
    let complete = !stream.bailed && promised == stream.points.len();
    let cases = stream.points.into_iter().enumerate().map(|(i, point)| {
        let good = matches!(point.outcome, Outcome::Pass | Outcome::Skip);
        let verdict = match (good, &point.todo) {
            (true, Some(_)) => "fixed",
            (true, None) => "expected",
            (false, Some(_)) => "known",
            (false, None) => "unexpected",
        };
        Case {
            number: i + 1,
            id: point.title,
            outcome: point.outcome,
            verdict: verdict.into(),
            known: point.todo,
            ..blank()
        }
    });
    Document {
        schema: SCHEMA.into(),
        run: label.into(),
        shard: None,
        many: false,
        complete,
        duration_s: 0.0,
        hypervisors: Vec::new(),
        cases: cases.collect(),
    }
}

/// A case of which nothing is known.
pub fn blank() -> Case {
    Case {
        number: 0,
        place: 0,
        id: String::new(),
        hypervisor: NAMELESS.into(),
        outcome: Outcome::Error,
        verdict: "unexpected".into(),
        known: None,
        reference: None,
        kind: None,
        need: None,
        groups: Vec::new(),
        rule: String::new(),
        spec: None,
        at: String::new(),
        diagnostic: Diagnostic::default(),
        console: Vec::new(),
        attempts: Vec::new(),
        duration_ms: 0.0,
        log: String::new(),
        command: String::new(),
        repro: String::new(),
    }
}

/// The path of the run called `name`: `last`, a path, or the name of a folder in `runs`.
pub fn find(runs: &Path, name: &str) -> Result<PathBuf> {
    if name == "last" {
        let latest = runs.join("latest");
        if !latest.join(RESULTS).is_file() {
            let why = format!("there is no earlier run in {}", runs.display());
            return Err(Error::usage(why));
        }
        return Ok(latest);
    }
    for path in [PathBuf::from(name), runs.join(name)] {
        if path.exists() {
            return Ok(path);
        }
    }
    let entries = std::fs::read_dir(runs).into_iter().flatten().flatten();
    let known: Vec<String> = entries
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    let hint = did_you_mean(name, known.iter().map(String::as_str));
    Err(Error::usage(format!(
        "no run '{name}'{hint}; name a folder, a results.json or a TAP file"
    )))
}

/// What an earlier run says of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastCase {
    /// The outcome.
    pub outcome: Outcome,
    /// The verdict's word.
    pub verdict: String,
}

impl PastCase {
    /// Whether `word` is its outcome or its verdict.
    pub fn is(&self, word: &str) -> bool {
        self.outcome.word() == word || self.verdict == word
    }
}

/// An earlier run, by hypervisor and id.
#[derive(Clone, Debug, Default)]
pub struct Past {
    cases: HashMap<String, Vec<(String, PastCase)>>,
}

impl Past {
    /// What became of case `id` on `hypervisor`.
    pub fn of(&self, hypervisor: &str, id: &str) -> Option<&PastCase> {
        let named = |name: &str| name == hypervisor || name == NAMELESS;
        self.cases
            .get(id)?
            .iter()
            .find(|(name, _)| named(name))
            .map(|(_, case)| case)
    }

    /// The hypervisors that have an unexpected outcome in it, in order.
    pub fn failed_hypervisors(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for (name, case) in self.cases.values().flatten() {
            if case.is("unexpected") && !name.is_empty() && !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names.sort_unstable();
        names
    }
}

/// Reads the run called `name`, for questions about single cases.
pub fn past(runs: &Path, name: &str) -> Result<Past> {
    let mut past = Past::default();
    for case in read(&find(runs, name)?)?.document.cases {
        let was = PastCase {
            outcome: case.outcome,
            verdict: case.verdict,
        };
        past.cases
            .entry(case.id)
            .or_default()
            .push((case.hypervisor, was));
    }
    Ok(past)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tap_files_are_runs_too() {
        let dir = std::env::temp_dir().join(format!("assay-runs-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("other.tap");
        let text =
            "TAP version 13\n1..3\nok 1 - a/b\nnot ok 2 - a/c # TODO known\nnot ok 3 - a/d\n";
        std::fs::write(&file, text).unwrap();
        let run = read(&file).unwrap();
        let verdicts: Vec<&str> = run
            .document
            .cases
            .iter()
            .map(|c| c.verdict.as_str())
            .collect();
        assert_eq!(verdicts, ["expected", "known", "unexpected"]);
        assert_eq!(run.label, "other");
        assert!(run.document.complete);
        let past = past(&dir, "other.tap").unwrap();
        assert!(past.of("anything", "a/d").unwrap().is("unexpected"));
        assert!(past.of("anything", "a/e").is_none());
        std::fs::write(&file, "nothing of the kind\n").unwrap();
        assert!(read(&file).unwrap_err().message.contains("holds no TAP"));
        assert!(
            find(&dir, "othr.tap")
                .unwrap_err()
                .message
                .contains("did you mean 'other.tap'?")
        );
        assert!(
            find(&dir, "last")
                .unwrap_err()
                .message
                .contains("no earlier run")
        );
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
