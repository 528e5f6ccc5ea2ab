//! KTAP version 1, the kernel's dialect: one subtest per unit, diagnostics before their line.
//!
//! Names hold no `#` and blocks are comments, as its readers want. A known deviation is
//! `ok ... # XFAIL`, a timeout `not ok ... # TIMEOUT`, the suite's own fault `not ok ... # ERROR`.

use crate::matrix::{Status, unit};
use crate::report::json::{Case, Document};
use std::io::{self, Write};

/// One line, without what would start a directive.
fn plain(text: &str) -> String {
    text.replace(['\n', '\r'], " ").replace('#', "")
}

fn directive(case: &Case) -> String {
    let or = |text: &Option<String>, other: &str| plain(text.as_deref().unwrap_or(other));
    match Status::of(case) {
        Status::Skip => format!(" # SKIP needs {}", or(&case.need, "more")),
        Status::Known => format!(" # XFAIL {}", or(&case.known, "known")),
        Status::Timeout => " # TIMEOUT".into(),
        Status::Error => " # ERROR".into(),
        _ => String::new(),
    }
}

/// Writes `document` to `out`.
pub fn write(document: &Document, out: &mut dyn Write) -> io::Result<()> {
    let many = document.many;
    let same = |a: &Case, b: &Case| a.hypervisor == b.hypervisor && unit(&a.id) == unit(&b.id);
    let suites: Vec<&[Case]> = document.cases.chunk_by(same).collect();
    writeln!(out, "KTAP version 1\n1..{}", suites.len())?;
    for (i, cases) in suites.iter().enumerate() {
        writeln!(out, "  KTAP version 1\n  1..{}", cases.len())?;
        let name = unit(&cases[0].id);
        for (j, case) in cases.iter().enumerate() {
            line(case, name, j + 1, out)?;
        }
        let statuses = || cases.iter().map(Status::of);
        let (good, skip) = match () {
            () if statuses().any(Status::bad) => ("not ok", ""),
            () if statuses().all(|s| s == Status::Skip) => ("ok", " # SKIP nothing could run"),
            () => ("ok", ""),
        };
        let place = match many {
            true => format!("{}/", cases[0].hypervisor),
            false => String::new(),
        };
        writeln!(out, "{good} {} {place}{}{skip}", i + 1, plain(name))?;
    }
    Ok(())
}

fn line(case: &Case, unit: &str, number: usize, out: &mut dyn Write) -> io::Result<()> {
    let status = Status::of(case);
    let d = &case.diagnostic;
    if status.bad() {
        for (key, value) in [
            ("message", d.message.as_ref()),
            ("expected", d.expected.as_ref()),
            ("got", d.got.as_ref()),
            ("repro", Some(&case.repro).filter(|r| !r.is_empty())),
        ] {
            if let Some(value) = value {
                writeln!(out, "  # {key}: {}", value.replace(['\n', '\r'], " "))?;
            }
        }
    }
    let good = if status.bad() { "not ok" } else { "ok" };
    let path = case.id[unit.len()..].trim_start_matches('/');
    let path = if path.is_empty() { unit } else { path };
    writeln!(out, "  {good} {number} {}{}", plain(path), directive(case))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::tests::run;

    #[test]
    fn units_are_subtests_and_diagnostics_come_first() {
        let words =
            "x86/a/t/p=pass x86/a/t/f=fail x86/b/t/s=skip x86/c/t/k=known x86/c/t/t=timeout";
        let mut document = run("r", "q", words).document;
        document.cases[1].diagnostic.message = Some("no # good".into());
        let mut out = Vec::new();
        write(&document, &mut out).unwrap();
        let expected = "KTAP version 1\n1..3\n  KTAP version 1\n  1..2\n  ok 1 t/p\n\
                        \x20 # message: no # good\n  not ok 2 t/f\nnot ok 1 x86/a\n\
                        \x20 KTAP version 1\n  1..1\n  ok 1 t/s # SKIP needs more\n\
                        ok 2 x86/b # SKIP nothing could run\n\
                        \x20 KTAP version 1\n  1..2\n  ok 1 t/k # XFAIL known\n\
                        \x20 not ok 2 t/t # TIMEOUT\nnot ok 3 x86/c\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
