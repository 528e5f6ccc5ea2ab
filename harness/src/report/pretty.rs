//! The report for people: failures with what was expected, then a summary.

use super::{Header, Line, Report, Summary};
use crate::expectations::Verdict;
use crate::outcome::Outcome;
use std::io::{self, Write};

/// Writes to `out`.
pub struct Pretty<W> {
    out: W,
    color: bool,
    verbose: bool,
    /// The unit whose line is being collected, with its counts.
    unit: Option<Unit>,
    /// Blocks of bad cases, shown after their unit's line.
    bad: String,
}

struct Unit {
    title: String,
    cases: usize,
    passed: usize,
    skipped: usize,
    known: usize,
    bad: usize,
    seconds: f64,
}

impl<W: Write> Pretty<W> {
    /// A report that writes to `out`; `verbose` shows every case.
    pub fn new(out: W, color: bool, verbose: bool) -> Self {
        Pretty {
            out,
            color,
            verbose,
            unit: None,
            bad: String::new(),
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        match self.color {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    fn word(&self, line: &Line<'_>) -> String {
        let (code, word) = match (line.result.outcome, line.verdict) {
            (_, Verdict::Known(_)) => ("33", "known"),
            (_, Verdict::Fixed(_)) => ("36", "fixed"),
            (_, Verdict::Flaky(_)) => ("35", "flaky"),
            (Outcome::Pass, _) => ("32", "pass"),
            (Outcome::Skip, _) => ("34", "skip"),
            (other, _) => ("1;31", other.word()),
        };
        self.paint(code, &format!("{word:>7}"))
    }

    fn close_unit(&mut self) -> io::Result<()> {
        let Some(u) = self.unit.take() else {
            return Ok(());
        };
        let word = match (u.bad, u.passed) {
            (0, 0) => self.paint("34", "   skip"),
            (0, _) => self.paint("32", "   pass"),
            _ => self.paint("1;31", "   FAIL"),
        };
        let mut counts = format!("{} of {} pass", u.passed, u.cases);
        for (n, name) in [
            (u.skipped, "skipped"),
            (u.known, "known"),
            (u.bad, "unexpected"),
        ] {
            if n > 0 {
                counts += &format!(", {n} {name}");
            }
        }
        writeln!(
            self.out,
            "{word} {:<40} {counts} in {:.2} s",
            u.title, u.seconds
        )?;
        self.out
            .write_all(std::mem::take(&mut self.bad).as_bytes())?;
        self.out.flush()
    }

    fn block(&self, line: &Line<'_>) -> String {
        let (r, d) = (line.result, &line.result.diagnostic);
        let mut text = format!("{} {}\n", self.word(line), line.title);
        let mut add = |key: &str, value: &str| {
            let value = value.replace('\n', "\n                    ");
            text.push_str(&format!("          {key:<9} {value}\n"));
        };
        add("rule", &line.case.doc);
        if let Some(kind) = r.kind {
            add("cause", &kind.word());
        }
        for (key, value) in [
            ("message", &d.message),
            ("expected", &d.expected),
            ("got", &d.got),
        ] {
            if let Some(value) = value {
                add(key, value);
            }
        }
        if let Some(spec) = line.spec() {
            add("spec", spec);
        }
        add("at", line.at());
        r.attempts.iter().for_each(|a| add("attempt", &a.text()));
        d.notes.iter().for_each(|n| add("note", n));
        d.details.iter().for_each(|n| add("detail", n));
        r.console.iter().for_each(|n| add("console", n));
        add("log", line.log);
        add("again", &line.repro());
        text
    }
}

impl<W: Write> Report for Pretty<W> {
    fn started(&mut self, _: &Header<'_>) -> io::Result<()> {
        Ok(())
    }

    fn case(&mut self, line: &Line<'_>) -> io::Result<()> {
        let id = line.unit.unit.id();
        let title = line
            .title
            .split_at(line.title.len() - line.id.len())
            .0
            .to_owned()
            + &id;
        if self.unit.as_ref().is_none_or(|u| u.title != title) {
            self.close_unit()?;
            self.unit = Some(Unit {
                title,
                cases: 0,
                passed: 0,
                skipped: 0,
                known: 0,
                bad: 0,
                seconds: 0.0,
            });
        }
        if self.verbose && !line.bad {
            let need = line.result.need.as_ref().map(|n| format!(" (needs {n})"));
            writeln!(
                self.out,
                "{} {}{}",
                self.word(line),
                line.title,
                need.unwrap_or_default()
            )?;
        }
        let block = line.bad.then(|| self.block(line));
        self.bad.push_str(&block.unwrap_or_default());
        if let Some(unit) = &mut self.unit {
            unit.cases += 1;
            unit.seconds += line.result.duration.as_secs_f64();
            match (line.result.outcome, line.verdict) {
                _ if line.bad => unit.bad += 1,
                (Outcome::Pass, _) => unit.passed += 1,
                (Outcome::Skip, _) => unit.skipped += 1,
                _ => unit.known += 1,
            }
        }
        Ok(())
    }

    fn finished(&mut self, summary: &Summary) -> io::Result<()> {
        self.close_unit()?;
        if !summary.needs.is_empty() {
            writeln!(self.out, "\nskipped for the lack of:")?;
            for (need, count) in &summary.needs {
                writeln!(self.out, "{count:>7} {need}")?;
            }
        }
        if let Some(chosen) = summary.chosen() {
            writeln!(self.out, "\n{chosen}")?;
        }
        for elsewhere in &summary.elsewhere {
            writeln!(self.out, "{elsewhere}")?;
        }
        let mut parts: Vec<String> = summary
            .outcomes
            .iter()
            .map(|(o, n)| format!("{n} {o}"))
            .collect();
        if summary.known > 0 {
            parts.push(format!("{} known", summary.known));
        }
        if summary.flaky > 0 {
            parts.push(format!("{} of the passes flaky", summary.flaky));
        }
        if summary.fixed > 0 {
            parts.push(format!("{} of the passes fixed", summary.fixed));
        }
        let seconds = summary.duration.as_secs_f64();
        let text = format!(
            "{} in {seconds:.2} s; logs in {}",
            parts.join(", "),
            summary.dir
        );
        let code = if summary.bad == 0 && !summary.interrupted {
            "1;32"
        } else {
            "1;31"
        };
        writeln!(self.out, "\n{}", self.paint(code, &text))?;
        if summary.interrupted {
            writeln!(
                self.out,
                "interrupted: cases without a result count as errors"
            )?;
        }
        self.out.flush()
    }
}
