//! JSON lines, written as the run goes: `run` first, one `case` per case, `end` last.
//!
//! A `case` is a case of `results.json` with its type. A stream without `end` was cut short.

use super::json::{self, Host, hosts};
use super::{Header, Line, Report, Summary};
use crate::outcome::Outcome;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// The name and version of this stream's shape.
pub const SCHEMA: &str = "assay.events/1";

/// One line.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Event {
    /// The plan is made.
    Run {
        /// [`SCHEMA`].
        schema: String,
        /// The run's name.
        run: String,
        /// How many cases will follow.
        cases: usize,
        /// Hypervisors and their versions.
        hypervisors: Vec<Host>,
    },
    /// A case has its result.
    Case(Box<json::Case>),
    /// Every case had its line.
    End {
        /// Neither a signal nor `--fail-fast` ended the run.
        complete: bool,
        /// Seconds it took.
        duration_s: f64,
        /// Cases by outcome; known deviations are not among them.
        outcomes: BTreeMap<Outcome, usize>,
        /// Known deviations.
        known: usize,
        /// Cases that make the run fail.
        unexpected: usize,
    },
}

/// Writes to `out`.
pub struct JsonLines<W> {
    out: W,
}

impl<W: Write> JsonLines<W> {
    /// A report that writes to `out`.
    pub fn new(out: W) -> Self {
        JsonLines { out }
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, event)?;
        writeln!(self.out)?;
        self.out.flush()
    }
}

impl<W: Write> Report for JsonLines<W> {
    fn started(&mut self, header: &Header<'_>) -> io::Result<()> {
        self.event(&Event::Run {
            schema: SCHEMA.into(),
            run: header.run.into(),
            cases: header.plan.cases,
            hypervisors: hosts(header.plan),
        })
    }

    fn case(&mut self, line: &Line<'_>) -> io::Result<()> {
        self.event(&Event::Case(Box::new(json::case(line))))
    }

    fn finished(&mut self, summary: &Summary) -> io::Result<()> {
        self.event(&Event::End {
            complete: !summary.interrupted && !summary.stopped,
            duration_s: (summary.duration.as_secs_f64() * 1e3).round() / 1e3,
            outcomes: summary.outcomes.clone(),
            known: summary.known,
            unexpected: summary.bad,
        })
    }
}
