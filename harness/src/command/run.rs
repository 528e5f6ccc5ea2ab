//! `assay run`: from the command line to the exit code.

use super::list;
use crate::again::{self, Again};
use crate::arch::Arch;
use crate::catalog;
use crate::cli::{Place, RunOptions};
use crate::error::{Error, Result, exit};
use crate::expectations::{Deviation, Expectations, Verdict, update};
use crate::hypervisor::{self, Hypervisor, auto::Auto, replay::Replay};
use crate::interrupt::Interrupt;
use crate::outcome::{CaseResult, Kind, Outcome};
use crate::plan::{Job, Plan, plan, plan_auto};
use crate::progress::Bar;
use crate::refine::{Refinement, refine};
use crate::report::{self, Elsewhere, Format, Header, Line, Report, Summary};
use crate::run::{self, Settings, UnitReport, first_command};
use crate::runs::{self, Past};
use crate::schedule::{Progress, Width, schedule};
use crate::select::select;
use crate::workspace::{Workspace, link_latest, run_name};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// The word for "the best hypervisor for each unit", which is the default.
const AUTO: &str = "auto";

/// Runs what `options` asks for; returns the exit code.
pub fn run(place: &Place, options: &RunOptions) -> Result<u8> {
    let workspace = Workspace::find(place)?;
    if options.build {
        super::build::build_used(&workspace, &options.select.request()?.1)?;
    }
    let (request, archs) = options.select.request()?;
    let catalog = catalog::load(&workspace.manifest, &workspace.payloads, &archs)?;
    let selected = select(&catalog, &request)?;
    if options.list {
        let mut out = BufWriter::new(io::stdout().lock());
        let done = match options.cases {
            true => list::cases(&mut out, &selected, false),
            false => list::units(&mut out, &selected, false),
        };
        return super::written(done.and_then(|()| out.flush()).map(|()| 0));
    }
    let failed = match &options.rerun_failed {
        Some(run) => Some(runs::past(&workspace.runs(), run)?),
        None => None,
    };
    let mut hypervisors = hypervisors(&workspace, options, failed.as_ref())?;
    let auto = hypervisors.is_empty();
    let images = workspace.cache().join("images");
    let plan = match auto {
        true => {
            let auto = Auto::new(&workspace.cache());
            hypervisors = auto.all();
            plan_auto(&selected, &auto, &images)?
        }
        false => plan(&selected, &hypervisors, &images)?,
    };
    let mut expression = request.expression;
    if let Some(expression) = &mut expression {
        expression.load(&workspace.runs())?;
    }
    let by = Refinement {
        expression: expression.as_ref(),
        failed: failed.as_ref(),
        shard: options.shard,
        seed: options.shuffle,
    };
    let plan = refine(plan, &by)?;
    if options.dry_run {
        return dry_run(&plan, &workspace);
    }
    if options.gdb {
        return super::debug::debug(&plan, &workspace);
    }
    tell_unavailable(&plan)?;
    let expectations = expectations(&workspace, options, &hypervisors)?;
    Run {
        plan,
        expectations,
        ids: catalog.ids().collect(),
        options,
        workspace: &workspace,
        auto,
    }
    .execute()
}

fn asked_all(options: &RunOptions) -> bool {
    options
        .hypervisors
        .iter()
        .flat_map(|n| n.split(','))
        .any(|n| n == "all")
}

