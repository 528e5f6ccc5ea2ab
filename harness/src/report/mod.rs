//! Reports: what became of the plan, for machines and for people.
//!
//! To add a format, implement [`Report`] in a file here and name it in [`Format`] and [`open`].

pub mod html;
pub mod json;
pub mod jsonl;
pub mod junit;
pub mod ktap;
pub mod lava;
pub mod linaro;
pub mod markdown;
pub mod pretty;
pub mod stored;
pub mod tap;

use crate::catalog::CatalogUnit;
use crate::error::{did_you_mean, exit};
use crate::expectations::Verdict;
use crate::outcome::{CaseResult, Kind, Outcome};
use crate::payload::Case;
use crate::plan::Plan;
use clap::ValueEnum;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// One case, its result, and what to say about it.
pub struct Line<'a> {
    /// Its number in the plan, from 1.
    pub number: usize,
    /// Its number in the whole selection, of which this run may be a shard.
    pub place: usize,
    /// What the report calls it: its id, after the hypervisor's name when there are several.
    pub title: &'a str,
    /// Its id.
    pub id: &'a str,
    /// Its unit.
    pub unit: &'a CatalogUnit,
    /// Its record.
    pub case: &'a Case,
    /// The hypervisor's name.
    pub hypervisor: &'a str,
    /// The result.
    pub result: &'a CaseResult,
    /// What the expectations say.
    pub verdict: &'a Verdict,
    /// Whether it makes the run fail.
    pub bad: bool,
    /// The console log, by a path that is the same in every run.
    pub log: &'a str,
    /// The exact command of the hypervisor.
    pub command: &'a str,
}

impl Line<'_> {
    /// The command that runs this case alone.
    pub fn repro(&self) -> String {
        format!(
            "./run_tests.sh --hypervisor {} {}",
            self.hypervisor, self.id
        )
    }

    /// The manual's section: the guest's word, or else the record's.
    pub fn spec(&self) -> Option<&str> {
        let told = self.result.diagnostic.spec.as_deref();
        told.or_else(|| Some(self.case.spec.as_str()).filter(|s| !s.is_empty()))
    }

    /// Where the check is: the guest's word, or else the function.
    pub fn at(&self) -> &str {
        self.result
            .diagnostic
            .at
            .as_deref()
            .unwrap_or(&self.case.at)
    }
}

/// What a report needs to know before the first case.
pub struct Header<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The run's name.
    pub run: &'a str,
}

/// The whole run in numbers.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Cases by outcome; known deviations are not among them.
    pub outcomes: BTreeMap<Outcome, usize>,
    /// Known deviations.
    pub known: usize,
    /// Passes of cases with a known deviation.
    pub fixed: usize,
    /// Passes that other attempts contradict.
    pub flaky: usize,
    /// Cases that make the run fail.
    pub bad: usize,
    /// Cases that a hypervisor had to say something about.
    pub ran: usize,
    /// Skips by need.
    pub needs: BTreeMap<String, usize>,
    /// Where each unit got the hypervisor that serves it best: how many cases each of them ran.
    pub chosen: BTreeMap<&'static str, usize>,
    /// The same: skipped cases that other hypervisors of this host can run.
    pub elsewhere: Vec<Elsewhere>,
    /// A signal ended the run.
    pub interrupted: bool,
    /// `--fail-fast` ended the run.
    pub stopped: bool,
    /// How long it took.
    pub duration: Duration,
    /// The run directory, for people.
    pub dir: String,
}

/// Skipped cases that could run here after all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// What they need.
    pub need: String,
    /// How many they are.
    pub cases: usize,
    /// The hypervisors that have it.
    pub hypervisors: Vec<&'static str>,
}

impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (noun, verb) = match self.cases {
            1 => ("case", "needs"),
            _ => ("cases", "need"),
        };
        let (cases, need) = (self.cases, &self.need);
        let names = self.hypervisors.join(" or --hypervisor ");
        write!(
            f,
            "{cases} skipped {noun} {verb} {need}: --hypervisor {names}"
        )
    }
}

impl Summary {
    /// `qemu-tcg ran 20 cases, kvm 3`, where each unit got its own choice.
    pub fn chosen(&self) -> Option<String> {
        let mut chosen: Vec<_> = self.chosen.iter().collect();
        chosen.sort_by_key(|(name, cases)| (usize::MAX - **cases, **name));
        let mut parts = chosen.into_iter();
        let (name, cases) = parts.next()?;
        let noun = if *cases == 1 { "case" } else { "cases" };
        let first = format!("{name} ran {cases} {noun}");
        let rest = parts.map(|(name, cases)| format!("{name} {cases}"));
        Some(
            std::iter::once(first)
                .chain(rest)
                .collect::<Vec<_>>()
                .join(", "),
        )
    }

