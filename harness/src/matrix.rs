//! Runs side by side: a row per case, a column per run and hypervisor.
//!
//! The first column is the baseline. A row says what happened to its case since then; of several
//! later columns the worst decides, so that a regression in one is never hidden by another.

use crate::outcome::Outcome;
use crate::report::json::{Case, Document};
use crate::runs::Run;
use std::collections::{BTreeMap, HashMap};

/// What became of a case, in one word: the outcome, or what the expectations say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// It passes.
    Pass,
    /// It passes, although a deviation is known.
    Fixed,
    /// It passes on some attempts.
    Flaky,
    /// A need was missing.
    Skip,
    /// It deviates, as is known.
    Known,
    /// It fails.
    Fail,
    /// The machine died.
    Crash,
    /// It took too long.
    Timeout,
    /// The suite's own fault.
    Error,
}

impl Status {
    /// The status of `case`.
    pub fn of(case: &Case) -> Self {
        match (case.verdict.as_str(), case.outcome) {
            ("known", _) => Status::Known,
            ("fixed", _) => Status::Fixed,
            ("flaky", _) => Status::Flaky,
            (_, Outcome::Pass) => Status::Pass,
            (_, Outcome::Skip) => Status::Skip,
            (_, Outcome::Fail) => Status::Fail,
            (_, Outcome::Crash) => Status::Crash,
            (_, Outcome::Timeout) => Status::Timeout,
            (_, Outcome::Error) => Status::Error,
        }
    }

    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Status::Pass => "pass",
            Status::Fixed => "fixed",
            Status::Flaky => "flaky",
            Status::Skip => "skip",
            Status::Known => "known",
            Status::Fail => "fail",
            Status::Crash => "crash",
            Status::Timeout => "timeout",
            Status::Error => "error",
        }
    }

    /// Whether the hypervisor kept the promise.
    pub const fn passes(self) -> bool {
        matches!(self, Status::Pass | Status::Fixed | Status::Flaky)
    }

    /// Whether somebody has to look at it.
    pub const fn bad(self) -> bool {
        matches!(
            self,
            Status::Fail | Status::Crash | Status::Timeout | Status::Error
        )
    }
}

/// What happened to a case between the baseline and the other columns, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It passed, and now it is bad.
    Regressed,
    /// It is bad, and the baseline does not hold it or skipped it.
    NewlyBad,
    /// It passed, and now its need is missing or nothing says what became of it.
    Lost,
    /// It was bad or known, and passes now.
    Fixed,
    /// The columns differ in another way.
    Differs,
    /// The baseline does not hold it.
    New,
    /// All columns agree.
    Same,
}

impl Change {
    /// All of them, in the order of reports.
    pub const ALL: [Change; 7] = [
        Change::Regressed,
        Change::NewlyBad,
        Change::Lost,
        Change::Fixed,
        Change::Differs,
        Change::New,
        Change::Same,
    ];

    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Change::Regressed => "regressed",
            Change::NewlyBad => "newly bad",
            Change::Lost => "lost",
            Change::Fixed => "fixed",
            Change::Differs => "differs",
            Change::New => "new",
            Change::Same => "same",
        }
    }
}

/// A column.
#[derive(Clone, Debug)]
pub struct Column {
    /// What people call it.
    pub label: String,
    /// The index of its run.
    pub run: usize,
    /// The hypervisor whose cases it holds, when the run has a column for each.
    part: Option<String>,
    /// The hypervisor or hypervisors, or nothing when a TAP file does not say.
    pub hypervisor: String,
    /// The hypervisor's versions, joined.
    pub version: String,
    /// Whether the run came to its end.
    pub complete: bool,
}

/// A row.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// The case's id.
    pub id: &'a str,
    /// What each column says.
    pub cells: Vec<Option<&'a Case>>,
    /// What happened.
    pub change: Change,
}

impl<'a> Row<'a> {
    /// What the columns know of the case itself.
    pub fn case(&self) -> Option<&'a Case> {
        let cells = || self.cells.iter().flatten().copied();
        // A TAP file knows no rule; another column may.
        cells()
            .find(|c| !c.rule.is_empty())
            .or_else(|| cells().next())
    }

    /// The status in column `i`.
    pub fn status(&self, i: usize) -> Option<Status> {
        self.cells[i].map(Status::of)
    }

    /// Whether some column has to be looked at.
    pub fn bad(&self) -> bool {
        (0..self.cells.len()).any(|i| self.status(i).is_some_and(Status::bad))
    }
}

/// The matrix. Rows are in the order of the first run that holds them.
#[derive(Clone, Debug, Default)]
pub struct Matrix<'a> {
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows.
    pub rows: Vec<Row<'a>>,
}

