//! JUnit XML as GitLab and Jenkins read it: a suite per unit, a test case per case.

use super::{Header, Line, Report, Summary};
use crate::again;
use crate::expectations::Verdict;
use crate::outcome::{Attempt, Outcome};
use quick_junit::{
    NonSuccessKind, Report as Document, TestCase, TestCaseStatus, TestRerun, TestSuite,
};
use std::io::{self, Write};
use std::time::Duration;

/// Collects cases and writes the document when the run is over.
pub struct Junit<W> {
    out: W,
    suites: Vec<TestSuite>,
    suite: String,
}

impl<W: Write> Junit<W> {
    /// A report that writes to `out`.
    pub fn new(out: W) -> Self {
        Junit {
            out,
            suites: Vec::new(),
            suite: String::new(),
        }
    }
}

/// The text below a failure: what a person needs first comes first.
fn description(line: &Line<'_>) -> String {
    let d = &line.result.diagnostic;
    let mut text = String::new();
    let mut add = |key: &str, value: &str| text.push_str(&format!("{key}: {value}\n"));
    add("rule", &line.case.doc);
    for (key, value) in [
        ("message", &d.message),
        ("expected", &d.expected),
        ("got", &d.got),
    ] {
        if let Some(value) = value {
            add(key, value);
        }
    }
    if let Some(spec) = line.spec() {
        add("spec", spec);
    }
    add("at", line.at());
    d.notes.iter().for_each(|n| add("note", n));
    d.details.iter().for_each(|n| add("detail", n));
    line.result.console.iter().for_each(|n| add("console", n));
    add("log", line.log);
    add("repro", &line.repro());
    text
}

impl<W: Write> Report for Junit<W> {
    fn started(&mut self, _: &Header<'_>) -> io::Result<()> {
        Ok(())
    }

    fn case(&mut self, line: &Line<'_>) -> io::Result<()> {
        let r = line.result;
        let suite = format!("{}/{}", line.hypervisor, line.unit.unit.id());
        if suite != self.suite {
            self.suites.push(TestSuite::new(suite.clone()));
            self.suite = suite;
        }
        let good = matches!(r.outcome, Outcome::Pass) && !line.bad;
        let mut status = match (r.outcome, line.verdict) {
            _ if good => TestCaseStatus::success(),
            (Outcome::Skip, _) | (_, Verdict::Known(_)) => TestCaseStatus::skipped(),
            (Outcome::Error, _) => TestCaseStatus::non_success(NonSuccessKind::Error),
            _ => TestCaseStatus::non_success(NonSuccessKind::Failure),
        };
        if !good {
            let kind = r
                .kind
                .map_or_else(|| r.outcome.word().to_owned(), |k| k.word());
            let message = match (&r.need, line.verdict) {
                (Some(need), _) => format!("needs {need}"),
                (_, Verdict::Known(why)) => {
                    format!("known {}: {} ({})", r.outcome, why.text, why.reference)
                }
                (_, Verdict::Fixed(why)) => {
                    format!("passes although a deviation is known: {}", why.text)
                }
                _ => format!(
                    "{kind}: {}",
                    r.diagnostic.message.as_deref().unwrap_or("failed")
                ),
            };
            status.set_type(kind).set_message(message);
            if r.need.is_none() {
                status.set_description(description(line));
            }
        }
        // Passes that other attempts contradict become flakyFailure, further failures rerunFailure.
        let kept = usize::from(!good);
        let bad = |a: &&Attempt| !matches!(a.outcome, Outcome::Pass | Outcome::Skip);
        for attempt in r.attempts.iter().filter(bad).skip(kept) {
            let mut rerun = TestRerun::new(NonSuccessKind::Failure);
            rerun.set_message(attempt.text());
            rerun.set_type(attempt.outcome.word());
            rerun.set_time(
                Duration::try_from_secs_f64(attempt.duration_ms / 1e3).unwrap_or_default(),
            );
            status.add_rerun(rerun);
        }
        let mut case = TestCase::new(line.id, status);
        case.set_classname(line.unit.unit.id().replace('/', "."));
        case.set_time(again::total(r));
        if let Some(suite) = self.suites.last_mut() {
            suite.add_test_case(case);
        }
        Ok(())
    }

    fn finished(&mut self, summary: &Summary) -> io::Result<()> {
        let mut document = Document::new("assay");
        document.set_time(summary.duration);
        document.add_test_suites(std::mem::take(&mut self.suites));
        document
            .serialize(&mut self.out)
            .map_err(io::Error::other)?;
        writeln!(self.out)?;
        self.out.flush()
    }
}
