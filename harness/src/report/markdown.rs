//! A matrix as Markdown, for a merge request: what changed first, the rest folded.

use crate::command::compare::letter;
use crate::matrix::{Change, Matrix, Row, Status, matrix, words};
use crate::report::json::Document;
use crate::runs::Run;
use std::fmt::Write as _;
use std::io::{self, Write};

/// Rows of one kind of change that are shown before the rest is only counted.
const MOST: usize = 100;

/// Text that Markdown leaves alone.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '&' => {
                out.push('\\');
                out.push(c);
            }
            '\n' | '\r' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// As code, where only a grave accent and a bar need care.
fn code(text: &str) -> String {
    format!("`{}`", text.replace('`', "'").replace('|', "\\|"))
}

fn mark(status: Option<Status>) -> String {
    match status {
        None => "–".into(),
        Some(s) if s.bad() => format!("**{}**", s.word()),
        Some(s) => s.word().into(),
    }
}

/// What the last column that is bad says.
fn why(row: &Row<'_>) -> String {
    let mut cells = row.cells.iter().rev().flatten();
    let Some(case) = cells.find(|c| Status::of(c).bad()) else {
        return String::new();
    };
    let d = &case.diagnostic;
    let mut text = d.message.clone().unwrap_or_default();
    if let (Some(expected), Some(got)) = (&d.expected, &d.got) {
        let _ = write!(text, ": expected {expected}, got {got}");
    }
    let short: String = text.chars().take(120).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    plain(&format!("{short}{more}"))
}

fn table(out: &mut String, matrix: &Matrix<'_>, rows: &[&Row<'_>]) {
    let letters: Vec<String> = (0..matrix.columns.len()).map(letter).collect();
    let _ = writeln!(out, "| case | {} | why |", letters.join(" | "));
    let _ = writeln!(out, "| --- |{} --- |", " --- |".repeat(letters.len()));
    for row in rows.iter().take(MOST) {
        let cells: Vec<String> = (0..letters.len()).map(|i| mark(row.status(i))).collect();
        let (id, cells) = (code(row.id), cells.join(" | "));
        let _ = writeln!(out, "| {id} | {cells} | {} |", why(row));
    }
    if rows.len() > MOST {
        let _ = writeln!(out, "\nand {} more", rows.len() - MOST);
    }
}

/// The summary of one run.
pub fn write(document: &Document, out: &mut dyn Write) -> io::Result<()> {
    let runs = [Run {
        label: document.run.clone(),
        dir: None,
        document: document.clone(),
    }];
    out.write_all(page(&matrix(&runs), false).as_bytes())
}

/// The matrix; with `all` also the rows that are the same everywhere.
pub fn page(matrix: &Matrix<'_>, all: bool) -> String {
    let mut out = String::new();
    let single = matrix.columns.len() == 1;
    let changes = matrix.changes();
    let of = |change| changes.get(&change).copied().unwrap_or(0);
    let _ = match single {
        true => writeln!(out, "### {} cases\n", matrix.rows.len()),
        false => writeln!(
            out,
            "### {} regressed, {} fixed, {} the same\n",
            of(Change::Regressed) + of(Change::NewlyBad),
            of(Change::Fixed),
            of(Change::Same)
        ),
    };
    let _ = writeln!(
        out,
        "| | run | hypervisor | outcomes |\n| --- | --- | --- | --- |"
    );
    for (i, (column, counts)) in matrix.columns.iter().zip(matrix.totals()).enumerate() {
        let cut = if column.complete { "" } else { " (cut short)" };
        let _ = writeln!(
            out,
            "| {} | {}{cut} | {} {} | {} |",
            letter(i),
            plain(&column.label),
            plain(&column.hypervisor),
            plain(&column.version),
            words(&counts)
        );
    }
    let shown = |row: &Row<'_>| match single {
        true => row.bad(),
        false => row.change != Change::Same,
    };
    for change in Change::ALL {
        let rows = matrix.rows.iter().filter(|r| r.change == change);
        let rows: Vec<&Row<'_>> = rows.filter(|r| shown(r)).collect();
        if !rows.is_empty() {
            let title = if single { "unexpected" } else { change.word() };
            let _ = writeln!(out, "\n#### {title}\n");
            table(&mut out, matrix, &rows);
        }
    }
    let rest: Vec<&Row<'_>> = matrix.rows.iter().filter(|r| !shown(r)).collect();
    if all && !rest.is_empty() {
        let _ = writeln!(
            out,
            "\n<details><summary>the other {}</summary>\n",
            rest.len()
        );
        table(&mut out, matrix, &rest);
        let _ = writeln!(out, "\n</details>");
    }
    let _ = writeln!(out, "\n<details><summary>by group</summary>\n");
    let letters: Vec<String> = (0..matrix.columns.len()).map(letter).collect();
    let _ = writeln!(out, "| group | {} |", letters.join(" | "));
    let _ = writeln!(out, "| --- |{}", " --- |".repeat(letters.len()));
    for (name, counts) in matrix.groups() {
        let cells: Vec<String> = counts.iter().map(words).collect();
        let _ = writeln!(out, "| {} | {} |", plain(&name), cells.join(" | "));
    }
    let _ = writeln!(out, "\n</details>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::tests::run;

    #[test]
    fn what_changed_comes_first_and_nothing_breaks_the_table() {
        let mut runs = [
            run("a|b", "q", "x/y/z=pass x/y/w=pass"),
            run("c", "q", "x/y/z=fail x/y/w=pass"),
        ];
        runs[1].document.cases[0].diagnostic.message = Some("a | b\n<c> `d`".into());
        let page = page(&matrix(&runs), true);
        assert!(page.starts_with("### 1 regressed, 0 fixed, 1 the same\n"));
        let row = "| `x/y/z` | pass | **fail** | a \\| b \\<c\\> \\`d\\` |";
        assert!(page.contains(row), "{page}");
        assert!(page.contains("| A | a\\|b | q  | 2 pass |"), "{page}");
        assert!(page.find("regressed\n").unwrap() < page.find("the other 1").unwrap());
    }
}
