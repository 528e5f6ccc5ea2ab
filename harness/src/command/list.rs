//! `assay list`: units, cases, groups, needs. Boots nothing.

use crate::catalog::{self, Catalog};
use crate::cli::{ListOptions, Place, SelectOptions};
use crate::error::Result;
use crate::select::{Request, select};
use crate::workspace::Workspace;
use assay_protocol::need::NEEDS;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Lists what `options` asks for.
pub fn list(place: &Place, options: &ListOptions) -> Result<u8> {
    let catalog = selected(place, &options.select)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let done = match () {
        () if options.by_group => groups(&mut out, &catalog, options.json),
        () if options.needs => needs(&mut out, &catalog, options.json),
        () if options.cases => cases(&mut out, &catalog, options.json),
        () => units(&mut out, &catalog, options.json),
    };
    super::written(done.and_then(|()| out.flush()).map(|()| 0))
}

/// The cases that `options` selects. With nothing asked for that is the default selection.
pub fn selected(place: &Place, options: &SelectOptions) -> Result<Catalog> {
    let workspace = Workspace::find(place)?;
    let (request, archs): (Request, _) = options.request()?;
    let catalog = catalog::load(&workspace.manifest, &workspace.payloads, &archs)?;
    select(&catalog, &request)
}

fn document(out: &mut impl Write, key: &str, values: Vec<Value>) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &json!({ key: values }))?;
    writeln!(out)
}

/// One id per line, or one object per case.
pub fn cases(out: &mut impl Write, catalog: &Catalog, json: bool) -> io::Result<()> {
    if !json {
        return catalog.ids().try_for_each(|id| writeln!(out, "{id}"));
    }
    let values = catalog.units.iter().flat_map(|u| {
        u.numbers.iter().map(move |n| {
            let case = u.case(*n);
            let groups: Vec<&String> = u.unit.groups.iter().chain(&case.groups).collect();
            json!({
                "id": u.id(*n), "rule": case.doc, "spec": case.spec, "needs": case.needs,
                "groups": groups, "at": case.at, "timeout_s": case.timeout_s.unwrap_or(u.unit.timeout_s),
            })
        })
    });
    document(out, "cases", values.collect())
}

/// One unit per line with its cases, CPUs and groups, or one object per unit.
pub fn units(out: &mut impl Write, catalog: &Catalog, json: bool) -> io::Result<()> {
    if json {
        let values = catalog.units.iter().map(|u| {
            json!({
                "unit": u.unit.id(), "payload": u.unit.payload, "groups": u.unit.groups,
                "cases": u.numbers.len(), "machine": u.unit.machine, "defined": u.unit.at,
            })
        });
        return document(out, "units", values.collect());
    }
    for u in &catalog.units {
        let groups = u.unit.groups.join(" ");
        let (id, cases) = (u.unit.id(), u.numbers.len());
        writeln!(
            out,
            "{id:<32} {cases:>4} cases  {:>2} cpus  {groups}",
            u.unit.machine.cpus()
        )?;
    }
    Ok(())
}

fn groups(out: &mut impl Write, catalog: &Catalog, json: bool) -> io::Result<()> {
    let count = |group: &str| -> usize {
        let in_group =
            |u: &&catalog::CatalogUnit| u.numbers.iter().filter(|n| u.in_group(**n, group)).count();
        catalog.units.iter().map(|u| in_group(&u)).sum()
    };
    let groups: BTreeMap<&str, usize> = catalog
        .groups()
        .into_iter()
        .map(|g| (g, count(g)))
        .collect();
    counted(
        out,
        "groups",
        groups.into_iter().map(|(g, n)| (g.to_owned(), n, "")),
        json,
    )
}

fn needs(out: &mut impl Write, catalog: &Catalog, json: bool) -> io::Result<()> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for unit in &catalog.units {
        for need in unit.numbers.iter().flat_map(|n| &unit.case(*n).needs) {
            *counts.entry(need.clone()).or_default() += 1;
        }
    }
    let words: Vec<_> = NEEDS
        .iter()
        .map(|need| {
            (
                need.word.to_owned(),
                counts.remove(need.word).unwrap_or(0),
                need.means,
            )
        })
        .collect();
    // What is left are needs with a number in them.
    let numbered = counts.into_iter().map(|(need, n)| (need, n, ""));
    counted(out, "needs", words.into_iter().chain(numbered), json)
}

fn counted<'a>(
    out: &mut impl Write,
    key: &str,
    rows: impl Iterator<Item = (String, usize, &'a str)>,
    json: bool,
) -> io::Result<()> {
    if json {
        let values = rows.map(|(word, cases, means)| match means {
            "" => json!({ "word": word, "cases": cases }),
            means => json!({ "word": word, "cases": cases, "means": means }),
        });
        return document(out, key, values.collect());
    }
    for (word, cases, means) in rows {
        writeln!(
            out,
            "{}",
            format!("{cases:>6} {word:<28} {means}").trim_end()
        )?;
    }
    Ok(())
}
