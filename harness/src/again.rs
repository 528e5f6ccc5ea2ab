//! Running a unit's cases more than once: `--repeat` and `--retries`.
//!
//! A case has one line whatever happens, so attempts are folded into one result. `--repeat` looks
//! for a failure: one bad attempt makes the case bad. `--retries` looks for a pass: a case that was
//! bad and passes on a later attempt is *flaky*, which is a word of its own and never a plain pass.
//! Both keep what every attempt came to.

use crate::outcome::{Attempt, CaseResult, Outcome};
use crate::plan::Job;
use crate::run::UnitReport;
use std::time::Duration;

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again {
    /// `--repeat`: attempts of every case, at least 1.
    pub repeat: u32,
    /// `--retries`: further attempts of a bad case.
    pub retries: u32,
}

impl Default for Again {
    fn default() -> Self {
        Again {
            repeat: 1,
            retries: 0,
        }
    }
}

/// Runs `job` as often as `again` says. `run` runs a job once; `bad` judges the result of a case.
pub fn run(
    job: &Job,
    again: Again,
    ended: &dyn Fn() -> bool,
    bad: &dyn Fn(&str, &CaseResult) -> bool,
    run: &dyn Fn(&Job) -> UnitReport,
) -> UnitReport {
    let mut report = run(job);
    if job.offer.is_err() {
        return report;
    }
    for attempt in 2..=again.repeat {
        if ended() {
            break;
        }
        let next = run(&part(job, &job.unit.numbers, attempt, report.launches));
        report.launches += next.launches;
        report.duration += next.duration;
        for ((slot, result), number) in report
            .results
            .iter_mut()
            .zip(next.results)
            .zip(&job.unit.numbers)
        {
            let id = job.unit.id(*number);
            let keep_first = bad(&id, slot) || !bad(&id, &result);
            fold(slot, result, keep_first);
        }
    }
    for attempt in 1..=again.retries {
        let is_bad = |(number, result): (&usize, &CaseResult)| bad(&job.unit.id(*number), result);
        let failed: Vec<usize> = job
            .unit
            .numbers
            .iter()
            .zip(&report.results)
            .enumerate()
            .filter(|(_, pair)| is_bad(*pair))
            .map(|(i, _)| i)
            .collect();
        if failed.is_empty() || ended() {
            break;
        }
        let numbers: Vec<usize> = failed.iter().map(|i| job.unit.numbers[*i]).collect();
        let next = run(&part(
            job,
            &numbers,
            again.repeat + attempt,
            report.launches,
        ));
        report.launches += next.launches;
        report.duration += next.duration;
        for (i, result) in failed.into_iter().zip(next.results) {
            // A case that had no turn because the run ended says nothing new.
            if !ended() {
                let id = job.unit.id(job.unit.numbers[i]);
                let keep_first = bad(&id, &result);
                fold(&mut report.results[i], result, keep_first);
            }
        }
    }
    for result in &mut report.results {
        if !result.attempts.is_empty() && result.outcome != Outcome::Pass {
            let note = format!("runner: {}", summary(result));
            result.diagnostic.notes.push(note);
        }
    }
    report
}

/// `job` with some of its cases, and a log of its own.
fn part(job: &Job, numbers: &[usize], attempt: u32, launched: u32) -> Job {
    let mut part = job.clone();
    part.unit.numbers = numbers.to_vec();
    part.launched = launched;
    part.log = format!("{}.attempt{attempt}.log", job.log.trim_end_matches(".log"));
    part
}

/// Puts another attempt to a result: the one that is kept speaks for the case, both are listed.
fn fold(slot: &mut CaseResult, mut next: CaseResult, keep_first: bool) {
    let mut attempts = std::mem::take(&mut slot.attempts);
    if attempts.is_empty() {
        attempts.push(attempt(slot));
    }
    attempts.push(attempt(&next));
    if !keep_first {
        std::mem::swap(slot, &mut next);
    }
    slot.attempts = attempts;
}

fn attempt(result: &CaseResult) -> Attempt {
    Attempt {
        outcome: result.outcome,
        message: result.diagnostic.message.clone(),
        duration_ms: (result.duration.as_secs_f64() * 1e6).round() / 1e3,
    }
}

/// Whether attempts differ: some passed, and some did not.
pub fn is_flaky(result: &CaseResult) -> bool {
    let passed = |a: &Attempt| a.outcome == Outcome::Pass;
    result.attempts.iter().any(passed)
        && result
            .attempts
            .iter()
            .any(|a| !passed(a) && a.outcome != Outcome::Skip)
}

/// `1 of 3 attempts passed: fail, fail, pass`, with long lists counted.
pub fn summary(result: &CaseResult) -> String {
    let all = &result.attempts;
    let passed = all.iter().filter(|a| a.outcome == Outcome::Pass).count();
    let words: Vec<&str> = all.iter().take(10).map(|a| a.outcome.word()).collect();
    let more = if all.len() > 10 { ", ..." } else { "" };
    format!(
        "{passed} of {} attempts passed: {}{more}",
        all.len(),
        words.join(", ")
    )
}

/// The time of all attempts.
pub fn total(result: &CaseResult) -> Duration {
    match result.attempts.is_empty() {
        true => result.duration,
        false => {
            let ms: f64 = result.attempts.iter().map(|a| a.duration_ms).sum();
            Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Kind;

    #[test]
    fn the_attempt_that_is_kept_speaks_and_all_are_listed() {
        let mut slot = CaseResult::caused(Outcome::Fail, Kind::Assertion, "no");
        fold(
            &mut slot,
            CaseResult::caused(Outcome::Crash, Kind::Reset, "gone"),
            true,
        );
        assert_eq!(slot.outcome, Outcome::Fail);
        assert!(!is_flaky(&slot));
        fold(&mut slot, CaseResult::plain(Outcome::Pass), false);
        assert_eq!(slot.outcome, Outcome::Pass);
        assert!(is_flaky(&slot));
        assert_eq!(summary(&slot), "1 of 3 attempts passed: fail, crash, pass");
        assert_eq!(slot.attempts[1].message.as_deref(), Some("gone"));
    }

    #[test]
    fn skips_and_passes_are_not_flaky() {
        let mut slot = CaseResult::skip("cpus>=2");
        fold(&mut slot, CaseResult::plain(Outcome::Pass), false);
        assert!(!is_flaky(&slot));
        assert!(!is_flaky(&CaseResult::plain(Outcome::Fail)));
    }
}
