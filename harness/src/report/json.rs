//! One JSON document: everything that is known about a run. `assay compare` reads it.

use super::{Header, Line, Report, Summary};
use crate::expectations::Verdict;
use crate::outcome::{Attempt, CaseResult, Diagnostic, Kind, Outcome};
use crate::plan::Plan;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};

/// The name and version of this document's shape.
pub const SCHEMA: &str = "assay.results/1";

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Document {
    /// [`SCHEMA`].
    pub schema: String,
    /// The run's name.
    pub run: String,
    /// `K/N` when it is one of several parts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub shard: Option<String>,
    /// Its cases ran on several hypervisors each: reports put the hypervisor's name first.
    #[serde(default)]
    pub many: bool,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// The architecture.
    pub arch: String,
    /// Its version, or nothing when it could not be used.
    pub version: Option<String>,
}

/// A case.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Case {
    /// Its number in the plan.
    pub number: usize,
    /// Its number in the whole selection, of which this run may be a shard.
    #[serde(default)]
    pub place: usize,
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
    /// Where a known deviation is written down.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reference: Option<String>,
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
    write: Writer,
}

/// Writes a whole document in some format.
pub type Writer = fn(&Document, &mut dyn Write) -> io::Result<()>;

/// Writes `document` as itself.
pub fn write(document: &Document, mut out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut out, document)?;
    writeln!(out)
}

impl<W: Write> Json<W> {
    /// A report that writes to `out`.
    pub fn new(out: W) -> Self {
        Json::with(out, write)
    }

    /// A report that collects the document and leaves it to `write`.
    pub fn with(out: W, write: Writer) -> Self {
        let document = Document {
            schema: SCHEMA.into(),
            run: String::new(),
            shard: None,
            many: false,
            complete: false,
            duration_s: 0.0,
            hypervisors: Vec::new(),
            cases: Vec::new(),
        };
        Json {
            out,
            document,
            write,
        }
    }
}

/// The hypervisors of `plan` and their versions.
pub fn hosts(plan: &Plan) -> Vec<Host> {
    let mut hosts = Vec::new();
    for job in &plan.jobs {
        let host = Host {
            name: job.hypervisor.name().into(),
            arch: job.unit.unit.arch.word().into(),
            version: job.offer.as_ref().ok().map(|o| o.version.clone()),
        };
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
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
    let (verdict, known, reference) = match line.verdict {
        Verdict::Expected => ("expected", None, None),
        Verdict::Known(why) => ("known", Some(why.text.clone()), Some(why.reference.clone())),
        Verdict::Fixed(why) => ("fixed", Some(why.text.clone()), Some(why.reference.clone())),
        Verdict::Flaky(why) => ("flaky", Some(why.clone()), None),
        Verdict::Unexpected => ("unexpected", None, None),
    };
    Case {
        number: line.number,
        place: line.place,
        id: line.id.into(),
        hypervisor: line.hypervisor.into(),
        outcome,
        verdict: verdict.into(),
        known,
        reference,
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
        self.document.many = header.plan.many;
        self.document.shard = header.plan.shard.map(|s| s.to_string());
        self.document.hypervisors = hosts(header.plan);
        Ok(())
    }

    fn case(&mut self, line: &Line<'_>) -> io::Result<()> {
        self.document.cases.push(case(line));
        Ok(())
    }

    fn finished(&mut self, summary: &Summary) -> io::Result<()> {
        self.document.complete = !summary.interrupted && !summary.stopped;
        self.document.duration_s = (summary.duration.as_secs_f64() * 1e3).round() / 1e3;
        (self.write)(&self.document, &mut self.out)?;
        self.out.flush()
    }
}
