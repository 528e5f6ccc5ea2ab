//! `assay bench`: what first writes cost that the host logs or has to make room for.
//!
//! The payload `bench` measures on the guest's clock and verifies that each page really was logged or
//! filled; this command runs it like any unit and turns its notes into a table. Rates belong to one
//! machine at one moment; what can be compared is the ratio to the plain writes of the same round.

use crate::arch::Arch;
use crate::catalog;
use crate::cli::{BenchOptions, Place};
use crate::error::{Error, Result, exit};
use crate::hypervisor::{self, Hypervisor};
use crate::interrupt::Interrupt;
use crate::manifest::{self, Unit};
use crate::outcome::{CaseResult, Outcome};
use crate::plan::{Job, plan};
use crate::progress::Bar;
use crate::run::{self, Settings};
use crate::workspace::Workspace;
use assay_protocol::bench::{Kind, PAGES, ROUNDS, Sample};
use schemars::JsonSchema;
use serde::Serialize;
use std::io::{self, Write};

/// The name and version of the document's shape.
pub const SCHEMA: &str = "assay.bench/1";
/// The unit that measures.
const UNIT: &str = "bench";

/// What `assay bench --json` prints.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Document {
    /// [`SCHEMA`].
    pub schema: String,
    /// The hypervisor.
    pub hypervisor: String,
    /// Its version.
    pub version: String,
    /// What is worth knowing of it here.
    pub remarks: Vec<String>,
    /// Pages per round.
    pub pages: u32,
    /// Rounds.
    pub rounds: u32,
    /// What was measured.
    pub rows: Vec<Row>,
    /// What was not.
    pub missing: Vec<Missing>,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Row {
    /// What was written: `plain`, or a first write of one kind.
    pub kind: &'static str,
    /// Processors that wrote at the same time.
    pub vcpus: u32,
    /// Pages per second of all of them together, the median of the rounds.
    pub pages_per_second: f64,
    /// This rate by that of the plain writes of the same round, the median of the rounds.
    pub ratio: f64,
}

/// A case that gave no number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Missing {
    /// Its id.
    pub id: String,
    /// What it came to.
    pub outcome: Outcome,
    /// Why.
    pub reason: String,
}

