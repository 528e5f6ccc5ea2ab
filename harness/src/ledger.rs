//! Who is to blame: turns the events of one launch into the results of its cases.
//!
//! The rules, in short: a result counts only for the case that is running; a machine that dies,
//! hangs or panics is the running case's doing, or that of the case that ran last when it dies
//! between two; a launch settles at least one case, so relaunching always comes to an end.

use crate::outcome::{CaseResult, Kind, Outcome};
use crate::transcript::Event;
use assay_protocol::table::Ends;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Console lines kept for a crash or a timeout.
const LAST_LINES: usize = 12;
/// Lines kept of what follows a panic or exception.
const MAX_DETAILS: usize = 64;

/// A case of a launch.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its id.
    pub id: String,
    /// How the machine ends when it passes.
    pub ends: Ends,
    /// How long it may take.
    pub limit: Duration,
}

/// How a launch ended, as the process tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The process ended by itself with this exit status.
    Exited(i32),
    /// A signal killed it.
    Signalled(i32),
    /// The hypervisor said this on standard error and stopped the machine without ending.
    Halted(String),
    /// Our own doing, after the running case exceeded its limit.
    CaseLimit,
    /// Our own doing, after the unit exceeded its limit.
    UnitLimit,
    /// Our own doing, after [`Ledger::over`] said that there is nothing more to learn.
    Stopped,
    /// Our own doing: the run is interrupted.
    Interrupted,
}

/// What the launch as a whole came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before the version line.
    Booting,
    /// The payload runs.
    Running,
    /// `# panic:` or `# exception:` was seen; details follow.
    Dying,
    /// `# restart:` was seen.
    Restarting,
    /// `# usage:` was seen.
    Refused,
    /// `# done` was seen; what follows does not count.
    Done,
    /// The machine came up a second time.
    Rebooted,
}

/// The book of one launch.
pub struct Ledger {
    entries: Vec<Entry>,
    index: HashMap<String, usize>,
    results: Vec<Option<CaseResult>>,
    phase: Phase,
    running: Option<usize>,
    last: Option<usize>,
    expect: Option<Ends>,
    /// The case in its second life, after the reset that it announced.
    again: Option<usize>,
    since: Instant,
    lines: std::collections::VecDeque<String>,
    whole: Option<CaseResult>,
    /// Whether the adaptor's machine ends, instead of coming up again, when it resets.
    exits_on_reset: bool,
}

impl Ledger {
    /// Opens the book for `entries`.
    pub fn new(entries: Vec<Entry>, exits_on_reset: bool, now: Instant) -> Self {
        let index = entries
            .iter()
            .enumerate()
            .map(|(i, e)| (e.id.clone(), i))
            .collect();
        Ledger {
            results: vec![None; entries.len()],
            entries,
            index,
            phase: Phase::Booting,
            running: None,
            last: None,
            expect: None,
            again: None,
            since: now,
            lines: std::collections::VecDeque::new(),
            whole: None,
            exits_on_reset,
        }
    }

    /// Closes the book of a launch that never was: every entry gets `result`.
    pub fn fail_all(self, result: &CaseResult) -> Vec<Option<CaseResult>> {
        vec![Some(result.clone()); self.entries.len()]
    }

    /// The id of the case that is running.
    pub fn running(&self) -> Option<&str> {
        self.running.map(|i| self.entries[i].id.as_str())
    }

    /// When the running case, or the boot, exceeds its limit.
    pub fn deadline(&self) -> Instant {
        let limit = self.running.or(self.last).map(|i| self.entries[i].limit);
        self.since
            + limit
                .or_else(|| self.entries.first().map(|e| e.limit))
                .unwrap_or_default()
    }

    /// Whether there is nothing more to learn from the machine: it may end now.
    pub fn over(&self) -> bool {
        !matches!(self.phase, Phase::Booting | Phase::Running)
    }

    /// Whether the machine has to be stopped by us, because it will not end by itself.
    pub fn rebooted(&self) -> bool {
        self.phase == Phase::Rebooted
    }

