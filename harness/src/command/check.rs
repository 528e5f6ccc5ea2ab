//! `assay check`: everything that can be wrong without booting anything.

use crate::arch::Arch;
use crate::catalog::{self, Catalog};
use crate::cli::{CheckOptions, Place};
use crate::error::{Error, Result, did_you_mean, exit};
use crate::expectations::Expectations;
use crate::hypervisor::NAMES;
use crate::hypervisor::kvm::EMULATED_FILE;
use crate::specs::Specs;
use crate::workspace::Workspace;
use assay_protocol::need;
use glob::Pattern;
use std::collections::BTreeSet;
use std::path::Path;

/// Checks the workspace; prints what is wrong, one line each.
pub fn check(place: &Place, options: &CheckOptions) -> Result<u8> {
    let workspace = Workspace::find(place)?;
    let catalog = catalog::load(&workspace.manifest, &workspace.payloads, &Arch::ALL)?;
    let ids: BTreeSet<String> = catalog.ids().collect();
    let mut wrong = Vec::new();
    needs_and_specs(&catalog, &workspace.root, &mut wrong);
    coverage(&workspace.root, &ids, &mut wrong);
    expectations(&workspace.root, &ids, &mut wrong)?;
    globs(&catalog, &mut wrong);
    list_of_cases(
        &workspace.root.join("cases.txt"),
        &ids,
        options.write,
        &mut wrong,
    )?;
    wrong.iter().for_each(|line| eprintln!("assay: {line}"));
    let (units, cases) = (catalog.units.len(), ids.len());
    eprintln!("{units} units, {cases} cases, {} complaints", wrong.len());
    Ok(if wrong.is_empty() {
        exit::OK
    } else {
        exit::UNEXPECTED
    })
}

fn needs_and_specs(catalog: &Catalog, root: &Path, wrong: &mut Vec<String>) {
    let page = std::fs::read_to_string(root.join("docs/specs.md")).unwrap_or_default();
    let specs = Specs::parse(&page);
    let mut seen = BTreeSet::new();
    for unit in &catalog.units {
        for number in &unit.numbers {
            let case = unit.case(*number);
            // A payload may serve several units; its cases are complained about once.
            if !seen.insert((&unit.payload.path, number)) {
                continue;
            }
            for word in case.needs.iter().filter(|word| need::parse(word).is_none()) {
                let hint = did_you_mean(word, need::NEEDS.iter().map(|n| n.word));
                wrong.push(format!("{}: unknown need '{word}'{hint}", case.at));
            }
            let spec = &case.spec;
            if spec.is_empty() {
                wrong.push(format!("{}: {} cites no specification", case.at, case.path));
            } else if !specs.knows(spec) {
                wrong.push(format!("{}: '{spec}' has no row in docs/specs.md", case.at));
            }
            if case.doc.is_empty() {
                wrong.push(format!("{}: {} states no rule", case.at, case.path));
            }
        }
    }
}

/// Every id in the tables of coverage is that of a case.
fn coverage(root: &Path, ids: &BTreeSet<String>, wrong: &mut Vec<String>) {
    let Ok(files) = std::fs::read_dir(root.join("docs")) else {
        return;
    };
    let mut files: Vec<_> = files.flatten().map(|f| f.path()).collect();
    files.sort();
    for path in files {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let name = file
            .strip_prefix("coverage-")
            .and_then(|n| n.strip_suffix(".md"));
        let Some(name) = name else { continue };
        let page = std::fs::read_to_string(&path).unwrap_or_default();
        for named in crate::coverage::named(name, &page) {
            if !named.fits(ids.iter().map(String::as_str)) {
                let (line, text) = (named.line, named.text);
                wrong.push(format!("docs/{file}:{line}: '{text}' matches no case"));
            }
        }
    }
}

/// Every file of expectations is valid, belongs to a hypervisor and concerns some case.
fn expectations(root: &Path, ids: &BTreeSet<String>, wrong: &mut Vec<String>) -> Result<()> {
    let Ok(files) = std::fs::read_dir(root.join("expectations")) else {
        return Ok(());
    };
    let mut files: Vec<_> = files.flatten().map(|f| f.path()).collect();
    files.sort();
    for path in files
        .iter()
        .filter(|p| p.extension().is_some_and(|e| e == "yaml"))
    {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        // What every VMM on KVM's emulator shares has a file of its own.
        if !NAMES.contains(&&*name) && name != EMULATED_FILE {
            let hint = did_you_mean(&name, NAMES.iter().copied());
            wrong.push(format!(
                "expectations/{name}.yaml: no such hypervisor{hint}"
            ));
        }
        let known = Expectations::load(path)?;
        for (i, j) in known.overlaps(ids.iter().map(String::as_str)) {
            wrong.push(format!(
                "expectations/{name}.yaml: entries {} ('{}') and {} ('{}') claim the same case",
                i + 1,
                known.entries[i].id,
                j + 1,
                known.entries[j].id
            ));
        }
        for entry in known.entries {
            if !ids.iter().any(|id| entry.covers_id(id)) {
                wrong.push(format!(
                    "expectations/{name}.yaml: '{}' matches no case",
                    entry.id
                ));
            }
        }
    }
    Ok(())
}

/// A `cases:` glob of a unit that matches nothing is a mistake.
fn globs(catalog: &Catalog, wrong: &mut Vec<String>) {
    for unit in &catalog.units {
        let used = |glob: &Pattern| unit.payload.cases.iter().any(|c| glob.matches(&c.path));
        for glob in unit.unit.cases.iter().filter(|glob| !used(glob)) {
            wrong.push(format!("{}: cases: '{glob}' matches no case", unit.unit.at));
        }
        if unit.numbers.is_empty() {
            wrong.push(format!(
                "{}: unit '{}' holds no case",
                unit.unit.at,
                unit.unit.id()
            ));
        }
    }
}

/// `cases.txt` lists every id, so that a rename shows in review.
fn list_of_cases(
    path: &Path,
    ids: &BTreeSet<String>,
    write: bool,
    wrong: &mut Vec<String>,
) -> Result<()> {
    if write {
        let text: String = ids.iter().map(|id| format!("{id}\n")).collect();
        return std::fs::write(path, text).map_err(|e| Error::file("write", path, e));
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let listed: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    let cure = "`assay check --write` writes it anew; a rename belongs into CHANGELOG.md";
    let gone: Vec<_> = listed.difference(ids).collect();
    let new: Vec<_> = ids.difference(&listed).collect();
    for (list, what) in [(gone, "lists a case that is gone"), (new, "lacks a case")] {
        if let Some(first) = list.first() {
            wrong.push(format!(
                "cases.txt {what}: {first} ({} in all); {cure}",
                list.len()
            ));
        }
    }
    let sorted: String = listed.iter().map(|id| format!("{id}\n")).collect();
    if sorted != text && listed == *ids {
        wrong.push(format!("cases.txt is not sorted; {cure}"));
    }
    Ok(())
}
