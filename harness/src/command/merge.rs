//! `assay merge`: the run directories of shards become one.
//!
//! Cases know their place in the whole selection, so the merged run has the lines of the run that
//! was never cut, in the same order. What is missing is an error, not a smaller plan.

use crate::cli::MergeOptions;
use crate::error::{Error, Result};
use crate::report::json::{Case, Document};
use crate::report::{self, Format, Report, Target, stored};
use crate::runs::{self, RESULTS, Run};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal};
use std::path::Path;

/// Joins the runs; the exit code is that of the whole.
pub fn merge(options: &MergeOptions) -> Result<u8> {
    let mut runs = options
        .runs
        .iter()
        .map(|r| runs::read(r))
        .collect::<Result<Vec<Run>>>()?;
    if !options.partial {
        complete_shards(&runs)?;
    }
    let document = join(&runs, options.replace)?;
    if document.cases.is_empty() {
        return Err(Error::nothing("nothing to merge: these runs hold no case"));
    }
    let dir = &options.output_dir;
    std::fs::create_dir_all(dir).map_err(|e| Error::file("create folder", dir, e))?;
    copy_logs(&mut runs, dir)?;
    let document = join(&runs, options.replace)?;
    let terminal = io::stdout().is_terminal();
    let usual = if terminal {
        Format::Pretty
    } else {
        Format::Tap
    };
    let color = terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let format = options.format.unwrap_or(usual);
    let mut reports = vec![report::open(format, io::stdout(), color, false)];
    let own = [(Format::Tap, "results.tap"), (Format::Junit, "junit.xml")];
    let own = own.map(|(format, name)| Target {
        format,
        path: dir.join(name),
    });
    reports.extend(open(&own, false)?);
    reports.extend(open(&options.outputs, false)?);
    let summary = stored::replay(&document, &dir.display().to_string(), &mut reports)?;
    let path = dir.join(RESULTS);
    let file = File::create(&path).map_err(|e| Error::file("write", &path, e))?;
    report::json::write(&document, &mut BufWriter::new(file))
        .map_err(|e| Error::file("write", &path, e))?;
    Ok(summary.code())
}

/// Opens reports that write to files.
pub fn open(targets: &[Target], verbose: bool) -> Result<Vec<Box<dyn Report>>> {
    let open = |Target { format, path }: &Target| -> Result<Box<dyn Report>> {
        let out = File::create(path).map_err(|e| Error::file("write", path, e))?;
        Ok(report::open(*format, BufWriter::new(out), false, verbose))
    };
    targets.iter().map(open).collect()
}

/// Every part of every division must be there.
fn complete_shards(runs: &[Run]) -> Result<()> {
    let mut parts: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for run in runs {
        let shard = run.document.shard.as_deref();
        let numbers = shard.and_then(|s| s.split_once('/'));
        if let Some((Ok(part), Ok(of))) = numbers.map(|(k, n)| (k.parse(), n.parse())) {
            parts.entry(of).or_default().insert(part);
        }
    }
    for (of, parts) in parts {
        let missing = (1..=of).filter(|k| !parts.contains(k));
        let missing: Vec<String> = missing.map(|k| format!("{k}/{of}")).collect();
        if !missing.is_empty() {
            let list = missing.join(", ");
            return Err(Error::usage(format!(
                "shards are missing: {list} (--partial accepts that)"
            )));
        }
    }
    Ok(())
}

/// Copies console logs to `dir`; where two runs use one name, the later log gets another.
fn copy_logs(runs: &mut [Run], dir: &Path) -> Result<()> {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for (i, run) in runs.iter_mut().enumerate() {
        let Some(from) = run.dir.clone() else {
            continue;
        };
        let names: BTreeSet<String> = run.document.cases.iter().map(|c| c.log.clone()).collect();
        let mut renamed: HashMap<String, String> = HashMap::new();
        for name in names {
            if name.is_empty() || name.contains('/') {
                continue;
            }
            let stem = name.trim_end_matches(".log");
            let fresh = match taken.contains(&name) {
                true => format!("{stem}.run{}.log", i + 1),
                false => name.clone(),
            };
            let (source, target) = (from.join(&name), dir.join(&fresh));
            // A case that never ran left no log.
            if source.is_file() && source != target {
                std::fs::copy(&source, &target).map_err(|e| Error::file("copy", &source, e))?;
            }
            taken.insert(fresh.clone());
            renamed.insert(name, fresh);
        }
        for case in &mut run.document.cases {
            if let Some(fresh) = renamed.get(&case.log) {
                case.log.clone_from(fresh);
            }
        }
    }
    Ok(())
}

fn join(runs: &[Run], replace: bool) -> Result<Document> {
    let mut cases: Vec<Case> = Vec::new();
    let mut index: HashMap<(&str, &str), (usize, &str)> = HashMap::new();
    let mut hosts = Vec::new();
    for run in runs {
        for host in &run.document.hypervisors {
            if !hosts.contains(host) {
                hosts.push(host.clone());
            }
        }
        for case in &run.document.cases {
            let key = (case.hypervisor.as_str(), case.id.as_str());
            match index.get(&key) {
                None => {
                    index.insert(key, (cases.len(), &run.label));
                    cases.push(case.clone());
                }
                Some((at, _)) if replace => {
                    let place = cases[*at].place;
                    cases[*at] = Case {
                        place,
                        ..case.clone()
                    };
                }
                Some((_, first)) => {
                    return Err(Error::usage(format!(
                        "{} is in '{first}' and in '{}'; with --replace the later one has the word",
                        case.id, run.label
                    )));
                }
            }
        }
    }
    // Places count over all hypervisors of a run; runs of one hypervisor each count alike.
    let order: Vec<String> = hosts.iter().map(|h| h.name.clone()).collect();
    let rank = |case: &Case| order.iter().position(|name| *name == case.hypervisor);
    cases.sort_by_key(|case| (rank(case), case.place));
    for (i, case) in cases.iter_mut().enumerate() {
        case.number = i + 1;
    }
    let ids: BTreeSet<&str> = cases.iter().map(|c| c.id.as_str()).collect();
    let twice = ids.len() < cases.len();
    let names: Vec<&str> = runs.iter().map(|r| r.document.run.as_str()).collect();
    // They ran side by side, or might have.
    let seconds = runs.iter().map(|r| r.document.duration_s);
    Ok(Document {
        schema: report::json::SCHEMA.into(),
        run: names.join("+"),
        shard: None,
        many: runs.iter().any(|r| r.document.many) || twice,
        complete: runs.iter().all(|r| r.document.complete),
        duration_s: seconds.fold(0.0, f64::max),
        hypervisors: hosts,
        cases,
    })
}