/// The hypervisors that the user named; none when each unit is to get its own choice.
fn hypervisors(
    workspace: &Workspace,
    options: &RunOptions,
    failed: Option<&Past>,
) -> Result<Vec<Arc<dyn Hypervisor>>> {
    if let Some(dir) = &options.replay {
        let program = std::env::current_exe()
            .map_err(|e| Error::usage(format!("cannot find this program: {e}")))?;
        return Ok(vec![Arc::new(Replay::new(dir, &program))]);
    }
    let described = crate::manifest::hypervisors(&workspace.manifest)?;
    let described: Vec<Arc<dyn Hypervisor>> = described
        .into_iter()
        .map(|h| Arc::new(h) as Arc<dyn Hypervisor>)
        .collect();
    let known: Vec<&str> = hypervisor::NAMES
        .iter()
        .copied()
        .chain(described.iter().map(|h| h.name()))
        .collect();
    let mut names: Vec<&str> = Vec::new();
    let asked = options.hypervisors.iter().flat_map(|n| n.split(','));
    for name in asked.filter(|n| !n.is_empty()) {
        let add = if name == "all" {
            &known[..]
        } else {
            &[name][..]
        };
        add.iter().for_each(|n| {
            if !names.contains(n) {
                names.push(n)
            }
        });
    }
    // What failed is run again where it failed.
    if let Some(failed) = failed.filter(|_| names.is_empty()) {
        names = failed.failed_hypervisors();
    }
    if names.is_empty() || names == [AUTO] {
        return Ok(Vec::new());
    }
    let all = asked_all(options);
    let mut found = Vec::new();
    for name in names {
        let own = described.iter().find(|h| h.name() == name);
        let hypervisor = match own {
            Some(own) => Arc::clone(own),
            None => hypervisor::find(name, &workspace.cache())?,
        };
        // `all` means: all that can be used here.
        let usable = || Arch::ALL.iter().any(|a| hypervisor.probe(*a).is_ok());
        if !all || usable() {
            found.push(hypervisor);
        }
    }
    if found.is_empty() {
        return Err(Error::nothing(
            "no hypervisor can be used here; see `assay hypervisors`",
        ));
    }
    Ok(found)
}

fn expectations(
    workspace: &Workspace,
    options: &RunOptions,
    hypervisors: &[Arc<dyn Hypervisor>],
) -> Result<BTreeMap<&'static str, Known>> {
    let load = |hypervisor: &Arc<dyn Hypervisor>| {
        let name = hypervisor.name();
        let usual = || {
            let file = format!("{}.yaml", hypervisor.expectations());
            workspace.root.join("expectations").join(file)
        };
        let path = options.expectations.clone().unwrap_or_else(usual);
        if options.expectations.is_some() && !path.exists() {
            return Err(Error::file("read", &path, "no such file"));
        }
        let known = Expectations::load(&path)?;
        Ok((name, Known { path, known }))
    };
    hypervisors.iter().map(load).collect()
}

fn dry_run(plan: &Plan, workspace: &Workspace) -> Result<u8> {
    let mut out = io::stdout().lock();
    let scratch = workspace.runs().join("latest/scratch");
    for job in &plan.jobs {
        let title = plan.title(job, &job.unit.unit.id());
        let cases = job.unit.numbers.len();
        let line = first_command(job, &scratch);
        let written = writeln!(out, "# {title}: {cases} cases\n{line}").map(|()| 0);
        super::written(written)?;
    }
    Ok(exit::OK)
}

/// Says once what cannot be used. When that is everything, nothing can run.
fn tell_unavailable(plan: &Plan) -> Result<()> {
    let mut why: Vec<&str> = Vec::new();
    for job in &plan.jobs {
        if let Err(unavailable) = &job.offer
            && !why.contains(&unavailable.0.as_str())
        {
            why.push(&unavailable.0);
        }
    }
    if plan.jobs.iter().all(|job| job.offer.is_err()) {
        return Err(Error::nothing(format!(
            "nothing can run: {}",
            why.join("; ")
        )));
    }
    why.iter().for_each(|why| eprintln!("assay: {why}"));
    Ok(())
}

