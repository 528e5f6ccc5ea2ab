//! A matrix as one HTML page that needs nothing else: no server, no network, no other file.
//!
//! The rows are plain HTML, so the page shows its matrix without scripts too. The script adds
//! filters and opens what lies behind a cell. Everything that a guest wrote is text here, never
//! markup: it is escaped in the rows, and in the data no `<` survives.

use crate::command::compare::letter;
use crate::matrix::{Change, Matrix, Row, Status, matrix, unit, words};
use crate::outcome::Attempt;
use crate::report::json::{Case, Document};
use crate::runs::Run;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// Lines of a console that a cell shows.
const EXCERPT: usize = 60;
/// Characters of such a line.
const WIDTH: usize = 240;
/// The largest log that is searched for an excerpt, in bytes.
const LOG: u64 = 32 << 20;

/// `text` as HTML text or attribute value.
fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// The page of one run, which is not yet a directory.
pub fn write(document: &Document, out: &mut dyn Write) -> io::Result<()> {
    let runs = [Run {
        label: document.run.clone(),
        dir: None,
        document: document.clone(),
    }];
    out.write_all(page(&matrix(&runs), &runs).as_bytes())
}

/// The page.
pub fn page(matrix: &Matrix<'_>, runs: &[Run]) -> String {
    // What differs or is bad comes first; within that, plan order.
    let mut rows: Vec<&Row<'_>> = matrix.rows.iter().collect();
    rows.sort_by_key(|row| (row.change, !row.bad()));
    let single = matrix.columns.len() == 1;
    let mut out = String::new();
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>Assay: {} cases</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n\
         <a class=\"skip-link\" href=\"#matrix\">To the matrix</a>\n",
        rows.len()
    );
    head(&mut out, matrix);
    filters(&mut out, matrix, single);
    table(&mut out, matrix, &rows, single);
    groups(&mut out, matrix);
    let _ = write!(
        out,
        "<footer>Written by assay {}. Arrow keys move within a column, Escape closes a cell.\
         <noscript> Filters and details need scripts.</noscript></footer>\n\
         <script type=\"application/json\" id=\"data\">{}</script>\n\
         <script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION"),
        data(matrix, runs, &rows)
    );
    out
}

fn head(out: &mut String, matrix: &Matrix<'_>) {
    let changes = matrix.changes();
    let of = |change| changes.get(&change).copied().unwrap_or(0);
    let mut sub = format!("{} cases", matrix.rows.len());
    if matrix.columns.len() > 1 {
        let _ = write!(
            sub,
            ", {} columns: {} differ, {} regressed against A, {} fixed",
            matrix.columns.len(),
            matrix.rows.len() - of(Change::Same),
            of(Change::Regressed) + of(Change::NewlyBad),
            of(Change::Fixed)
        );
    }
    let _ = write!(
        out,
        "<header>\n<h1>Assay</h1>\n<p class=\"sub\">{sub}</p>\n\
         <ul class=\"cards\" aria-label=\"Columns\">\n"
    );
    for (i, (column, counts)) in matrix.columns.iter().zip(matrix.totals()).enumerate() {
        let all: usize = counts.values().sum();
        let mut bar = String::new();
        for (status, n) in &counts {
            let (word, percent) = (status.word(), *n as f64 * 100.0 / all.max(1) as f64);
            let _ = write!(
                bar,
                "<i class=\"{word}\" style=\"width:{percent:.2}%\"></i>"
            );
        }
        let mut meta = format!("{} {}", column.hypervisor, column.version);
        if !column.complete {
            meta += ", cut short";
        }
        let _ = writeln!(
            out,
            "<li class=\"card\"><b>{}: {}</b> <span class=\"meta\">{}</span>\
             <div class=\"bar\" aria-hidden=\"true\">{bar}</div>\
             <div class=\"words\">{}</div></li>",
            letter(i),
            text(&column.label),
            text(meta.trim()),
            words(&counts)
        );
    }
    out.push_str("</ul>\n</header>\n");
}

