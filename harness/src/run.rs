//! Runs one unit: launches its payload until every case has its result.

use crate::hypervisor::Launch;
use crate::interrupt::Interrupt;
use crate::ledger::{End, Entry, Ledger};
use crate::outcome::{CaseResult, Kind, Outcome};
use crate::payload::Ends;
use crate::plan::Job;
use crate::process::{CommandLine, Log, Machine, Output, ended};
use crate::symbols;
use crate::transcript::{Event, Transcript};
use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

/// Most bytes of console that the log of a unit keeps.
const LOG_LIMIT: usize = 16 << 20;
/// How long a machine may take to end after it has nothing more to say.
const GRACE: Duration = Duration::from_secs(2);
/// How often the run looks whether it is to end.
const TICK: Duration = Duration::from_millis(50);

/// What holds for all units of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `--timeout`: seconds per case, instead of the unit's.
    pub timeout_s: Option<u32>,
    /// `ASSAY_TIMEOUT_SCALE`.
    pub scale: f64,
    /// Whether to end.
    pub interrupt: Interrupt,
}

/// What a unit came to.
#[derive(Clone, Debug)]
pub struct UnitReport {
    /// One result per case of the job, in its order.
    pub results: Vec<CaseResult>,
    /// The command of the first launch, for a shell.
    pub command: String,
    /// How often the machine was started.
    pub launches: u32,
    /// How long it all took.
    pub duration: Duration,
}

/// The command of the first launch of `job`, as `--dry-run` prints it.
pub fn first_command(job: &Job, scratch: &Path) -> String {
    let batch = batches(job).pop_front().unwrap_or_default();
    with_launch(job, &batch, 1, scratch, |l| job.hypervisor.command(l)).shell()
}

/// The first launch of `job` with a gdb stub on `port`; none where its hypervisor has no stub.
pub fn debug_command(job: &Job, scratch: &Path, port: u16) -> Option<CommandLine> {
    let batch = batches(job).pop_front().unwrap_or_default();
    let mut command = with_launch(job, &batch, 1, scratch, |l| job.hypervisor.command(l));
    job.hypervisor.debug(&mut command, port).then_some(command)
}

/// Cases that run in one launch, as indices into the job: those that return run together, one
/// that ends the machine runs alone.
fn batches(job: &Job) -> VecDeque<Vec<usize>> {
    let ends = |i: &usize| job.unit.case(job.unit.numbers[*i]).ends;
    let (together, alone): (Vec<usize>, Vec<usize>) =
        (0..job.unit.numbers.len()).partition(|i| ends(i) == Ends::Returns);
    let first = (!together.is_empty()).then_some(together);
    first
        .into_iter()
        .chain(alone.into_iter().map(|i| vec![i]))
        .collect()
}

/// Numbers as `0-11,13`.
fn selection(numbers: impl Iterator<Item = usize>) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for n in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == n => *last = n,
            _ => ranges.push((n, n)),
        }
    }
    let word = |(a, b): &(usize, usize)| {
        if a == b {
            format!("{a}")
        } else {
            format!("{a}-{b}")
        }
    };
    ranges.iter().map(word).collect::<Vec<_>>().join(",")
}

fn guest_args(job: &Job, batch: &[usize]) -> String {
    use assay_protocol::cmdline::{CASES, SERVICES, UNIT};
    let unit = &job.unit.unit;
    let cases = selection(batch.iter().map(|i| job.unit.numbers[*i]));
    let mut line = format!("{UNIT}={} {CASES}={cases}", unit.name);
    let services = job.hypervisor.services(unit);
    if !services.is_empty() {
        line += &format!(" {SERVICES}={}", services.join(","));
    }
    if !unit.args.is_empty() {
        line += &format!(" {}", unit.args);
    }
    line
}