/// Which hypervisors that can be used here meet what cases of `plan` were skipped for: counts by
/// job and need.
fn elsewhere(
    plan: &Plan,
    skipped: &BTreeMap<(usize, String), usize>,
    workspace: &Workspace,
) -> Result<Vec<Elsewhere>> {
    if skipped.is_empty() {
        return Ok(Vec::new());
    }
    let built_in = hypervisor::NAMES
        .iter()
        .map(|name| hypervisor::find(name, &workspace.cache()));
    let mut known = built_in.collect::<Result<Vec<_>>>()?;
    for described in crate::manifest::hypervisors(&workspace.manifest)? {
        known.push(Arc::new(described));
    }
    // A probe may start a program, so it is asked last and once.
    let mut usable: BTreeMap<(&str, Arch), bool> = BTreeMap::new();
    let mut found: BTreeMap<(&str, Vec<&'static str>), usize> = BTreeMap::new();
    for ((index, need), cases) in skipped {
        let job = &plan.jobs[*index];
        let unit = &job.unit.unit;
        let machine = job.hypervisor.supports(unit).is_err();
        let mut names = Vec::new();
        for other in &known {
            let name = other.name();
            let could = name != job.hypervisor.name()
                && other.archs().contains(&unit.arch)
                && other.supports(unit).is_ok()
                && (machine || other.meets(unit, need));
            let probe = || other.probe(unit.arch).is_ok();
            if could && *usable.entry((name, unit.arch)).or_insert_with(probe) {
                names.push(name);
            }
        }
        if !names.is_empty() {
            *found.entry((need, names)).or_default() += cases;
        }
    }
    let told = found.into_iter().map(|((need, hypervisors), cases)| {
        let need = need.to_owned();
        Elsewhere {
            need,
            cases,
            hypervisors,
        }
    });
    Ok(told.collect())
}

/// `ASSAY_TIMEOUT_SCALE`.
pub(super) fn scale() -> Result<f64> {
    let Some(text) = std::env::var_os("ASSAY_TIMEOUT_SCALE") else {
        return Ok(1.0);
    };
    let scale = text.to_str().and_then(|t| t.trim().parse::<f64>().ok());
    scale.filter(|s| s.is_finite() && *s > 0.0).ok_or_else(|| {
        Error::usage(format!(
            "ASSAY_TIMEOUT_SCALE={} is no positive number",
            text.to_string_lossy()
        ))
    })
}

/// A file of expectations.
struct Known {
    path: PathBuf,
    known: Expectations,
}

/// What a run found on one hypervisor, to hold against its expectations.
#[derive(Default)]
struct Found {
    version: String,
    results: Vec<(String, Outcome)>,
    deviations: Vec<Deviation>,
}

struct Run<'a> {
    plan: Plan,
    expectations: BTreeMap<&'static str, Known>,
    /// Every id there is, run or not.
    ids: Vec<String>,
    options: &'a RunOptions,
    workspace: &'a Workspace,
    /// Whether each unit got its own hypervisor.
    auto: bool,
}

