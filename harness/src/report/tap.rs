//! TAP version 13, in the subset that every consumer accepts.
//!
//! The plan is line 2, descriptions are ids and nothing else, strings in blocks are always
//! double-quoted, and nothing that differs from run to run is written: two runs with the same
//! outcomes give the same bytes.

use super::{Header, Line, Report, Summary};
use crate::expectations::Verdict;
use crate::outcome::{Attempt, Outcome};
use std::io::{self, Write};

/// Writes TAP to `out`.
pub struct Tap<W> {
    out: W,
}

impl<W: Write> Tap<W> {
    /// A report that writes to `out`.
    pub fn new(out: W) -> Self {
        Tap { out }
    }

    fn block(&mut self, line: &Line<'_>) -> io::Result<()> {
        let (r, d) = (line.result, &line.result.diagnostic);
        writeln!(self.out, "  ---")?;
        match line.verdict {
            Verdict::Flaky(_) => self.pair("outcome", "flaky")?,
            _ => self.pair("outcome", r.outcome.word())?,
        }
        if let Some(kind) = r.kind {
            self.pair("kind", &kind.word())?;
        }
        for (key, value) in [
            ("message", d.message.as_deref()),
            (
                "rule",
                Some(line.case.doc.as_str()).filter(|doc| !doc.is_empty()),
            ),
            ("expected", d.expected.as_deref()),
            ("got", d.got.as_deref()),
            ("spec", line.spec()),
        ] {
            if let Some(value) = value {
                self.pair(key, value)?;
            }
        }
        self.pair("at", line.at())?;
        for (key, value) in &d.other {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            if !key.is_empty() && key.chars().all(plain) {
                self.pair(&format!("guest_{key}"), value)?;
            }
        }
        let attempts: Vec<String> = r.attempts.iter().map(Attempt::text).collect();
        self.list("attempts", &attempts)?;
        if let Verdict::Known(why) | Verdict::Fixed(why) = line.verdict {
            self.pair("known", &why.reference)?;
        }
        self.list("notes", &d.notes)?;
        self.list("details", &d.details)?;
        self.pair("log", line.log)?;
        self.pair("repro", &line.repro())?;
        writeln!(self.out, "  ...")
    }

    fn pair(&mut self, key: &str, value: &str) -> io::Result<()> {
        writeln!(self.out, "  {key}: {}", quoted(value))
    }

    fn list(&mut self, key: &str, values: &[String]) -> io::Result<()> {
        if !values.is_empty() {
            writeln!(self.out, "  {key}:")?;
        }
        values
            .iter()
            .try_for_each(|v| writeln!(self.out, "    - {}", item(v)))
    }
}

/// A double-quoted YAML string that both YAML proper and Perl's YAMLish read.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The same as an item of a list. Perl's YAMLish takes a colon and a space there for the end of a
/// key, inside a string too, so the colon is written as an escape.
fn item(text: &str) -> String {
    quoted(text).replace(": ", "\\x3a ")
}

impl<W: Write> Report for Tap<W> {
    fn started(&mut self, header: &Header<'_>) -> io::Result<()> {
        writeln!(self.out, "TAP version 13\n1..{}", header.plan.cases)?;
        self.out.flush()
    }

    fn case(&mut self, line: &Line<'_>) -> io::Result<()> {
        let r = line.result;
        // `--strict` makes a fixed case bad: then its line must say so too.
        let good = matches!(r.outcome, Outcome::Pass | Outcome::Skip) && !line.bad;
        let directive = match (line.verdict, &r.need) {
            (_, Some(need)) => format!(" # SKIP needs {need}"),
            (Verdict::Known(why), _) => format!(" # TODO {}", why.text),
            (Verdict::Fixed(why), _) if good => format!(" # TODO fixed: {}", why.text),
            _ => String::new(),
        };
        let word = if good { "ok" } else { "not ok" };
        writeln!(
            self.out,
            "{word} {} - {}{directive}",
            line.number, line.title
        )?;
        if !good || matches!(line.verdict, Verdict::Flaky(_)) {
            self.block(line)?;
        }
        self.out.flush()
    }

    fn finished(&mut self, summary: &Summary) -> io::Result<()> {
        if let Some(chosen) = summary.chosen() {
            writeln!(self.out, "# {chosen}")?;
        }
        for elsewhere in &summary.elsewhere {
            writeln!(self.out, "# {elsewhere}")?;
        }
        if summary.interrupted {
            writeln!(self.out, "Bail out! interrupted by a signal")?;
        } else if summary.stopped {
            writeln!(self.out, "Bail out! --fail-fast")?;
        }
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::{item, quoted};

    #[test]
    fn list_items_hold_no_key() {
        assert_eq!(item("a: b:c"), "\"a\\x3a b:c\"");
    }

    #[test]
    fn strings_are_safe_in_yaml() {
        assert_eq!(quoted("a: \"b\"\\\n\u{1b}"), r#""a: \"b\"\\\n\x1b""#);
    }
}
