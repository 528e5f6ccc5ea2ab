//! One JSON document: everything that is known about a run. `assay compare` reads it.

use super::{Header, Line, Report, Summary};
use crate::expectations::Verdict;
use crate::outcome::{Attempt, CaseResult, Diagnostic, Kind, Outcome};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};

/// The name and version of this document's shape.
pub const SCHEMA: &str = "assay.results/1";

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Document {
    /// [`SCHEMA`].
    pub schema: String,
    /// The run's name.
    pub run: String,
    /// A signal or `--fail-fast` ended it before its end.
    pub complete: bool,
    /// Seconds it took.
    pub duration_s: f64,
    /// Hypervisors and their versions, per architecture.
    pub hypervisors: Vec<Host>,
    /// Its cases, in plan order.
    pub cases: Vec<Case>,
}

/// A hypervisor that took part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// The architecture.
    pub arch: String,
    /// Its version, or nothing when it could not be used.
    pub version: Option<String>,
}

/// A case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Case {
    /// Its number in the plan.
    pub number: usize,
    /// Its id.
    pub id: String,
    /// The hypervisor's name.
    pub hypervisor: String,
    /// The outcome.
    pub outcome: Outcome,
    /// `expected`, `known`, `fixed`, `flaky` or `unexpected`.
    pub verdict: String,
    /// Why a deviation is known, or what the attempts of a flaky case came to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub known: Option<String>,
    /// The cause.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kind: Option<Kind>,
    /// The missing need.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub need: Option<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// The rule in plain words.
    pub rule: String,
    /// The manual's section.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub spec: Option<String>,
    /// `file:line`.
    pub at: String,
    /// What the guest or the runner said.
    pub diagnostic: Diagnostic,
    /// The last console lines before a crash or timeout.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub console: Vec<String>,
    /// What each attempt came to, when there was more than one.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub attempts: Vec<Attempt>,
    /// Milliseconds from start to result.
    pub duration_ms: f64,
    /// Console log, beside this document.
    pub log: String,
    /// The exact command of the hypervisor.
    pub command: String,
    /// The command that runs this case alone.
    pub repro: String,
}

/// Collects cases and writes the document when the run is over.
pub struct Json<W> {
    out: W,
    document: Document,
}

impl<W: Write> Json<W> {
    /// A report that writes to `out`.
    pub fn new(out: W) -> Self {
        let document = Document {
            schema: SCHEMA.into(),
            run: String::new(),
            complete: false,
            duration_s: 0.0,
            hypervisors: Vec::new(),
            cases: Vec::new(),
        };
        Json { out, document }
    }
}

/// A line as it stands in the document.
pub fn case(line: &Line<'_>) -> Case {
    let CaseResult {
        outcome,
        need,
        kind,
        diagnostic,
        duration,
        console,
        attempts,
    } = line.result.clone();
    let (verdict, known) = match line.verdict {
        Verdict::Expected => ("expected", None),
        Verdict::Known(why) => ("known", Some(format!("{} ({})", why.text, why.reference))),
        Verdict::Fixed(why) => ("fixed", Some(format!("{} ({})", why.text, why.reference))),
        Verdict::Flaky(why) => ("flaky", Some(why.clone())),
        Verdict::Unexpected => ("unexpected", None),
    };
    Case {
        number: line.number,
        id: line.id.into(),
        hypervisor: line.hypervisor.into(),
        outcome,
        verdict: verdict.into(),
        known,
        kind,
        need,
        groups: line
            .unit
            .unit
            .groups
            .iter()
            .chain(&line.case.groups)
            .cloned()
            .collect(),
        rule: line.case.doc.clone(),
        spec: line.spec().map(str::to_owned),
        at: line.at().into(),
        diagnostic,
        console,
        attempts,
        duration_ms: (duration.as_secs_f64() * 1e6).round() / 1e3,
        log: line.log.rsplit('/').next().unwrap_or_default().into(),
        command: line.command.into(),
        repro: line.repro(),
    }
}

impl<W: Write> Report for Json<W> {
    fn started(&mut self, header: &Header<'_>) -> io::Result<()> {
        self.document.run = header.run.into();
        for job in &header.plan.jobs {
            let host = Host {
                name: job.hypervisor.name().into(),
                arch: job.unit.unit.arch.word().into(),
                version: job.offer.as_ref().ok().map(|o| o.version.clone()),
            };
            if !self.document.hypervisors.contains(&host) {
                self.document.hypervisors.push(host);
            }
        }
        Ok(())
    }

    fn case(&mut self, line: &Line<'_>) -> io::Result<()> {
        self.document.cases.push(case(line));
        Ok(())
    }

    fn finished(&mut self, summary: &Summary) -> io::Result<()> {
        self.document.complete = !summary.interrupted && !summary.stopped;
        self.document.duration_s = (summary.duration.as_secs_f64() * 1e3).round() / 1e3;
        serde_json::to_writer_pretty(&mut self.out, &self.document)?;
        writeln!(self.out)?;
        self.out.flush()
    }
}