    /// Counts a case.
    pub fn count(&mut self, result: &CaseResult, verdict: &Verdict, bad: bool) {
        match verdict {
            Verdict::Known(_) => self.known += 1,
            _ => *self.outcomes.entry(result.outcome).or_default() += 1,
        }
        self.fixed += usize::from(matches!(verdict, Verdict::Fixed(_)));
        self.flaky += usize::from(matches!(verdict, Verdict::Flaky(_)));
        self.bad += usize::from(bad);
        self.ran += usize::from(has_run(result));
        if let Some(need) = &result.need {
            *self.needs.entry(need.clone()).or_default() += 1;
        }
    }

    /// How the process ends.
    pub fn code(&self) -> u8 {
        match self {
            s if s.interrupted => exit::INTERRUPTED,
            s if s.bad > 0 => exit::UNEXPECTED,
            // Only skips: nothing was tested, and that is never green.
            s if s.ran == 0 => exit::NOTHING_RAN,
            _ => exit::OK,
        }
    }
}

/// Whether a hypervisor had to say something about the case.
pub fn has_run(result: &CaseResult) -> bool {
    let absent = [Kind::Unavailable, Kind::Interrupted, Kind::NotRun];
    result.outcome != Outcome::Skip && !result.kind.is_some_and(|k| absent.contains(&k))
}

/// One report of a run.
pub trait Report {
    /// The plan is made.
    fn started(&mut self, header: &Header<'_>) -> io::Result<()>;
    /// A case has its result; cases come in plan order.
    fn case(&mut self, line: &Line<'_>) -> io::Result<()>;
    /// Every case had its line.
    fn finished(&mut self, summary: &Summary) -> io::Result<()>;
}

/// The formats there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// TAP version 13.
    Tap,
    /// For people.
    Pretty,
    /// JUnit XML.
    Junit,
    /// One JSON document.
    Json,
    /// JSON lines, as the run goes.
    Jsonl,
    /// KTAP version 1, a subtest per unit.
    Ktap,
    /// LAVA signals.
    Lava,
    /// What Linaro's parser of kvm-unit-tests results reads (KernelCI, LKFT).
    Linaro,
    /// One self-contained page.
    Html,
    /// A summary for merge requests.
    Markdown,
}

/// `-o FORMAT=FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The format.
    pub format: Format,
    /// The file.
    pub path: PathBuf,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, path) = text
            .split_once('=')
            .ok_or_else(|| format!("'{text}' is not like junit=FILE"))?;
        let formats = Format::value_variants()
            .iter()
            .filter_map(Format::to_possible_value);
        let names: Vec<String> = formats.map(|f| f.get_name().to_owned()).collect();
        let format = Format::from_str(word, false).map_err(|_| {
            let hint = did_you_mean(word, names.iter().map(String::as_str));
            format!(
                "unknown format '{word}'{hint}; known are {}",
                names.join(", ")
            )
        })?;
        match path {
            "" => Err(format!("'{text}' names no file")),
            path => Ok(Target {
                format,
                path: path.into(),
            }),
        }
    }
}

/// A report in `format` that writes to `out`. `color` concerns the one for people.
pub fn open<'a>(
    format: Format,
    out: impl Write + 'a,
    color: bool,
    verbose: bool,
) -> Box<dyn Report + 'a> {
    match format {
        Format::Tap => Box::new(tap::Tap::new(out)),
        Format::Pretty => Box::new(pretty::Pretty::new(out, color, verbose)),
        Format::Junit => Box::new(junit::Junit::new(out)),
        Format::Json => Box::new(json::Json::new(out)),
        Format::Jsonl => Box::new(jsonl::JsonLines::new(out)),
        Format::Ktap => Box::new(json::Json::with(out, ktap::write)),
        Format::Lava => Box::new(lava::Lava::new(out)),
        Format::Linaro => Box::new(json::Json::with(out, linaro::write)),
        Format::Html => Box::new(json::Json::with(out, html::write)),
        Format::Markdown => Box::new(json::Json::with(out, markdown::write)),
    }
}