/// The hypervisors of `document`, in the order of its cases.
fn hypervisors(document: &Document) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for case in &document.cases {
        let name = case.hypervisor.as_str();
        if names.last() != Some(&name) && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn columns(runs: &[Run]) -> Vec<Column> {
    let mut columns = Vec::new();
    for (
        run,
        Run {
            label, document, ..
        },
    ) in runs.iter().enumerate()
    {
        let names = hypervisors(document);
        // Where each case ran on one hypervisor, whichever it was, the run is one column.
        let parts: Vec<Option<&str>> = match document.many {
            false => vec![None],
            true => names.iter().map(|name| Some(*name)).collect(),
        };
        for part in parts {
            let mut versions: Vec<&str> = document
                .hypervisors
                .iter()
                .filter(|h| part.is_none_or(|name| h.name == name))
                .filter_map(|h| h.version.as_deref())
                .collect();
            versions.dedup();
            columns.push(Column {
                label: match (part, runs.len()) {
                    (Some(name), 1) => name.to_owned(),
                    (Some(name), _) => format!("{label}: {name}"),
                    (None, _) => label.clone(),
                },
                run,
                part: part.map(str::to_owned),
                hypervisor: part.map_or_else(|| names.join(", "), str::to_owned),
                version: versions.join(", "),
                complete: document.complete,
            });
        }
    }
    columns
}

/// Puts `runs` side by side.
pub fn matrix(runs: &[Run]) -> Matrix<'_> {
    let columns = columns(runs);
    let mut index: HashMap<&str, usize> = HashMap::new();
    let mut rows: Vec<Row<'_>> = Vec::new();
    for (c, column) in columns.iter().enumerate() {
        let cases = &runs[column.run].document.cases;
        let mine = |case: &&Case| column.part.as_ref().is_none_or(|p| *p == case.hypervisor);
        for case in cases.iter().filter(mine) {
            let at = *index.entry(&case.id).or_insert_with(|| {
                rows.push(Row {
                    id: &case.id,
                    cells: vec![None; columns.len()],
                    change: Change::Same,
                });
                rows.len() - 1
            });
            rows[at].cells[c] = Some(case);
        }
    }
    for row in &mut rows {
        row.change = change(row);
    }
    Matrix { columns, rows }
}

fn change(row: &Row<'_>) -> Change {
    let statuses: Vec<Option<Status>> = (0..row.cells.len()).map(|i| row.status(i)).collect();
    let Some((before, later)) = statuses.split_first() else {
        return Change::Same;
    };
    let one = |now: &Option<Status>| match (*before, *now) {
        (before, now) if before == now => Change::Same,
        (Some(before), Some(now)) if before.passes() && now.bad() => Change::Regressed,
        (None | Some(Status::Skip), Some(now)) if now.bad() => Change::NewlyBad,
        (Some(before), None | Some(Status::Skip)) if before.passes() => Change::Lost,
        (Some(before), Some(now)) if before.passes() && now.passes() => Change::Differs,
        (Some(before), Some(now)) if before != Status::Skip && now.passes() => Change::Fixed,
        (None, Some(_)) => Change::New,
        _ => Change::Differs,
    };
    later.iter().map(one).min().unwrap_or(Change::Same)
}

/// Cases by status, for each column.
pub type Counts = Vec<BTreeMap<Status, usize>>;

impl Matrix<'_> {
    /// How many rows have each change.
    pub fn changes(&self) -> BTreeMap<Change, usize> {
        let mut counts = BTreeMap::new();
        for row in &self.rows {
            *counts.entry(row.change).or_default() += 1;
        }
        counts
    }

    /// Counts per column.
    pub fn totals(&self) -> Counts {
        let mut counts = vec![BTreeMap::new(); self.columns.len()];
        self.rows.iter().for_each(|row| add(&mut counts, row));
        counts
    }

    /// Every group with its counts. Cases without a group count for their unit.
    pub fn groups(&self) -> BTreeMap<String, Counts> {
        let mut groups: BTreeMap<String, Counts> = BTreeMap::new();
        for row in &self.rows {
            let Some(case) = row.case() else { continue };
            let mut names: Vec<&str> = case.groups.iter().map(String::as_str).collect();
            names.sort_unstable();
            names.dedup();
            if names.is_empty() {
                names.push(unit(&case.id));
            }
            for name in names {
                let counts = groups
                    .entry(name.to_owned())
                    .or_insert_with(|| vec![BTreeMap::new(); self.columns.len()]);
                add(counts, row);
            }
        }
        groups
    }

    /// Cases that took at least twice as long in the last column as in the first, and half a
    /// second more: less than that is noise.
    pub fn slower(&self) -> Vec<(&str, f64, f64)> {
        let times = |row: &Row<'_>| {
            let (first, last) = (row.cells.first()?.as_ref()?, row.cells.last()?.as_ref()?);
            Some((first.duration_ms, last.duration_ms))
        };
        let slower =
            |before: f64, now: f64| before > 0.0 && now - before >= 500.0 && now >= 2.0 * before;
        let rows = self.rows.iter().filter_map(|row| {
            let (before, now) = times(row)?;
            slower(before, now).then_some((row.id, before, now))
        });
        rows.collect()
    }
}

fn add(counts: &mut Counts, row: &Row<'_>) {
    for (i, counts) in counts.iter_mut().enumerate() {
        if let Some(status) = row.status(i) {
            *counts.entry(status).or_default() += 1;
        }
    }
}