fn filters(out: &mut String, matrix: &Matrix<'_>, single: bool) {
    let mut names: BTreeSet<&str> = BTreeSet::new();
    let mut units: BTreeSet<&str> = BTreeSet::new();
    let mut statuses: BTreeMap<Status, usize> = BTreeMap::new();
    for row in &matrix.rows {
        let case = row.case();
        names.extend(case.iter().flat_map(|c| &c.groups).map(String::as_str));
        units.insert(unit(row.id));
        let found: BTreeSet<Status> = (0..row.cells.len()).filter_map(|i| row.status(i)).collect();
        for status in found {
            *statuses.entry(status).or_default() += 1;
        }
    }
    let options = |words: &BTreeSet<&str>| -> String {
        let option = |word: &&str| format!("<option>{}</option>", text(word));
        words.iter().map(option).collect()
    };
    let mut chips = String::new();
    for (status, n) in &statuses {
        let word = status.word();
        let _ = write!(
            chips,
            "<label class=\"chip\"><input type=\"checkbox\" name=\"outcome\" value=\"{word}\">\
             <span class=\"{word}\">{word}</span> {n}</label>"
        );
    }
    let _ = write!(
        out,
        "<form class=\"filters\" id=\"filters\" role=\"search\" aria-label=\"Filter cases\" hidden>\n\
         <label>Text in id, rule, message<input type=\"search\" id=\"q\" autocomplete=\"off\"></label>\n\
         <label>Group<select id=\"group\"><option value=\"\">all</option>{}</select></label>\n\
         <label>Unit<select id=\"unit\"><option value=\"\">all</option>{}</select></label>\n\
         <fieldset><legend>Outcome in any column</legend>{chips}</fieldset>\n\
         <label class=\"chip\"{}><input type=\"checkbox\" id=\"diff\">only differences</label>\n\
         <button type=\"reset\">Reset</button>\n\
         <output id=\"count\" aria-live=\"polite\"></output>\n</form>\n",
        options(&names),
        options(&units),
        if single { " hidden" } else { "" }
    );
}

fn table(out: &mut String, matrix: &Matrix<'_>, rows: &[&Row<'_>], single: bool) {
    out.push_str(
        "<main id=\"matrix\">\n<div class=\"scroll\">\n<table>\n\
         <caption class=\"hidden-text\">Outcome of each case in each column. A cell opens its \
         details.</caption>\n<thead><tr><th scope=\"col\">Case</th>",
    );
    for (i, column) in matrix.columns.iter().enumerate() {
        let label = text(&column.label);
        let name = if single {
            label
        } else {
            format!("{}: {label}", letter(i))
        };
        let _ = write!(out, "<th scope=\"col\">{name}</th>");
    }
    out.push_str("</tr></thead>\n<tbody id=\"rows\">\n");
    for (r, row) in rows.iter().enumerate() {
        let unit = unit(row.id);
        let _ = write!(
            out,
            "<tr data-r=\"{r}\"><th scope=\"row\" class=\"id\"><span class=\"dim\">{}</span>{}",
            text(unit),
            text(&row.id[unit.len()..])
        );
        if row.change != Change::Same {
            let word = row.change.word();
            let class = word.split(' ').next().unwrap_or_default();
            let _ = write!(out, "<span class=\"change {class}\">{word}</span>");
        }
        out.push_str("</th>");
        for c in 0..row.cells.len() {
            let _ = match row.status(c).map(Status::word) {
                Some(word) => write!(
                    out,
                    "<td><button type=\"button\" class=\"{word}\" data-c=\"{c}\" \
                     aria-expanded=\"false\">{word}</button></td>"
                ),
                None => write!(
                    out,
                    "<td class=\"none\" aria-label=\"not in this column\">–</td>"
                ),
            };
        }
        out.push_str("</tr>\n");
    }
    out.push_str(
        "</tbody>\n</table>\n</div>\n\
         <p class=\"empty\" id=\"empty\" hidden>No case matches these filters.</p>\n</main>\n",
    );
}

