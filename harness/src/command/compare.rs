//! `assay compare`: the outcomes of several runs side by side, differences first.

use crate::cli::CompareOptions;
use crate::error::{Error, Result, exit};
use crate::outcome::Outcome;
use crate::report::json::Document;
use crate::tap;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

/// Outcome per case of one run; the key holds the hypervisor where the run had several.
type Outcomes = BTreeMap<String, Outcome>;

/// Prints the matrix.
pub fn compare(options: &CompareOptions) -> Result<u8> {
    let runs = options
        .runs
        .iter()
        .map(|r| load(r))
        .collect::<Result<Vec<_>>>()?;
    let mut rows: BTreeMap<&str, Vec<Option<Outcome>>> = BTreeMap::new();
    for (i, run) in runs.iter().enumerate() {
        for (id, outcome) in run {
            rows.entry(id).or_insert_with(|| vec![None; runs.len()])[i] = Some(*outcome);
        }
    }
    let same = |row: &[Option<Outcome>]| row.windows(2).all(|w| w[0] == w[1]);
    let regressed = rows.values().filter(|row| regression(row)).count();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut print = || -> io::Result<u8> {
        for (i, run) in options.runs.iter().enumerate() {
            writeln!(out, "# {}: {}", letter(i), run.display())?;
        }
        let (equal, different): (Vec<_>, Vec<_>) = rows.iter().partition(|(_, row)| same(row));
        for (id, row) in different.iter().chain(equal.iter().filter(|_| options.all)) {
            for cell in row.iter() {
                write!(out, "{:<8}", cell.map_or("-", Outcome::word))?;
            }
            writeln!(out, "{id}")?;
        }
        let (same, differ) = (equal.len(), different.len());
        writeln!(
            out,
            "# {differ} differ, {same} are the same, {regressed} regressed"
        )?;
        out.flush()?;
        Ok(match options.fail_on_regression && regressed > 0 {
            true => exit::UNEXPECTED,
            false => exit::OK,
        })
    };
    super::written(print())
}

fn letter(i: usize) -> char {
    u8::try_from(i)
        .ok()
        .and_then(|i| b'A'.checked_add(i))
        .map_or('?', char::from)
}

/// A case that passed in the first run and fares worse in a later one.
fn regression(row: &[Option<Outcome>]) -> bool {
    let good = |o: &Option<Outcome>| matches!(o, Some(Outcome::Pass | Outcome::Skip) | None);
    row.first() == Some(&Some(Outcome::Pass)) && row.iter().any(|o| !good(o))
}

/// The outcomes of a run directory, a results.json or a TAP file.
fn load(path: &Path) -> Result<Outcomes> {
    let file = if path.is_dir() {
        path.join("results.json")
    } else {
        path.to_owned()
    };
    let text = std::fs::read_to_string(&file).map_err(|e| Error::file("read", &file, e))?;
    if file.extension().is_some_and(|e| e == "json") {
        let document: Document =
            serde_json::from_str(&text).map_err(|e| Error::file("read", &file, e))?;
        let mut names: Vec<&str> = document
            .cases
            .iter()
            .map(|c| c.hypervisor.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        let many = names.len() > 1;
        let key = |hypervisor: &str, id: &str| match many {
            true => format!("{hypervisor}/{id}"),
            false => id.to_owned(),
        };
        return Ok(document
            .cases
            .iter()
            .map(|c| (key(&c.hypervisor, &c.id), c.outcome))
            .collect());
    }
    let stream = tap::read(&text).map_err(|e| Error::file("read TAP from", &file, e))?;
    Ok(stream
        .points
        .into_iter()
        .map(|p| (p.title, p.outcome))
        .collect())
}