impl Run<'_> {
    fn execute(&self) -> Result<u8> {
        let begun = Instant::now();
        let interrupt = Interrupt::listen()
            .map_err(|e| Error::usage(format!("cannot listen to signals: {e}")))?;
        let settings = Settings {
            timeout_s: self.options.timeout,
            scale: scale()?,
            interrupt: interrupt.clone(),
        };
        let name = run_name();
        let (dir, stable) = self.directory(&name)?;
        let mut reports = self.reports(&dir)?;
        let header = Header {
            plan: &self.plan,
            run: &name,
        };
        let mut failed: Option<io::Error> = None;
        let mut each =
            |reports: &mut Vec<Box<dyn Report>>,
             call: &mut dyn FnMut(&mut dyn Report) -> io::Result<()>| {
                for report in reports.iter_mut() {
                    if let Err(e) = call(report.as_mut()) {
                        // Nobody reads any more: the run has no purpose.
                        interrupt.stop();
                        failed.get_or_insert(e);
                    }
                }
            };
        each(&mut reports, &mut |r| r.started(&header));
        let bar = Bar::new(self.plan.cases);
        let watch = |progress: Progress<'_>| {
            let Progress::Case { job, id } = progress;
            bar.case(job, id);
        };
        let mut summary = Summary {
            dir: stable.clone(),
            ..Summary::default()
        };
        let mut found: BTreeMap<&'static str, Found> = BTreeMap::new();
        let mut skipped: BTreeMap<(usize, String), usize> = BTreeMap::new();
        let width = match self.options.jobs {
            Some(n) => Width::Machines(n.into()),
            None => Width::Cpus(std::thread::available_parallelism().map_or(1, usize::from)),
        };
        let again = Again {
            repeat: self.options.repeat.unwrap_or(1),
            retries: self.options.retries.unwrap_or(0),
        };
        let one = |job: &Job, watch: &dyn Fn(&str)| {
            again::run(
                job,
                again,
                &|| interrupt.is_set(),
                &|id, result| self.judge(job, id, result).1,
                &|job| run::run(job, &dir, &settings, watch),
            )
        };
        schedule(&self.plan, width, &one, &watch, |index, report| {
            let job = &self.plan.jobs[index];
            bar.done(index, report.results.len());
            if self.auto {
                let ran = report.results.iter().filter(|r| report::has_run(r)).count();
                *summary.chosen.entry(job.hypervisor.name()).or_default() += ran;
                for need in report.results.iter().filter_map(|r| r.need.as_ref()) {
                    *skipped.entry((index, need.clone())).or_default() += 1;
                }
            }
            bar.suspend(|| {
                let found = found.entry(job.hypervisor.name()).or_default();
                self.release(job, &report, &stable, &mut summary, found, &mut |line| {
                    each(&mut reports, &mut |r| r.case(line));
                });
            });
            if self.options.fail_fast && summary.bad > 0 {
                interrupt.stop();
            }
        });
        bar.finish();
        summary.interrupted = interrupt.signalled();
        summary.stopped = interrupt.is_set() && !summary.interrupted;
        summary.chosen.retain(|_, cases| *cases > 0);
        if !interrupt.is_set() {
            summary.elsewhere = elsewhere(&self.plan, &skipped, self.workspace)?;
        }
        summary.duration = begun.elapsed();
        each(&mut reports, &mut |r| r.finished(&summary));
        if !interrupt.is_set() {
            self.review(&found)?;
        }
        match failed {
            Some(e) if e.kind() != io::ErrorKind::BrokenPipe => {
                Err(Error::usage(format!("cannot write a report: {e}")))
            }
            _ => Ok(summary.code()),
        }
    }

    /// Names the entries that explain nothing any more; rewrites the files when asked to.
    fn review(&self, found: &BTreeMap<&'static str, Found>) -> Result<()> {
        for (name, found) in found {
            let Some(Known { path, known }) = self.expectations.get(name) else {
                continue;
            };
            // Only an entry whose cases have all been run can be called stale.
            let complete = |entry: &&usize| {
                let entry = &known.entries[**entry];
                let there = self.ids.iter().filter(|id| entry.covers_id(id)).count();
                let ran = found
                    .results
                    .iter()
                    .filter(|(id, _)| entry.covers_id(id))
                    .count();
                ran == there
            };
            let stale = known.stale(&found.version, &found.results);
            let stale: Vec<usize> = stale.iter().filter(complete).copied().collect();
            for &entry in &stale {
                let id = &known.entries[entry].id;
                let file = path.display();
                eprintln!(
                    "assay: {file}: entry {} ('{id}') is stale: no case deviates",
                    entry + 1
                );
            }
            if !self.options.update_expectations
                || (stale.is_empty() && found.deviations.is_empty())
            {
                continue;
            }
            let old = match std::fs::read_to_string(path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
                read => read.map_err(|e| Error::file("read", path, e))?,
            };
            let new = update(&old, &stale, &found.deviations, &found.version);
            // What was written must be readable before it replaces anything.
            Expectations::parse(&path.display().to_string(), &new)?;
            std::fs::write(path, new).map_err(|e| Error::file("write", path, e))?;
            eprintln!(
                "assay: {}: {} entries dropped, {} added",
                path.display(),
                stale.len(),
                found.deviations.len()
            );
        }
        Ok(())
    }

    /// The run directory, and a name for it that is the same in every run.
    fn directory(&self, name: &str) -> Result<(PathBuf, String)> {
        let make = |dir: &Path| {
            std::fs::create_dir_all(dir).map_err(|e| Error::file("create folder", dir, e))
        };
        if let Some(dir) = &self.options.output_dir {
            make(dir)?;
            return Ok((dir.clone(), dir.display().to_string()));
        }
        let dir = self.workspace.runs().join(name);
        make(&dir)?;
        link_latest(&dir).map_err(|e| Error::file("link latest to", &dir, e))?;
        Ok((dir, "target/assay/latest".into()))
    }

    fn reports(&self, dir: &Path) -> Result<Vec<Box<dyn Report>>> {
        let terminal = io::stdout().is_terminal();
        let format = match self.options.format {
            Some(format) => format,
            None if self.options.tap || !terminal => Format::Tap,
            None => Format::Pretty,
        };
        let color = std::env::var_os("CLICOLOR_FORCE").is_some_and(|v| v != "0")
            || (terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()));
        let mut reports = vec![report::open(
            format,
            io::stdout(),
            color,
            self.options.verbose,
        )];
        for (format, file) in [
            (Format::Tap, "results.tap"),
            (Format::Junit, "junit.xml"),
            (Format::Json, "results.json"),
        ] {
            let path = dir.join(file);
            let out = File::create(&path).map_err(|e| Error::file("write", &path, e))?;
            reports.push(report::open(format, BufWriter::new(out), false, false));
        }
        for report::Target { format, path } in &self.options.outputs {
            let out = File::create(path).map_err(|e| Error::file("write", path, e))?;
            reports.push(report::open(
                *format,
                BufWriter::new(out),
                false,
                self.options.verbose,
            ));
        }
        Ok(reports)
    }

    /// What the expectations say of a result, and whether it makes the run fail.
    fn judge(&self, job: &Job, id: &str, result: &CaseResult) -> (Verdict, bool) {
        let version = job.offer.as_ref().map_or("", |o| o.version.as_str());
        let empty = Expectations::default();
        let known = self
            .expectations
            .get(job.hypervisor.name())
            .map_or(&empty, |k| &k.known);
        let verdict = known.judge(id, version, result);
        let bad = match verdict {
            Verdict::Unexpected => true,
            Verdict::Fixed(_) | Verdict::Flaky(_) => self.options.strict,
            Verdict::Expected | Verdict::Known(_) => false,
        };
        (verdict, bad)
    }

    /// Judges a unit's results, counts them and hands each to `each`.
    fn release(
        &self,
        job: &Job,
        report: &UnitReport,
        dir: &str,
        summary: &mut Summary,
        found: &mut Found,
        each: &mut dyn FnMut(&Line<'_>),
    ) {
        let name = job.hypervisor.name();
        if let Ok(offer) = &job.offer {
            found.version.clone_from(&offer.version);
        }
        let log = format!("{dir}/{}", job.log);
        for ((i, number), result) in job.unit.numbers.iter().enumerate().zip(&report.results) {
            let id = job.unit.id(*number);
            let (verdict, bad) = self.judge(job, &id, result);
            summary.count(result, &verdict, bad);
            found.results.push((id.clone(), result.outcome));
            // What the runner or its user did is no deviation of the hypervisor.
            let ours = [
                Kind::Unavailable,
                Kind::Spawn,
                Kind::Interrupted,
                Kind::NotRun,
            ];
            if verdict == Verdict::Unexpected && !result.kind.is_some_and(|k| ours.contains(&k)) {
                found.deviations.push(Deviation {
                    id: id.clone(),
                    outcome: result.outcome,
                    message: result.diagnostic.message.clone().unwrap_or_default(),
                });
            }
            each(&Line {
                number: job.first + i,
                place: job.places[i],
                title: &self.plan.title(job, &id),
                id: &id,
                unit: &job.unit,
                case: job.unit.case(*number),
                hypervisor: name,
                result,
                verdict: &verdict,
                bad,
                log: &log,
                command: &report.command,
            });
        }
    }
}