/// Calls `then` with the launch that runs `batch`.
fn with_launch<T>(
    job: &Job,
    batch: &[usize],
    number: u32,
    scratch: &Path,
    then: impl FnOnce(&Launch<'_>) -> T,
) -> T {
    let args = guest_args(job, batch);
    let case = |i: &usize| job.unit.case(job.unit.numbers[*i]);
    then(&Launch {
        unit: &job.unit.unit,
        image: &job.image,
        guest_args: &args,
        number,
        may_reset: batch.iter().any(|i| case(i).ends != Ends::Returns),
        scratch,
    })
}

/// Runs `job`; its console log goes to `dir`. `watch` hears the id of each case that starts.
pub fn run(job: &Job, dir: &Path, settings: &Settings, watch: &dyn Fn(&str)) -> UnitReport {
    let begun = Instant::now();
    let count = job.unit.numbers.len();
    let all = |result: CaseResult| UnitReport {
        results: vec![result; count],
        command: String::new(),
        launches: 0,
        duration: begun.elapsed(),
    };
    if let Err(why) = &job.offer {
        return all(CaseResult::caused(
            Outcome::Error,
            Kind::Unavailable,
            &why.0,
        ));
    }
    if let Err(unmet) = job.hypervisor.supports(&job.unit.unit) {
        return all(CaseResult::skip(unmet.0));
    }
    let path = dir.join(&job.log);
    let mut log = match Log::create(&path, LOG_LIMIT) {
        Ok(log) => log,
        Err(e) => {
            let why = format!("cannot write {}: {e}", path.display());
            return all(CaseResult::caused(Outcome::Error, Kind::Spawn, why));
        }
    };
    let scratch = dir.join(format!("{}.scratch", job.log.trim_end_matches(".log")));
    let ids = job.ids();
    let unit_deadline = begun + scaled(job.unit.unit.unit_timeout_s, settings.scale);
    let mut results: Vec<Option<CaseResult>> = vec![None; count];
    let mut queue = batches(job);
    let (mut number, mut command) = (job.launched, String::new());
    while let Some(batch) = queue.pop_front() {
        if settings.interrupt.is_set() {
            break;
        }
        number += 1;
        let entries = batch.iter().map(|&i| {
            let case = job.unit.case(job.unit.numbers[i]);
            let limit = settings
                .timeout_s
                .or(case.timeout_s)
                .unwrap_or(job.unit.unit.timeout_s);
            Entry {
                id: ids[i].clone(),
                ends: case.ends,
                limit: scaled(limit, settings.scale),
            }
        });
        let ledger = Ledger::new(
            entries.collect(),
            job.hypervisor.exits_on_reset(),
            Instant::now(),
        );
        let mut one = OneLaunch {
            job,
            log: &mut log,
            settings,
            watch,
            unit_deadline,
        };
        let (line, settled) = with_launch(job, &batch, number, &scratch, |l| one.run(l, ledger));
        if number == job.launched + 1 {
            command = line;
        }
        let mut left = Vec::new();
        for (&i, result) in batch.iter().zip(settled) {
            match result {
                Some(result) => results[i] = Some(result),
                None => left.push(i),
            }
        }
        if !left.is_empty() {
            queue.push_front(left);
        }
    }
    let _ = std::fs::remove_dir_all(&scratch);
    let mut results: Vec<CaseResult> = results
        .into_iter()
        .map(|r| r.unwrap_or_else(|| not_run(settings)))
        .collect();
    symbols::name(&mut results, &job.unit.payload.path);
    UnitReport {
        results,
        command,
        launches: number - job.launched,
        duration: begun.elapsed(),
    }
}

/// The result of a case that had no turn because the run ended.
pub fn not_run(settings: &Settings) -> CaseResult {
    let (kind, text) = match settings.interrupt.signalled() {
        true => (
            Kind::Interrupted,
            "the run was interrupted before this case had a result",
        ),
        false => (Kind::NotRun, "the run ended before this case had its turn"),
    };
    CaseResult::caused(Outcome::Error, kind, text)
}

fn scaled(seconds: u32, scale: f64) -> Duration {
    Duration::try_from_secs_f64(f64::from(seconds) * scale).unwrap_or(Duration::from_secs(86_400))
}

/// What one launch needs of its unit.
struct OneLaunch<'a> {
    job: &'a Job,
    log: &'a mut Log,
    settings: &'a Settings,
    watch: &'a dyn Fn(&str),
    unit_deadline: Instant,
}