    /// Enters what the guest said at `now`.
    pub fn enter(&mut self, event: Event, now: Instant) {
        if self.phase == Phase::Done || self.phase == Phase::Rebooted {
            return;
        }
        self.remember(&event);
        match event {
            Event::Version if self.phase == Phase::Booting => {
                self.phase = Phase::Running;
                self.since = now;
            }
            Event::Version => self.second_boot(now),
            _ if self.phase == Phase::Booting => {}
            Event::Comment(text) | Event::Noise(text) => self.detail(text),
            _ if self.phase != Phase::Running => {}
            Event::Plan => self.since = now,
            Event::Start { id } => self.start(&id, now),
            Event::Result {
                id,
                ok,
                skip,
                diagnostic,
            } => {
                let result = match (ok, skip) {
                    (true, Some(need)) => CaseResult::skip(need),
                    (true, None) => CaseResult::plain(Outcome::Pass),
                    (false, _) => CaseResult {
                        kind: Some(Kind::Assertion),
                        ..CaseResult::plain(Outcome::Fail)
                    },
                };
                self.result(
                    &id,
                    CaseResult {
                        diagnostic: *diagnostic,
                        ..result
                    },
                    now,
                );
            }
            Event::Expect(ends) => {
                if self.running.is_some() {
                    self.expect = Some(ends);
                    self.since = now;
                }
            }
            Event::Panic(text) => self.dying(Kind::Panic, text, now),
            Event::Exception(text) => self.dying(Kind::Exception, text, now),
            Event::Restart(_) => self.phase = Phase::Restarting,
            Event::Service(text) => {
                let text = format!("it asked for a service that this host does not offer: {text}");
                self.dying(Kind::Service, text, now);
            }
            Event::Usage(text) => {
                let text = format!("the payload refuses its command line: {text}");
                self.whole = Some(CaseResult::caused(Outcome::Error, Kind::Usage, text));
                self.phase = Phase::Refused;
            }
            Event::Done => self.phase = Phase::Done,
        }
    }