fn groups(out: &mut String, matrix: &Matrix<'_>) {
    out.push_str(
        "<section class=\"groups\" aria-labelledby=\"by-group\">\n<h2 id=\"by-group\">By group</h2>\n\
         <div class=\"scroll\"><table><thead><tr><th scope=\"col\">Group</th>",
    );
    for i in 0..matrix.columns.len() {
        let _ = write!(out, "<th scope=\"col\">{}</th>", letter(i));
    }
    out.push_str("</tr></thead><tbody>\n");
    for (name, counts) in matrix.groups() {
        let name = text(&name);
        let _ = write!(
            out,
            "<tr><th scope=\"row\"><button type=\"button\" data-group=\"{name}\">{name}</button></th>"
        );
        for counts in &counts {
            let _ = write!(out, "<td>{}</td>", words(counts));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n</section>\n");
}

/// What the script needs. Absent and empty values are left out: passes are most of the page.
fn data(matrix: &Matrix<'_>, runs: &[Run], rows: &[&Row<'_>]) -> String {
    let mut commands: Vec<&str> = Vec::new();
    let mut known: HashMap<&str, usize> = HashMap::new();
    let mut logs = Logs::default();
    let mut list = Vec::new();
    for row in rows {
        let case = row.case();
        let mut cells = Vec::new();
        for (column, cell) in matrix.columns.iter().zip(&row.cells) {
            let Some(cell) = cell else {
                cells.push(Value::Null);
                continue;
            };
            let mut value = cell_data(cell);
            if !cell.command.is_empty() {
                let n = *known.entry(&cell.command).or_insert_with(|| {
                    commands.push(&cell.command);
                    commands.len() - 1
                });
                value.insert("command".into(), json!(n));
            }
            let look = Status::of(cell).bad() || Status::of(cell) == Status::Known;
            if look
                && cell.console.is_empty()
                && let Some(dir) = &runs[column.run].dir
            {
                let lines = logs.excerpt(dir, cell);
                if !lines.is_empty() {
                    value.insert("console".into(), json!(lines));
                }
            }
            cells.push(Value::Object(value));
        }
        let mut groups: Vec<&str> = case.iter().flat_map(|c| &c.groups).map(|g| &**g).collect();
        groups.sort_unstable();
        groups.dedup();
        if groups.is_empty() {
            groups.push(unit(row.id));
        }
        list.push(json!({
            "id": row.id,
            "unit": unit(row.id),
            "groups": groups,
            "rule": case.map_or("", |c| c.rule.as_str()),
            "spec": case.and_then(|c| c.spec.as_deref()).unwrap_or_default(),
            "at": case.map_or("", |c| c.at.as_str()),
            "change": row.change.word(),
            "cells": cells,
        }));
    }
    let titles = matrix.columns.iter().map(|c| json!({ "title": c.label }));
    let columns: Vec<Value> = titles.collect();
    let data = json!({ "columns": columns, "commands": commands, "rows": list });
    // In a script element only `<` can end the element; JSON may escape it anywhere in a string.
    data.to_string().replace('<', "\\u003c")
}

fn cell_data(case: &Case) -> Map<String, Value> {
    let mut value = Map::new();
    value.insert("status".into(), json!(Status::of(case).word()));
    let d = &case.diagnostic;
    let known = match (&case.known, &case.reference) {
        (Some(text), Some(reference)) => Some(format!("{text} ({reference})")),
        (known, _) => known.clone(),
    };
    for (key, text) in [
        ("message", d.message.as_deref()),
        ("expected", d.expected.as_deref()),
        ("got", d.got.as_deref()),
        ("at", d.at.as_deref()),
        ("need", case.need.as_deref()),
        ("known", known.as_deref()),
        ("log", Some(case.log.as_str())),
        ("repro", Some(case.repro.as_str())),
    ] {
        if let Some(text) = text.filter(|t| !t.is_empty()) {
            value.insert(key.into(), json!(text));
        }
    }
    if let Some(kind) = case.kind {
        value.insert("kind".into(), json!(kind.word()));
    }
    let attempts: Vec<String> = case.attempts.iter().map(Attempt::text).collect();
    for (key, lines) in [
        ("notes", &d.notes),
        ("details", &d.details),
        ("console", &case.console),
        ("attempts", &attempts),
    ] {
        if !lines.is_empty() {
            value.insert(key.into(), json!(lines));
        }
    }
    if case.duration_ms > 0.0 {
        value.insert("ms".into(), json!(case.duration_ms));
    }
    value
}

/// Console logs, read once each.
#[derive(Default)]
struct Logs {
    read: HashMap<PathBuf, Vec<String>>,
}

impl Logs {
    /// What the guest said between the start of `case` and the next start.
    fn excerpt(&mut self, dir: &Path, case: &Case) -> Vec<String> {
        if case.log.is_empty() || case.log.contains('/') {
            return Vec::new();
        }
        let path = dir.join(&case.log);
        let lines = self.read.entry(path.clone()).or_insert_with(|| {
            let small = std::fs::metadata(&path).is_ok_and(|m| m.len() <= LOG);
            let bytes = if small {
                std::fs::read(&path)
            } else {
                Ok(Vec::new())
            };
            let text = bytes.unwrap_or_default();
            let short = |line: &str| line.chars().take(WIDTH).collect::<String>();
            String::from_utf8_lossy(&text).lines().map(short).collect()
        });
        let start = |line: &String| {
            let words = line
                .strip_prefix("# start ")
                .and_then(|l| l.split_once(' '));
            words.is_some_and(|(_, id)| id == case.id)
        };
        let Some(from) = lines.iter().position(start) else {
            return Vec::new();
        };
        let rest = lines[from..].iter().enumerate();
        let next = |line: &str| {
            ["# start ", "# assay: launch "]
                .iter()
                .any(|p| line.starts_with(p))
        };
        rest.take_while(|(i, line)| *i == 0 || !next(line))
            .take(EXCERPT)
            .map(|(_, line)| line.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::tests::run;

    #[test]
    fn nothing_a_guest_wrote_becomes_markup() {
        let evil = "</script><img src=x onerror=alert(1)>\"'&\u{1b}";
        let mut runs = [run("a", "q", "x/y/z=fail"), run("b", "q", "x/y/z=pass")];
        runs[0].document.cases[0].diagnostic.message = Some(evil.into());
        runs[0].document.cases[0].groups = vec![evil.into()];
        runs[1].label = evil.into();
        let page = page(&matrix(&runs), &runs);
        assert!(!page.contains("<img"), "{page}");
        assert_eq!(page.matches("</script>").count(), 2);
        assert!(page.contains("\\u003c/script>\\u003cimg"));
    }

    #[test]
    fn the_page_needs_nothing_from_outside() {
        let runs = [run("a", "q", "x/y/z=fail"), run("b", "q", "x/y/z=pass")];
        let page = page(&matrix(&runs), &runs);
        for outside in ["http:", "https:", "src=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("<span class=\"change fixed\">fixed</span>"));
    }

    #[test]
    fn the_console_of_a_failure_is_cut_out_of_the_log() {
        let dir = std::env::temp_dir().join(format!("assay-html-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let log =
            "command\n# start 1 x/y/a\nok 1 - x/y/a\n# start 2 x/y/z\nnot ok 2\n# start 3 x\n";
        std::fs::write(dir.join("u.log"), log).unwrap();
        let mut run = run("a", "q", "x/y/z=fail");
        run.document.cases[0].log = "u.log".into();
        let case = &run.document.cases[0];
        let lines = Logs::default().excerpt(&dir, case);
        assert_eq!(lines, ["# start 2 x/y/z", "not ok 2"]);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
