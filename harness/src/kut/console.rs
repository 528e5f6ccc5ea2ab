//! What a payload of kvm-unit-tests said, and how its machine ended.
//!
//! The letters count at the start of a line. The exit status has seven bits for the guest's code, so
//! a payload that exits with 128 looks like one that exits with 0: the status alone never makes a
//! pass. The case `exit` holds when the end is the one that the payload's own lines ask for.

use crate::arch::Arch;
use crate::outcome::{CaseResult, Kind, Outcome};
use std::collections::HashMap;

/// Bytes of a line that are looked at.
const MAX_LINE: usize = 1024;
/// Most results of one payload; a payload that prints more is cut off, and says so.
const MAX_RESULTS: usize = 20_000;

/// How the machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// By us, after its time was up.
    TimedOut,
    /// By us, because the run is interrupted.
    Interrupted,
}

/// A result of the payload.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Its slug, unique in the payload.
    pub slug: String,
    /// The payload's words.
    pub text: String,
    /// The result.
    pub result: CaseResult,
    /// A failure that the payload itself expects.
    pub known: bool,
}

/// Reads a console as it comes.
#[derive(Default)]
pub struct Console {
    line: Vec<u8>,
    points: Vec<Point>,
    slugs: HashMap<String, usize>,
    unexpected: usize,
    /// `SUMMARY:` lines that speak of unexpected failures.
    summary_bad: bool,
    /// `FAIL` behind other text.
    hidden: Vec<String>,
    hidden_count: usize,
    aborted: Option<String>,
    /// `EXIT: STATUS=n`.
    status: Option<i32>,
    last: std::collections::VecDeque<String>,
    cut: bool,
}

/// A name without what differs from run to run: addresses and numbers of four digits or more.
pub fn slug(text: &str) -> String {
    let mut out = String::new();
    for word in text.split(|c: char| !c.is_ascii_alphanumeric()) {
        let word = word.to_ascii_lowercase();
        let number = word.strip_prefix("0x").unwrap_or(&word);
        let digits = number.bytes().all(|b| b.is_ascii_hexdigit());
        let value = word.starts_with("0x") && digits && !number.is_empty()
            || word.len() >= 4 && word.bytes().all(|b| b.is_ascii_digit());
        let word = if value { "n" } else { &word };
        if !word.is_empty() && out.len() < 100 {
            if !out.is_empty() {
                out.push('_');
            }
            out.push_str(word);
        }
    }
    match out.bytes().next() {
        Some(b) if b.is_ascii_lowercase() => out,
        _ => format!("n{out}"),
    }
}