impl OneLaunch<'_> {
    /// Runs the machine to its end; returns its command and what the ledger says.
    fn run(&mut self, launch: &Launch<'_>, ledger: Ledger) -> (String, Vec<Option<CaseResult>>) {
        let command = self.job.hypervisor.command(launch);
        let line = command.shell();
        match launch.number - self.job.launched {
            1 => self.log.note(&line),
            n => self.log.note(&format!("\n# assay: launch {n}: {line}")),
        }
        let mut machine = match Machine::start(&command) {
            Ok(machine) => machine,
            Err(e) => {
                let why = format!("cannot start {}: {e}", command.program.to_string_lossy());
                let result = CaseResult::caused(Outcome::Error, Kind::Spawn, why);
                return (line, ledger.fail_all(&result));
            }
        };
        (line, self.follow(&mut machine, ledger))
    }

    /// Reads the console until the machine ends or has to be ended.
    fn follow(&mut self, machine: &mut Machine, mut ledger: Ledger) -> Vec<Option<CaseResult>> {
        let mut transcript = Transcript::default();
        let mut events = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        let mut over_since: Option<Instant> = None;
        let end = loop {
            let now = Instant::now();
            if self.settings.interrupt.is_set() {
                break Some(End::Interrupted);
            }
            let deadline = match over_since {
                Some(since) => since + GRACE,
                None => ledger.deadline().min(self.unit_deadline),
            };
            if ledger.rebooted() {
                break Some(End::Stopped);
            }
            if now >= deadline {
                break Some(match over_since {
                    Some(_) => End::Stopped,
                    None if now >= self.unit_deadline => End::UnitLimit,
                    None => End::CaseLimit,
                });
            }
            let read = machine.read(&mut buffer, (deadline - now).min(TICK));
            match read {
                Ok(Output::Nothing) => {
                    let said = machine.said();
                    let halted = self.job.hypervisor.halted(&said);
                    match halted.filter(|_| over_since.is_none()) {
                        Some(words) => break Some(End::Halted(words)),
                        None => continue,
                    }
                }
                Ok(Output::Bytes(n)) => {
                    self.log.write(&buffer[..n]);
                    transcript.feed(&buffer[..n], &mut events);
                }
                Ok(Output::Closed) | Err(_) => break None,
            }
            let now = Instant::now();
            for event in events.drain(..) {
                if let Event::Start { id } = &event {
                    (self.watch)(id);
                }
                ledger.enter(event, now);
            }
            if ledger.over() && over_since.is_none() {
                over_since = Some(now);
            }
        };
        let now = Instant::now();
        transcript.finish(&mut events);
        events.drain(..).for_each(|event| ledger.enter(event, now));
        let end = end.unwrap_or_else(|| match machine.wait(GRACE) {
            Ok(Some(status)) => match ended(status) {
                Ok(code) => End::Exited(code),
                Err(signal) => End::Signalled(signal),
            },
            // The console is closed, but the process lives on.
            _ if ledger.over() => End::Stopped,
            _ => End::CaseLimit,
        });
        machine.kill();
        let stderr = machine.stderr();
        for text in &stderr {
            self.log.note(&format!("# assay: stderr: {text}"));
        }
        ledger.close(&end, &stderr, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_are_ranges() {
        assert_eq!(selection([0, 1, 2, 5, 7, 8].into_iter()), "0-2,5,7-8");
        assert_eq!(selection(std::iter::empty()), "");
    }
}