/// Measures and prints.
pub fn bench(place: &Place, options: &BenchOptions) -> Result<u8> {
    let workspace = Workspace::find(place)?;
    let job = job(&workspace, options)?;
    let (version, remarks) = match &job.offer {
        Ok(offer) => (offer.version.clone(), offer.remarks.clone()),
        Err(why) => return Err(Error::usage(format!("nothing can be measured: {}", why.0))),
    };
    let interrupt =
        Interrupt::listen().map_err(|e| Error::usage(format!("cannot listen to signals: {e}")))?;
    let settings = Settings {
        timeout_s: None,
        scale: super::run::scale()?,
        interrupt: interrupt.clone(),
    };
    // One folder for all: a measurement is no run, and only its last log is of interest.
    let dir = workspace.runs().join(UNIT);
    std::fs::create_dir_all(&dir).map_err(|e| Error::file("create folder", &dir, e))?;
    let bar = Bar::new(job.unit.numbers.len());
    let report = run::run(&job, &dir, &settings, &|id| bar.case(0, id));
    bar.finish();
    if interrupt.signalled() {
        return Ok(exit::INTERRUPTED);
    }
    let (samples, missing) = sort_out(job.ids(), &report.results, options.rounds);
    let document = Document {
        schema: SCHEMA.into(),
        hypervisor: job.hypervisor.name().into(),
        version,
        remarks,
        pages: options.pages,
        rounds: options.rounds,
        rows: rows(&samples),
        missing,
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let done = match options.json {
        true => json(&mut out, &document),
        false => table(&mut out, &document),
    };
    super::written(done.and_then(|()| out.flush()).map(|()| exit::OK))?;
    for Missing {
        id,
        outcome,
        reason,
    } in &document.missing
    {
        eprintln!("assay: no number from {id}: {outcome}: {reason}");
    }
    let skipped = document.missing.iter().all(|m| m.outcome == Outcome::Skip);
    if !skipped {
        let log = dir.join(&job.log);
        eprintln!("assay: the console is in {}", log.display());
    }
    Ok(match (skipped, document.rows.is_empty()) {
        (false, _) => exit::UNEXPECTED,
        (true, true) => exit::NOTHING_RAN,
        (true, false) => exit::OK,
    })
}

/// The unit on its hypervisor, as large as the user wants it.
fn job(workspace: &Workspace, options: &BenchOptions) -> Result<Job> {
    let units = manifest::load(&workspace.manifest)?;
    let ours = |u: &Unit| u.name == UNIT && u.arch == Arch::X86;
    let mut unit = units.into_iter().find(ours).ok_or_else(|| {
        let file = workspace.manifest.display();
        Error::usage(format!(
            "{file} has no unit x86/{UNIT}; use that of the checkout (--manifest)"
        ))
    })?;
    let hypervisor = hypervisor::find(&options.hypervisor, &workspace.cache())?;
    check_services(hypervisor.as_ref(), &unit)?;
    let (pages, rounds) = (options.pages, options.rounds);
    unit.args = format!("{} {PAGES}={pages} {ROUNDS}={rounds}", unit.args);
    // Half a millisecond for a page in a round is ten times what the slowest host here takes.
    let limit = u64::from(pages) * u64::from(rounds) / 2000;
    unit.timeout_s += u32::try_from(limit).unwrap_or(u32::MAX / 100);
    unit.unit_timeout_s = unit.unit_timeout_s.max(unit.timeout_s * 10);
    let selected = catalog::from_units(vec![unit], &workspace.payloads)?;
    let images = workspace.cache().join("images");
    let plan = plan(&selected, &[hypervisor], &images)?;
    let job = plan.jobs.into_iter().next();
    job.ok_or_else(|| {
        let name = &options.hypervisor;
        Error::usage(format!("{name} runs no x86 payload; use --hypervisor kvm"))
    })
}

fn check_services(hypervisor: &dyn Hypervisor, unit: &Unit) -> Result<()> {
    if hypervisor.services(unit).contains(&"dirty_log") {
        return Ok(());
    }
    let name = hypervisor.name();
    Err(Error::usage(format!(
        "{name} shows its guest no dirty log, so there is nothing to measure; use --hypervisor kvm"
    )))
}

/// The numbers of the cases that passed; what the others came to. A case that was to measure
/// `rounds` times and did not is an error.
fn sort_out(ids: Vec<String>, results: &[CaseResult], rounds: u32) -> (Vec<Sample>, Vec<Missing>) {
    let (mut samples, mut missing) = (Vec::new(), Vec::new());
    for (id, result) in ids.into_iter().zip(results) {
        let notes = &result.diagnostic.notes;
        let found: Vec<Sample> = notes.iter().filter_map(|n| Sample::parse(n)).collect();
        let whole = found.len() == rounds as usize;
        if result.outcome == Outcome::Pass && whole {
            samples.extend(found);
            continue;
        }
        let message = || result.diagnostic.message.clone().unwrap_or_default();
        let values = |reason: String| match (&result.diagnostic.got, &result.diagnostic.expected) {
            (Some(got), Some(expected)) => format!("{reason}: {got}, not {expected}"),
            _ => reason,
        };
        let (outcome, reason) = match (result.outcome, &result.need) {
            (Outcome::Pass, _) => {
                let (n, of) = (found.len(), rounds);
                (Outcome::Error, format!("{n} of {of} rounds have a number"))
            }
            (outcome, Some(need)) => (outcome, format!("needs {need}")),
            (outcome, None) => (outcome, values(message())),
        };
        missing.push(Missing {
            id,
            outcome,
            reason,
        });
    }
    (samples, missing)
}

/// The word of a kind in the table.
fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Bitmap => "dirty-bitmap",
        Kind::Manual => "dirty-bitmap-manual",
        Kind::Ring => "dirty-ring",
        Kind::Missing => "demand-missing",
        Kind::Minor => "demand-minor",
    }
}

/// For each number of processors: the plain writes of all rounds, then each kind.
fn rows(samples: &[Sample]) -> Vec<Row> {
    let rate = |s: &Sample, ns: u64| s.pages as f64 * 1e9 / ns as f64;
    let mut cpus: Vec<u32> = samples.iter().map(|s| s.cpus).collect();
    cpus.sort_unstable();
    cpus.dedup();
    let mut rows = Vec::new();
    for vcpus in cpus {
        let of = |kind: Option<Kind>| {
            samples
                .iter()
                .filter(move |s| s.cpus == vcpus && kind.is_none_or(|kind| s.kind == kind))
        };
        rows.push(Row {
            kind: "plain",
            vcpus,
            pages_per_second: median(of(None).map(|s| rate(s, s.plain_ns))),
            ratio: 1.0,
        });
        for kind in Kind::ALL {
            if of(Some(kind)).next().is_none() {
                continue;
            }
            rows.push(Row {
                kind: word(kind),
                vcpus,
                pages_per_second: median(of(Some(kind)).map(|s| rate(s, s.ns))),
                ratio: median(of(Some(kind)).map(|s| s.plain_ns as f64 / s.ns as f64)),
            });
        }
    }
    rows
}