impl Console {
    /// Reads `bytes`.
    pub fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' => self.end_of_line(),
                0 | b'\r' => {}
                byte if self.line.len() < MAX_LINE => self.line.push(*byte),
                _ => {}
            }
        }
    }

    fn end_of_line(&mut self) {
        let bytes = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&bytes).into_owned();
        self.read(&line);
        if self.last.len() == 12 {
            self.last.pop_front();
        }
        self.last.push_back(line.chars().take(200).collect());
    }

    fn read(&mut self, line: &str) {
        if let Some(n) = line.strip_prefix("EXIT: STATUS=") {
            self.status = n.trim().parse().ok();
            return;
        }
        if let Some(rest) = line.strip_prefix("SUMMARY:") {
            let words: Vec<&str> = rest.split_whitespace().collect();
            let count = |w: &[&str]| w[0].parse::<usize>().ok().filter(|_| w[1] == "unexpected");
            self.summary_bad |= words.windows(2).filter_map(count).any(|n| n > 0);
            return;
        }
        let letters = ["PASS", "FAIL", "SKIP", "XFAIL", "XPASS", "KFAIL", "ABORT"];
        let found = letters
            .iter()
            .find_map(|w| Some((*w, line.strip_prefix(w)?.strip_prefix(": ")?)));
        match found {
            Some(("ABORT", text)) => self.aborted = Some(text.to_owned()),
            Some((letter, text)) => self.point(letter, text.trim()),
            None if line.contains("FAIL:") || line.trim_end().ends_with(" FAIL") => {
                self.hidden_count += 1;
                if self.hidden.len() < 5 {
                    self.hidden.push(line.chars().take(200).collect());
                }
            }
            None => {}
        }
    }

    fn point(&mut self, letter: &str, text: &str) {
        if self.points.len() == MAX_RESULTS {
            self.cut = true;
            self.unexpected += usize::from(matches!(letter, "FAIL" | "XPASS"));
            return;
        }
        let failed = |message: &str| CaseResult::caused(Outcome::Fail, Kind::Assertion, message);
        let (result, known) = match letter {
            "PASS" => (CaseResult::plain(Outcome::Pass), false),
            "SKIP" => (CaseResult::skip("what the payload asks for"), false),
            "XFAIL" => (failed("the payload expects this failure"), true),
            "KFAIL" => (failed("the payload knows this failure"), true),
            "XPASS" => (
                failed("it passes, and the payload expects a failure"),
                false,
            ),
            _ => (failed("the payload reports a failure"), false),
        };
        self.unexpected += usize::from(result.outcome == Outcome::Fail && !known);
        let base = slug(text);
        let n = self.slugs.entry(base.clone()).or_insert(0);
        *n += 1;
        let slug = if *n == 1 { base } else { format!("{base}_{n}") };
        self.points.push(Point {
            slug,
            text: text.to_owned(),
            result,
            known,
        });
    }

    /// The results, and the result of `exit`.
    pub fn close(mut self, arch: Arch, end: End, stderr: &[String]) -> (Vec<Point>, CaseResult) {
        if !self.line.is_empty() {
            self.end_of_line();
        }
        let mut exit = self.exit(arch, end, stderr);
        if exit.outcome != Outcome::Pass && exit.outcome != Outcome::Skip {
            exit.console = self.last.iter().cloned().collect();
            exit.diagnostic.details.extend_from_slice(stderr);
        }
        (self.points, exit)
    }

    fn exit(&self, arch: Arch, end: End, stderr: &[String]) -> CaseResult {
        fn bad(outcome: Outcome, kind: Kind, text: impl Into<String>) -> CaseResult {
            CaseResult::caused(outcome, kind, text)
        }
        let status = match end {
            End::TimedOut => {
                return bad(
                    Outcome::Timeout,
                    Kind::Timeout,
                    "the machine did not end in time",
                );
            }
            End::Interrupted => {
                return bad(Outcome::Error, Kind::Interrupted, "the run was interrupted");
            }
            End::Signalled(n) => {
                let text = format!("signal {n} killed the hypervisor");
                return bad(Outcome::Crash, Kind::Signal, text);
            }
            End::Exited(status) => status,
        };
        if let Some(text) = &self.aborted {
            return bad(
                Outcome::Crash,
                Kind::Panic,
                format!("the payload aborted: {text}"),
            );
        }
        if self.cut {
            let text = format!("more than {MAX_RESULTS} results; the rest has no line of its own");
            return bad(Outcome::Error, Kind::BadTranscript, text);
        }
        if self.hidden_count > 0 {
            let text = format!("{} lines hold FAIL behind other text", self.hidden_count);
            let mut result = bad(Outcome::Fail, Kind::BadTranscript, text);
            result.diagnostic.notes.clone_from(&self.hidden);
            return result;
        }
        // The console's word is exact; the process's status holds it in seven bits.
        let word = self
            .status
            .or_else(|| (arch == Arch::X86 && status & 1 == 1).then_some(status));
        let Some(word) = word.filter(|w| w & 1 == 1) else {
            let said = stderr.last().map(|l| format!(": {l}")).unwrap_or_default();
            return match status {
                0 => bad(
                    Outcome::Crash,
                    Kind::Reset,
                    "the machine stopped without an exit code (a triple fault does that)",
                ),
                n => bad(
                    Outcome::Error,
                    Kind::Exit,
                    format!("the hypervisor ended with status {n}{said}"),
                ),
            };
        };
        let code = (word >> 1) & 0x7f;
        let noise = |l: &&String| !l.to_ascii_lowercase().contains("warning");
        match code {
            0 if self.unexpected > 0 || self.summary_bad => bad(
                Outcome::Fail,
                Kind::Exit,
                "its lines tell of failures, and its exit code of none (codes wrap at 128)",
            ),
            // QEMU itself ends with 1 when it refuses its command line, before the payload runs.
            0 if self.points.is_empty()
                && self.status.is_none()
                && stderr.iter().any(|l| noise(&l)) =>
            {
                let text = format!("the hypervisor gave up: {}", stderr.join(" "));
                bad(Outcome::Error, Kind::NoBoot, text)
            }
            0 => CaseResult::plain(Outcome::Pass),
            38 if self.unexpected > 0 => bad(
                Outcome::Fail,
                Kind::Exit,
                "it claims to have skipped all, and reports failures",
            ),
            38 => CaseResult::skip("what the payload asks for"),
            // Its failures have their own lines.
            1 if self.unexpected > 0 => CaseResult::plain(Outcome::Pass),
            1 => bad(
                Outcome::Fail,
                Kind::Exit,
                "it ended with failures and reported none",
            ),
            63 => bad(Outcome::Crash, Kind::Panic, "the payload aborted"),
            n => bad(
                Outcome::Fail,
                Kind::Exit,
                format!("it ended with the unknown code {n}"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(text: &str, end: End) -> (Vec<Point>, CaseResult) {
        let mut console = Console::default();
        console.feed(text.as_bytes());
        console.close(Arch::X86, end, &[])
    }

    fn outcome(text: &str, status: i32) -> Outcome {
        judge(text, End::Exited(status)).1.outcome
    }

    #[test]
    fn every_letter_counts() {
        let text =
            "PASS: a: b\nFAIL: c\nSKIP: d\nXFAIL: e\nXPASS: f\nKFAIL: g\nnoise\nPASS: a: b\n";
        let (points, exit) = judge(text, End::Exited(3));
        let words: Vec<String> = points
            .iter()
            .map(|p| {
                format!(
                    "{}={}{}",
                    p.slug,
                    p.result.outcome,
                    if p.known { "!" } else { "" }
                )
            })
            .collect();
        assert_eq!(
            words.join(" "),
            "a_b=pass c=fail d=skip e=fail! f=fail g=fail! a_b_2=pass"
        );
        assert_eq!(exit.outcome, Outcome::Pass);
    }

    #[test]
    fn names_lose_what_differs_from_run_to_run() {
        assert_eq!(
            slug("tsc: 123456 cycles at 0xffff0000"),
            "tsc_n_cycles_at_n"
        );
        assert_eq!(slug("3 == 3"), "n3_3");
        assert_eq!(slug("MSR 0x1d9 bit 12"), "msr_n_bit_12");
        assert_eq!(slug("***"), "n");
    }

    #[test]
    fn the_status_alone_never_makes_a_pass() {
        assert_eq!(outcome("PASS: a\n", 1), Outcome::Pass);
        // Code 128 wraps to status 1.
        assert_eq!(
            outcome("FAIL: a\nSUMMARY: 1 tests, 1 unexpected failures\n", 1),
            Outcome::Fail
        );
        assert_eq!(
            outcome("SUMMARY: 2 tests, 1 unexpected failures\n", 1),
            Outcome::Fail
        );
        assert_eq!(outcome("PASS: a\n", 3), Outcome::Fail);
        assert_eq!(outcome("PASS: a\n", 0), Outcome::Crash);
        assert_eq!(outcome("", 127), Outcome::Crash);
        assert_eq!(outcome("ABORT: lost\n", 127), Outcome::Crash);
        assert_eq!(outcome("SKIP: a\n", 77), Outcome::Skip);
        assert_eq!(outcome("FAIL: a\n", 77), Outcome::Fail);
        assert_eq!(outcome("PASS: a\n", 129), Outcome::Fail);
        assert_eq!(outcome("PASS: a\n", 2), Outcome::Error);
        assert_eq!(outcome("x y FAIL: z\n", 1), Outcome::Fail);
        assert_eq!(judge("", End::TimedOut).1.outcome, Outcome::Timeout);
        assert_eq!(
            judge("PASS: a\n", End::Signalled(11)).1.outcome,
            Outcome::Crash
        );
    }

    #[test]
    fn the_consoles_word_is_exact() {
        let arm = |text: &str, status| {
            let mut console = Console::default();
            console.feed(text.as_bytes());
            console
                .close(Arch::Arm64, End::Exited(status), &[])
                .1
                .outcome
        };
        assert_eq!(arm("PASS: a\n\nEXIT: STATUS=1\n", 0), Outcome::Pass);
        assert_eq!(arm("PASS: a\n\nEXIT: STATUS=77\n", 0), Outcome::Skip);
        assert_eq!(arm("PASS: a\n", 0), Outcome::Crash);
        assert_eq!(arm("PASS: a\n", 1), Outcome::Error);
    }

    #[test]
    fn a_hypervisor_that_refuses_is_no_pass() {
        let console = Console::default();
        let stderr = ["qemu: Could not access KVM".to_owned()];
        let exit = console.close(Arch::X86, End::Exited(1), &stderr).1;
        assert_eq!(exit.outcome, Outcome::Error);
    }

    #[test]
    fn memory_is_bounded() {
        let mut console = Console::default();
        console.feed(&vec![b'x'; 10 << 20]);
        for _ in 0..30_000 {
            console.feed(b"FAIL: again\n");
        }
        let (points, exit) = console.close(Arch::X86, End::Exited(3), &[]);
        assert_eq!(points.len(), MAX_RESULTS);
        assert_eq!(exit.outcome, Outcome::Error);
    }
}
