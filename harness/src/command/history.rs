//! `assay history`: since when cases fail, and which are flaky, from a folder of runs.
//!
//! Runs sort by their names, which begin with the time. A case is flaky when a run said so, or
//! when it went from good to bad and back, or the other way, more than once. A run that did not
//! select a case says nothing about it.

use crate::cli::{HistoryOptions, Place};
use crate::error::{Error, Result, exit};
use crate::matrix::Status;
use crate::outcome::Kind;
use crate::runs::{self, RESULTS, Run};
use crate::workspace::Workspace;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

/// What the runs say of a case on a hypervisor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Track {
    /// The hypervisor.
    pub hypervisor: String,
    /// The case's id.
    pub id: String,
    /// What the last run that held it says.
    pub status: &'static str,
    /// The first run since which it has always been bad, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bad_since: Option<String>,
    /// The last run before that in which it passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_good: Option<String>,
    /// Runs that hold it.
    pub runs: usize,
    /// Runs in which it is bad.
    pub bad: usize,
    /// How often it went from good to bad or back.
    pub turns: usize,
    /// Whether it is flaky.
    pub flaky: bool,
    /// Its statuses, oldest first.
    pub statuses: Vec<&'static str>,
}

/// Prints the history.
pub fn history(place: &Place, options: &HistoryOptions) -> Result<u8> {
    let dir = match &options.dir {
        Some(dir) => dir.clone(),
        None => Workspace::find(place)?.runs(),
    };
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&dir)
        .map_err(|e| Error::file("read folder", &dir, e))?
        .flatten()
        .map(|entry| entry.path())
        // `latest` is one of the others.
        .filter(|path| !path.is_symlink() && path.join(RESULTS).is_file())
        .collect();
    paths.sort();
    let mut all = Vec::new();
    for path in &paths {
        match runs::read(path) {
            Ok(run) => all.push(run),
            // A run that was killed left half a document; the others still count.
            Err(e) => eprintln!("assay: left out: {e}"),
        }
    }
    let keep = options.last.map_or(all.len(), |n| n as usize);
    let all = all.split_off(all.len().saturating_sub(keep));
    if all.is_empty() {
        return Err(Error::nothing(format!("no run in {}", dir.display())));
    }
    let tracks = tracks(&all);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = match options.json {
        true => json(&mut out, &all, &tracks),
        false => print(&mut out, &all, &tracks),
    };
    super::written(written.and_then(|()| out.flush()).map(|()| exit::OK))
}

/// One track per hypervisor and case.
fn tracks(runs: &[Run]) -> Vec<Track> {
    let mut seen: BTreeMap<(&str, &str), Vec<(&str, Status)>> = BTreeMap::new();
    for run in runs {
        for case in &run.document.cases {
            // A case that had no turn says nothing.
            if !matches!(case.kind, Some(Kind::Interrupted | Kind::NotRun)) {
                let track = seen.entry((&case.hypervisor, &case.id)).or_default();
                track.push((&run.label, Status::of(case)));
            }
        }
    }
    let seen = seen.into_iter();
    seen.map(|((hypervisor, id), points)| track(hypervisor, id, &points))
        .collect()
}

fn track(hypervisor: &str, id: &str, points: &[(&str, Status)]) -> Track {
    let judged = points.iter().filter(|(_, s)| s.bad() || s.passes());
    let judged: Vec<(&str, bool)> = judged.map(|(run, s)| (*run, s.bad())).collect();
    let turns = judged.windows(2).filter(|w| w[0].1 != w[1].1).count();
    let tail = judged.iter().rev().take_while(|(_, bad)| *bad).count();
    let (before, after) = judged.split_at(judged.len() - tail);
    let good = before.last().filter(|_| tail > 0);
    Track {
        hypervisor: hypervisor.into(),
        id: id.into(),
        status: points.last().map_or("-", |(_, s)| s.word()),
        bad_since: after.first().map(|(run, _)| (*run).to_owned()),
        last_good: good.map(|(run, _)| (*run).to_owned()),
        runs: points.len(),
        bad: points.iter().filter(|(_, s)| s.bad()).count(),
        turns,
        flaky: turns > 1 || points.iter().any(|(_, s)| *s == Status::Flaky),
        statuses: points.iter().map(|(_, s)| s.word()).collect(),
    }
}

fn json(out: &mut impl Write, runs: &[Run], tracks: &[Track]) -> io::Result<()> {
    let runs: Vec<&str> = runs.iter().map(|r| r.label.as_str()).collect();
    let document =
        serde_json::json!({ "schema": "assay.history/1", "runs": runs, "cases": tracks });
    serde_json::to_writer_pretty(&mut *out, &document)?;
    writeln!(out)
}

fn print(out: &mut impl Write, runs: &[Run], tracks: &[Track]) -> io::Result<()> {
    let (first, last) = (&runs[0].label, &runs[runs.len() - 1].label);
    writeln!(out, "# {} runs, {first} to {last}", runs.len())?;
    let name = |t: &Track| match t.hypervisor.is_empty() {
        true => t.id.clone(),
        false => format!("{}/{}", t.hypervisor, t.id),
    };
    let mut bad: Vec<&Track> = tracks.iter().filter(|t| t.bad_since.is_some()).collect();
    bad.sort_by(|a, b| b.bad_since.cmp(&a.bad_since));
    if !bad.is_empty() {
        writeln!(out, "\n# bad now: {} (latest first)", bad.len())?;
    }
    for t in &bad {
        let since = t.bad_since.as_deref().unwrap_or_default();
        let good = match &t.last_good {
            Some(run) => format!("passed in {run}"),
            None => "never passed here".into(),
        };
        writeln!(out, "{:<8}since {since} ({good})  {}", t.status, name(t))?;
    }
    let flaky: Vec<&Track> = tracks.iter().filter(|t| t.flaky).collect();
    if !flaky.is_empty() {
        writeln!(out, "\n# flaky: {}", flaky.len())?;
    }
    for t in &flaky {
        let Track {
            bad, runs, turns, ..
        } = t;
        writeln!(out, "{bad:>3} of {runs:<3} bad, {turns} turns  {}", name(t))?;
    }
    let (all, bad, flaky) = (tracks.len(), bad.len(), flaky.len());
    writeln!(out, "\n# {all} cases, {bad} bad now, {flaky} flaky")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::tests::run;

    fn one(words: &[&str]) -> Track {
        let run = |(i, word)| run(&format!("r{}", i + 1), "q", &format!("a={word}"));
        let runs: Vec<Run> = words.iter().enumerate().map(run).collect();
        tracks(&runs).remove(0)
    }

    #[test]
    fn a_failure_knows_since_when() {
        let track = one(&["pass", "pass", "fail", "skip", "crash"]);
        assert_eq!(track.bad_since.as_deref(), Some("r3"));
        assert_eq!(track.last_good.as_deref(), Some("r2"));
        assert_eq!((track.status, track.bad, track.turns), ("crash", 2, 1));
        assert!(!track.flaky);
        assert_eq!(one(&["fail", "fail"]).last_good, None);
        assert_eq!(one(&["fail", "pass"]).bad_since, None);
        assert_eq!(one(&["known", "known"]).bad_since, None);
    }

    #[test]
    fn going_back_and_forth_is_flaky() {
        assert!(one(&["pass", "fail", "pass"]).flaky);
        assert!(!one(&["pass", "fail", "fail"]).flaky);
        assert!(one(&["flaky"]).flaky);
    }
}