    fn remember(&mut self, event: &Event) {
        let line = match event {
            Event::Comment(text) => format!("# {text}"),
            Event::Noise(text) => text.clone(),
            Event::Panic(text) => format!("# panic: {text}"),
            Event::Exception(text) => format!("# exception: {text}"),
            _ => return,
        };
        if self.lines.len() == LAST_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line.chars().take(200).collect());
    }

    /// A line after a panic or exception belongs to it.
    fn detail(&mut self, text: String) {
        if self.phase != Phase::Dying {
            return;
        }
        let whole = self.whole.as_mut();
        let result = whole.or_else(|| self.last.and_then(|i| self.results[i].as_mut()));
        if let Some(result) = result
            && result.diagnostic.details.len() < MAX_DETAILS
        {
            result.diagnostic.details.push(text);
        }
    }

    fn start(&mut self, id: &str, now: Instant) {
        if let Some(before) = self.running.take() {
            let text = "the payload went on to another case without a result for this one";
            self.settle(
                before,
                CaseResult::caused(Outcome::Error, Kind::NoResult, text),
                now,
            );
        }
        self.since = now;
        self.expect = None;
        match self.index.get(id) {
            Some(&i) if self.results[i].is_none() => self.running = Some(i),
            // A case that nobody asked for, or one that already has its result.
            _ => self.running = None,
        }
    }

    fn result(&mut self, id: &str, mut result: CaseResult, now: Instant) {
        let Some(&i) = self.index.get(id) else { return };
        if self.running == Some(i) {
            let early = self.entries[i].ends != Ends::Returns && self.again != Some(i);
            if result.outcome == Outcome::Pass && early {
                let text = "the payload reported success, but the machine was to end";
                result = CaseResult::caused(Outcome::Error, Kind::WrongEnd, text);
            }
            self.running = None;
            return self.settle(i, result, now);
        }
        let text = match &self.results[i] {
            None => "a result came without a start",
            Some(earlier) if earlier.outcome == result.outcome => return,
            Some(_) => "two results that contradict each other",
        };
        let error = CaseResult::caused(Outcome::Error, Kind::BadTranscript, text);
        // A failure is never lost to a complaint about form.
        match &mut self.results[i] {
            Some(earlier) if earlier.outcome == Outcome::Fail => {
                earlier.diagnostic.notes.push(format!("runner: {text}"));
            }
            _ if result.outcome == Outcome::Fail => {
                result.diagnostic.notes.push(format!("runner: {text}"));
                self.results[i] = Some(result);
            }
            slot => *slot = Some(error),
        }
    }

    fn settle(&mut self, i: usize, mut result: CaseResult, now: Instant) {
        result.duration = now.saturating_duration_since(self.since);
        self.since = now;
        self.last = Some(i);
        self.results[i] = Some(result);
    }

    /// The payload gave up. Before the first case that concerns all of them.
    fn dying(&mut self, kind: Kind, text: String, now: Instant) {
        let result = CaseResult::caused(Outcome::Error, kind, text);
        match (self.running.take(), self.last) {
            (Some(i), _) => self.settle(i, result, now),
            (None, Some(i)) => self.after_result(i, result),
            (None, None) => self.whole = Some(result),
        }
        self.phase = Phase::Dying;
    }

    /// The machine died after the result of `i` and before the next case: what `i` left behind
    /// did it. A failure stays a failure.
    fn after_result(&mut self, i: usize, mut result: CaseResult) {
        let Some(earlier) = &mut self.results[i] else {
            return;
        };
        let died = result.diagnostic.message.clone().unwrap_or_default();
        match earlier.outcome {
            Outcome::Pass | Outcome::Skip => {
                let word = earlier.outcome.word();
                result
                    .diagnostic
                    .notes
                    .push(format!("runner: this came after its result '{word}'"));
                result.duration = earlier.duration;
                *earlier = result;
            }
            _ => earlier
                .diagnostic
                .notes
                .push(format!("runner: after its result: {died}")),
        }
    }

    fn second_boot(&mut self, now: Instant) {
        if self.expect == Some(Ends::Again) && self.again.is_none() {
            // The case goes on in the machine that came back.
            self.again = self.running.take();
            self.expect = None;
            self.since = now;
            return;
        }
        self.phase = Phase::Rebooted;
        let Some(i) = self.running.take() else {
            let text = "the machine reset itself between two cases";
            return self.blame_end(CaseResult::caused(Outcome::Crash, Kind::Reset, text));
        };
        let result = match self.expect {
            Some(Ends::Reset) => CaseResult::plain(Outcome::Pass),
            Some(Ends::Again) => {
                let text = "the payload does not know that it came back: memory is lost in a reset";
                CaseResult::caused(Outcome::Error, Kind::NoResult, text)
            }
            Some(_) => wrong_end("the machine powers off", "the machine reset"),
            None => {
                let text = "the machine reset itself (a triple fault does that)";
                self.with_console(CaseResult::caused(Outcome::Crash, Kind::Reset, text))
            }
        };
        self.settle(i, result, now);
    }

    fn with_console(&self, mut result: CaseResult) -> CaseResult {
        result.console = self.lines.iter().cloned().collect();
        result
    }

    /// Blames the case that ran last, or else the launch as a whole.
    fn blame_end(&mut self, result: CaseResult) {
        let result = self.with_console(result);
        match self.last {
            Some(i) => self.after_result(i, result),
            None => self.whole = Some(result),
        }
    }

    /// Closes the book: every entry's result, where `None` asks for another launch. `stderr`
    /// holds the last lines that the hypervisor wrote there.
    pub fn close(mut self, end: &End, stderr: &[String], now: Instant) -> Vec<Option<CaseResult>> {
        match self.phase {
            Phase::Rebooted | Phase::Refused => {}
            Phase::Done => {
                let text = "the payload ended without a result for this case";
                for slot in self.results.iter_mut().filter(|r| r.is_none()) {
                    *slot = Some(CaseResult::caused(Outcome::Error, Kind::NoResult, text));
                }
            }
            // The running case, if any, keeps its right to another launch.
            Phase::Restarting | Phase::Dying => {}
            Phase::Booting | Phase::Running => self.died(end, stderr, now),
        }
        if let Some(whole) = self.whole.take() {
            for slot in self.results.iter_mut().filter(|r| r.is_none()) {
                *slot = Some(whole.clone());
            }
        }
        if self.results.iter().all(Option::is_none) && *end != End::Interrupted {
            let text = "the payload restarted without settling a case";
            let error = CaseResult::caused(Outcome::Error, Kind::NoResult, text);
            self.results
                .iter_mut()
                .take(1)
                .for_each(|slot| *slot = Some(error.clone()));
        }
        self.results
    }

    /// The machine is gone although the payload was not done.
    fn died(&mut self, end: &End, stderr: &[String], now: Instant) {
        if *end == End::Interrupted {
            return;
        }
        if let (Some(i), Some(expected)) = (self.running, self.expect) {
            let result = match (end, expected) {
                (End::Exited(_), Ends::Poweroff) => CaseResult::plain(Outcome::Pass),
                (End::Exited(_), Ends::Reset) if self.exits_on_reset => {
                    CaseResult::plain(Outcome::Pass)
                }
                (End::Exited(_), Ends::Again) if self.exits_on_reset => {
                    CaseResult::skip("a machine that starts again")
                }
                (End::Exited(_), _) => wrong_end("the machine resets", "the machine powered off"),
                _ => self.cause(end, stderr),
            };
            self.running = None;
            return self.settle(i, result, now);
        }
        let result = self.cause(end, stderr);
        match self.running.take() {
            Some(i) => {
                let result = self.with_console(result);
                self.settle(i, result, now);
            }
            None => self.blame_end(result),
        }
        // A unit out of time gets no further launch.
        if *end == End::UnitLimit {
            let text = "the unit's time was used up before this case had its turn";
            self.whole = Some(CaseResult::caused(Outcome::Error, Kind::NotRun, text));
        }
    }

    fn cause(&self, end: &End, stderr: &[String]) -> CaseResult {
        let booting = self.phase == Phase::Booting;
        let said = match stderr.last() {
            Some(last) => format!(": {last}"),
            None => String::new(),
        };
        let caused = |outcome, kind, text: &str| CaseResult::caused(outcome, kind, text);
        let mut result = match end {
            End::Exited(0) if booting => caused(
                Outcome::Error,
                Kind::NoBoot,
                &format!("the hypervisor ended before the payload spoke{said}"),
            ),
            End::Exited(n) if booting => caused(
                Outcome::Error,
                Kind::NoBoot,
                &format!("the hypervisor ended with status {n} before the payload spoke{said}"),
            ),
            End::Exited(0) => caused(
                Outcome::Crash,
                Kind::Reset,
                "the machine reset or stopped without a word (a triple fault does that)",
            ),
            End::Exited(n) => caused(
                Outcome::Crash,
                Kind::Exit,
                &format!("the hypervisor ended with status {n}{said}"),
            ),
            End::Signalled(n) => {
                let name = signal_name(*n);
                caused(
                    Outcome::Crash,
                    Kind::Signal,
                    &format!("{name} killed the hypervisor{said}"),
                )
            }
            End::Halted(said) if booting => caused(
                Outcome::Error,
                Kind::NoBoot,
                &format!("the hypervisor stopped the machine before the payload spoke: {said}"),
            ),
            End::Halted(said) => caused(
                Outcome::Crash,
                Kind::Exit,
                &format!("the hypervisor stopped the machine: {said}"),
            ),
            End::CaseLimit if booting => caused(
                Outcome::Timeout,
                Kind::NoBoot,
                "the payload did not speak within the limit",
            ),
            End::CaseLimit => caused(
                Outcome::Timeout,
                Kind::Timeout,
                "no result within the limit",
            ),
            End::UnitLimit => caused(
                Outcome::Timeout,
                Kind::Timeout,
                "the unit's time was used up while this case ran",
            ),
            End::Stopped | End::Interrupted => caused(
                Outcome::Error,
                Kind::Interrupted,
                "the runner stopped the machine",
            ),
        };
        result.diagnostic.details = stderr.to_vec();
        result
    }
}

fn wrong_end(expected: &str, got: &str) -> CaseResult {
    let text = "the machine ended in another way than it should";
    let mut result = CaseResult::caused(Outcome::Fail, Kind::WrongEnd, text);
    result.diagnostic.expected = Some(expected.into());
    result.diagnostic.got = Some(got.into());
    result
}

fn signal_name(number: i32) -> String {
    let names = [
        (4, "SIGILL"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (11, "SIGSEGV"),
        (13, "SIGPIPE"),
        (15, "SIGTERM"),
    ];
    let known = names.iter().find(|(n, _)| *n == number);
    known.map_or_else(
        || format!("signal {number}"),
        |(_, name)| (*name).to_owned(),
    )
}
