//! LAVA signals: a test set per unit, a test case per case.
//!
//! LAVA reads them from the console of the device and takes an id as one word; it makes part of an
//! address of it, so a slash becomes a hyphen, which no segment of an id can hold. A known
//! deviation is `skip`, the suite's own fault `unknown`.

use super::{Header, Line, Report, Summary};
use crate::expectations::Verdict;
use crate::outcome::Outcome;
use std::io::{self, Write};

/// Writes to `out`.
pub struct Lava<W> {
    out: W,
    set: String,
}

impl<W: Write> Lava<W> {
    /// A report that writes to `out`.
    pub fn new(out: W) -> Self {
        Lava {
            out,
            set: String::new(),
        }
    }

    fn open(&mut self, set: &str) -> io::Result<()> {
        if self.set == set {
            return Ok(());
        }
        if !self.set.is_empty() {
            writeln!(self.out, "<LAVA_SIGNAL_TESTSET STOP>")?;
        }
        if !set.is_empty() {
            writeln!(self.out, "<LAVA_SIGNAL_TESTSET START {set}>")?;
        }
        self.set = set.to_owned();
        Ok(())
    }
}

/// An id as one word that needs no quoting anywhere.
pub fn word(id: &str) -> String {
    let plain = |c: char| match c {
        c if c.is_ascii_alphanumeric() || c == '_' => c,
        _ => '-',
    };
    id.chars().map(plain).collect()
}

impl<W: Write> Report for Lava<W> {
    fn started(&mut self, _: &Header<'_>) -> io::Result<()> {
        Ok(())
    }

    fn case(&mut self, line: &Line<'_>) -> io::Result<()> {
        let set = format!("{}-{}", line.hypervisor, word(&line.unit.unit.id()));
        self.open(&set)?;
        let result = match (line.result.outcome, line.verdict) {
            (Outcome::Pass, _) if line.bad => "fail",
            (Outcome::Pass, _) => "pass",
            (Outcome::Skip, _) | (_, Verdict::Known(_)) => "skip",
            (Outcome::Error, _) => "unknown",
            _ => "fail",
        };
        writeln!(
            self.out,
            "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID={} RESULT={result} MEASUREMENT={:.3} UNITS=s>",
            word(&line.case.path),
            line.result.duration.as_secs_f64()
        )?;
        self.out.flush()
    }

    fn finished(&mut self, _: &Summary) -> io::Result<()> {
        self.open("")?;
        self.out.flush()
    }
}