/// `<arch>/<unit>` of a case's id, or the id when it has no such form.
pub fn unit(id: &str) -> &str {
    let end = id.match_indices('/').nth(1).map_or(id.len(), |(i, _)| i);
    &id[..end]
}

/// `3 pass, 1 fail`.
pub fn words(counts: &BTreeMap<Status, usize>) -> String {
    let words: Vec<String> = counts
        .iter()
        .map(|(s, n)| format!("{n} {}", s.word()))
        .collect();
    words.join(", ")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::report::json::SCHEMA;
    use crate::runs::blank;

    /// A run of cases written as `id=word`, where the word is a status.
    pub(crate) fn run(label: &str, hypervisor: &str, cases: &str) -> Run {
        let cases = cases.split_whitespace().enumerate().map(|(i, word)| {
            let (id, word) = word.split_once('=').unwrap();
            let outcome = match word {
                "fixed" | "flaky" => Outcome::Pass,
                "known" => Outcome::Fail,
                _ => *Outcome::ALL.iter().find(|o| o.word() == word).unwrap(),
            };
            let verdict = match (word, outcome) {
                ("fixed" | "flaky" | "known", _) => word,
                (_, Outcome::Pass | Outcome::Skip) => "expected",
                _ => "unexpected",
            };
            Case {
                number: i + 1,
                id: id.to_owned(),
                hypervisor: hypervisor.into(),
                outcome,
                verdict: verdict.to_owned(),
                ..blank()
            }
        });
        let document = Document {
            schema: SCHEMA.into(),
            run: label.into(),
            shard: None,
            many: false,
            complete: true,
            duration_s: 1.0,
            hypervisors: Vec::new(),
            cases: cases.collect(),
        };
        Run {
            label: label.into(),
            dir: None,
            document,
        }
    }

    #[test]
    fn rows_say_what_happened_since_the_baseline() {
        let before = "a=pass b=pass c=fail d=skip e=pass f=known g=fail h=pass i=pass";
        let after = "a=pass b=fail c=pass d=pass e=skip f=fixed g=crash i=flaky j=fail k=pass";
        let runs = [run("A", "q", before), run("B", "q", after)];
        let matrix = matrix(&runs);
        let got: Vec<String> = matrix
            .rows
            .iter()
            .map(|r| format!("{} {}", r.id, r.change.word()))
            .collect();
        let expected = "a same,b regressed,c fixed,d differs,e lost,f fixed,g differs,h lost,\
                        i differs,j newly bad,k new";
        assert_eq!(got.join(","), expected);
        assert_eq!(matrix.columns[1].label, "B");
    }

    #[test]
    fn the_worst_of_several_columns_decides() {
        let words = ["a=pass", "a=fail", "a=pass"];
        let runs = words.map(|w| run("A", "q", w));
        assert_eq!(matrix(&runs).rows[0].change, Change::Regressed);
        // A deviation that is known has been accepted.
        let runs = ["a=pass", "a=known"].map(|w| run("A", "q", w));
        assert_eq!(matrix(&runs).rows[0].change, Change::Differs);
    }

    #[test]
    fn a_run_on_several_hypervisors_has_several_columns() {
        let mut both = run("A", "q", "a=pass b=pass");
        let other = run("", "bochs", "a=fail").document.cases;
        both.document.cases.extend(other);
        both.document.many = true;
        let runs = [both];
        let matrix = matrix(&runs);
        let labels: Vec<&str> = matrix.columns.iter().map(|c| c.label.as_str()).collect();
        assert_eq!(labels, ["q", "bochs"]);
        assert_eq!(matrix.rows[0].change, Change::Regressed);
        assert_eq!(matrix.rows[1].change, Change::Lost);
        assert_eq!(words(&matrix.totals()[0]), "2 pass");
    }

    #[test]
    fn groups_are_counted_and_units_stand_in_for_them() {
        let mut run = run(
            "A",
            "q",
            "x86/svm/t/a=pass x86/svm/t/b=fail x86/apic/t/c=pass",
        );
        run.document.cases[0].groups = vec!["svm".into(), "svm".into(), "slow".into()];
        let runs = [run];
        let groups = matrix(&runs).groups();
        let names: Vec<&String> = groups.keys().collect();
        assert_eq!(names, ["slow", "svm", "x86/apic", "x86/svm"]);
        assert_eq!(words(&groups["svm"][0]), "1 pass");
        assert_eq!(words(&groups["x86/svm"][0]), "1 fail");
    }

    #[test]
    fn slower_cases_are_named() {
        let mut runs = ["a=pass b=pass", "a=pass b=pass"].map(|w| run("A", "q", w));
        for (i, times) in [[400.0, 1.0], [1000.0, 400.0]].iter().enumerate() {
            for (case, ms) in runs[i].document.cases.iter_mut().zip(times) {
                case.duration_ms = *ms;
            }
        }
        assert_eq!(matrix(&runs).slower(), [("a", 400.0, 1000.0)]);
    }
}