/// The middle one, or the mean of the two in the middle. There is at least one.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (low, high) = ((values.len() - 1) / 2, values.len() / 2);
    (values[low] + values[high]) / 2.0
}

fn json(out: &mut impl Write, document: &Document) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, document)?;
    writeln!(out)
}

fn table(out: &mut impl Write, document: &Document) -> io::Result<()> {
    let Document {
        hypervisor,
        version,
        pages,
        rounds,
        ..
    } = document;
    writeln!(
        out,
        "# {hypervisor} {version}: {pages} pages, medians of {rounds} rounds"
    )?;
    for remark in &document.remarks {
        writeln!(out, "# {remark}")?;
    }
    writeln!(
        out,
        "{:<20} {:>5} {:>12} {:>9}",
        "kind", "vcpus", "pages/s", "ratio"
    )?;
    for row in &document.rows {
        let Row {
            kind,
            vcpus,
            pages_per_second,
            ratio,
        } = row;
        writeln!(
            out,
            "{kind:<20} {vcpus:>5} {pages_per_second:>12.0} {:>9}",
            figures(*ratio)
        )?;
    }
    Ok(())
}

/// Three significant figures, never in powers of ten: columns are compared by eye.
fn figures(ratio: f64) -> String {
    let places = (2.0 - ratio.abs().log10().floor()).clamp(0.0, 9.0) as usize;
    format!("{ratio:.places$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(kind: Kind, cpus: u32, ns: u64, plain_ns: u64) -> Sample {
        Sample {
            kind,
            cpus,
            pages: 1000,
            ns,
            plain_ns,
        }
    }

    #[test]
    fn ratios_are_those_of_a_round() {
        // The machine becomes ten times slower, the ratio does not.
        let samples = [
            sample(Kind::Ring, 1, 100_000, 1000),
            sample(Kind::Ring, 1, 1_000_000, 10_000),
            sample(Kind::Ring, 1, 1_000_000, 10_000),
            sample(Kind::Missing, 2, 4000, 1000),
        ];
        let rows = rows(&samples);
        let seen: Vec<_> = rows.iter().map(|r| (r.kind, r.vcpus)).collect();
        let words = [
            ("plain", 1),
            ("dirty-ring", 1),
            ("plain", 2),
            ("demand-missing", 2),
        ];
        assert_eq!(seen, words);
        assert_eq!((rows[0].pages_per_second, rows[0].ratio), (1e8, 1.0));
        assert_eq!((rows[1].pages_per_second, rows[1].ratio), (1e6, 0.01));
        assert_eq!((rows[3].pages_per_second, rows[3].ratio), (2.5e8, 0.25));
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
    }

    #[test]
    fn ratios_have_three_figures() {
        for (ratio, text) in [
            (1.0, "1.00"),
            (0.012_345, "0.0123"),
            (0.000_098_76, "0.0000988"),
            (12.34, "12.3"),
            (0.0, "0.000000000"),
        ] {
            assert_eq!(figures(ratio), text);
        }
    }

    #[test]
    fn only_whole_passes_give_numbers() {
        let note = sample(Kind::Ring, 1, 5, 1).to_string();
        let with = |outcome, notes: usize| {
            let mut result = CaseResult::plain(outcome);
            result.diagnostic.notes = vec![note.clone(); notes];
            result
        };
        let mut failed = with(Outcome::Fail, 2);
        failed.diagnostic.message = Some("pages in the log".into());
        (failed.diagnostic.got, failed.diagnostic.expected) =
            (Some("0x3".into()), Some("0x4".into()));
        let results = [
            with(Outcome::Pass, 2),
            with(Outcome::Pass, 1),
            failed,
            CaseResult::skip("service.userfault"),
        ];
        let ids = ["a", "b", "c", "d"].map(String::from).to_vec();
        let (samples, missing) = sort_out(ids, &results, 2);
        assert_eq!(samples.len(), 2);
        let said: Vec<_> = missing
            .iter()
            .map(|m| (m.id.as_str(), m.outcome, m.reason.as_str()))
            .collect();
        let expected = [
            ("b", Outcome::Error, "1 of 2 rounds have a number"),
            ("c", Outcome::Fail, "pages in the log: 0x3, not 0x4"),
            ("d", Outcome::Skip, "needs service.userfault"),
        ];
        assert_eq!(said, expected);
    }
}
