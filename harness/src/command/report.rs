//! `assay report`: the reports of a run that is over.

use super::merge;
use crate::cli::{Place, ReportOptions};
use crate::error::{Error, Result, exit};
use crate::matrix::matrix;
use crate::report::{self, Format, html, markdown, stored};
use crate::runs;
use crate::workspace::Workspace;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

/// Writes what `options` asks for. The exit code says nothing about the run.
pub fn report(place: &Place, options: &ReportOptions) -> Result<u8> {
    let name = options.run.as_deref().unwrap_or("last");
    // A path needs no workspace; only names of runs do.
    let path = match Workspace::find(place) {
        Ok(workspace) => runs::find(&workspace.runs(), name)?,
        Err(e) if options.run.is_none() => return Err(e),
        Err(_) => runs::find(Path::new("."), name)?,
    };
    let run = runs::read(&path)?;
    let dir = run.dir.as_deref().unwrap_or(Path::new("."));
    let dir = dir.display().to_string();
    let runs = [run];
    let matrix = matrix(&runs);
    // The page and the summary show the run as a directory: with excerpts of its logs.
    let text = |format: Format| match format {
        Format::Html => Some(html::page(&matrix, &runs)),
        Format::Markdown => Some(markdown::page(&matrix, options.verbose)),
        _ => None,
    };
    let mut targets = Vec::new();
    for target in &options.outputs {
        match text(target.format) {
            Some(text) => std::fs::write(&target.path, text)
                .map_err(|e| Error::file("write", &target.path, e))?,
            None => targets.push(target.clone()),
        }
    }
    let mut reports = merge::open(&targets, options.verbose)?;
    let stdout = io::stdout();
    match (options.format.and_then(text), options.format) {
        (Some(text), _) => {
            let written = stdout.lock().write_all(text.as_bytes());
            super::written(written.map(|()| exit::OK))?;
        }
        (None, None) if !options.outputs.is_empty() => {}
        (None, format) => {
            let color = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let format = format.unwrap_or(Format::Pretty);
            reports.push(report::open(format, stdout, color, options.verbose));
        }
    }
    if !reports.is_empty() {
        stored::replay(&runs[0].document, &dir, &mut reports)?;
    }
    Ok(exit::OK)
}
