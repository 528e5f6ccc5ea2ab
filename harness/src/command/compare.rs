//! `assay compare`: the outcomes of several runs side by side, differences first.

use crate::cli::{CompareOptions, FailOn};
use crate::error::{Error, Result, exit};
use crate::matrix::{Change, Counts, Matrix, Row, Status, matrix, words};
use crate::report::{html, markdown};
use crate::runs::{self, Run};
use std::io::{self, Write};

/// Prints the matrix, and writes the page that `--html` asks for.
pub fn compare(options: &CompareOptions) -> Result<u8> {
    let runs = options
        .runs
        .iter()
        .map(|r| runs::read(r))
        .collect::<Result<Vec<Run>>>()?;
    let matrix = matrix(&runs);
    if matrix.rows.is_empty() {
        return Err(Error::nothing(
            "nothing to compare: these runs hold no case",
        ));
    }
    if let Some(path) = &options.html {
        let page = html::page(&matrix, &runs);
        std::fs::write(path, page).map_err(|e| Error::file("write", path, e))?;
    }
    let code = code(options, &matrix);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = match options.markdown {
        true => out.write_all(markdown::page(&matrix, options.all).as_bytes()),
        false => print(&mut out, options, &matrix),
    };
    super::written(written.and_then(|()| out.flush()).map(|()| code))
}

fn code(options: &CompareOptions, matrix: &Matrix<'_>) -> u8 {
    let any = |changes: &[Change]| matrix.rows.iter().any(|row| changes.contains(&row.change));
    let old = options.fail_on_regression.then_some(FailOn::Regression);
    let fails = match options.fail_on.or(old) {
        None => false,
        Some(FailOn::Regression) => any(&[Change::Regressed, Change::NewlyBad]),
        Some(FailOn::Loss) => any(&[Change::Regressed, Change::NewlyBad, Change::Lost]),
        Some(FailOn::Difference) => matrix.rows.iter().any(|row| row.change != Change::Same),
    };
    if fails { exit::UNEXPECTED } else { exit::OK }
}

/// The letter of a column: A to Z, then by number.
pub fn letter(i: usize) -> String {
    match u8::try_from(i) {
        Ok(i) if i < 26 => char::from(b'A' + i).to_string(),
        _ => (i + 1).to_string(),
    }
}

fn print(out: &mut impl Write, options: &CompareOptions, matrix: &Matrix<'_>) -> io::Result<()> {
    for (i, column) in matrix.columns.iter().enumerate() {
        write!(out, "# {}: {}", letter(i), column.label)?;
        if !column.version.is_empty() {
            write!(out, " ({} {})", column.hypervisor, column.version)?;
        }
        writeln!(out, "{}", if column.complete { "" } else { ", cut short" })?;
    }
    for change in Change::ALL {
        if change == Change::Same && !options.all {
            continue;
        }
        let rows: Vec<&Row<'_>> = matrix.rows.iter().filter(|r| r.change == change).collect();
        if rows.is_empty() {
            continue;
        }
        writeln!(out, "\n# {}: {}", change.word(), rows.len())?;
        for row in rows {
            for i in 0..row.cells.len() {
                write!(out, "{:<8}", row.status(i).map_or("-", Status::word))?;
            }
            writeln!(out, "{}", row.id)?;
        }
    }
    writeln!(out, "\n# by group")?;
    let groups = matrix.groups();
    let names = groups.keys().map(String::len);
    let width = names.chain(["all".len()]).max().unwrap_or(0);
    for (name, counts) in &groups {
        group(out, name, width, counts)?;
    }
    group(out, "all", width, &matrix.totals())?;
    let slower = matrix.slower();
    if !slower.is_empty() {
        writeln!(out, "\n# at least twice as slow: {}", slower.len())?;
        for (id, before, now) in slower {
            writeln!(out, "{:>8.2} s {:>8.2} s  {id}", before / 1e3, now / 1e3)?;
        }
    }
    let changes = matrix.changes();
    let of = |change| changes.get(&change).copied().unwrap_or(0);
    let same = of(Change::Same);
    writeln!(
        out,
        "\n# {} differ, {same} are the same, {} regressed",
        matrix.rows.len() - same,
        of(Change::Regressed) + of(Change::NewlyBad)
    )
}

fn group(out: &mut impl Write, name: &str, width: usize, counts: &Counts) -> io::Result<()> {
    if counts.windows(2).all(|w| w[0] == w[1]) {
        let all = counts.first().map_or_else(String::new, words);
        return writeln!(out, "{name:<width$}  {all}");
    }
    for (i, counts) in counts.iter().enumerate() {
        let name = if i == 0 { name } else { "" };
        let words = if counts.is_empty() {
            "-".into()
        } else {
            words(counts)
        };
        writeln!(out, "{name:<width$}  {}: {words}", letter(i))?;
    }
    Ok(())
}
