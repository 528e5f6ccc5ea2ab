//! Writes the reports of a run that is over, from its results.json.

use super::{Header, Line, Report, Summary};
use crate::arch::Arch;
use crate::catalog::CatalogUnit;
use crate::error::{Error, Result};
use crate::expectations::{Reason, Verdict};
use crate::manifest::{DEFAULT_TIMEOUT_S, DEFAULT_UNIT_TIMEOUT_S, Machine, Unit};
use crate::outcome::CaseResult;
use crate::payload::{self, Ends, Payload};
use crate::plan::Plan;
use crate::report::json::{Case, Document};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Feeds `document`, whose logs are in `dir`, to `reports`; returns its summary.
pub fn replay(
    document: &Document,
    dir: &str,
    reports: &mut [Box<dyn Report + '_>],
) -> Result<Summary> {
    let many = document.many;
    let plan = Plan {
        cases: document.cases.len(),
        many,
        ..Plan::default()
    };
    let header = Header {
        plan: &plan,
        run: &document.run,
    };
    let mut summary = Summary {
        dir: dir.into(),
        stopped: !document.complete,
        duration: Duration::try_from_secs_f64(document.duration_s).unwrap_or_default(),
        ..Summary::default()
    };
    let mut each = |call: &mut dyn FnMut(&mut dyn Report) -> io::Result<()>| {
        let written = reports.iter_mut().try_for_each(|r| call(r.as_mut()));
        written.map_err(|e| Error::usage(format!("cannot write a report: {e}")))
    };
    each(&mut |r| r.started(&header))?;
    for (i, case) in document.cases.iter().enumerate() {
        let Some((unit, record)) = record(case) else {
            let why = "reports are written of runs of this runner, and this id has another form";
            return Err(Error::usage(format!("'{}': {why}", case.id)));
        };
        let unit = CatalogUnit {
            unit: Arc::new(unit),
            payload: Arc::new(Payload {
                path: PathBuf::new(),
                cases: vec![record.clone()],
            }),
            numbers: vec![0],
        };
        let result = result(case);
        let verdict = verdict(case);
        let bad = verdict == Verdict::Unexpected;
        summary.count(&result, &verdict, bad);
        let title = match many {
            true => format!("{}/{}", case.hypervisor, case.id),
            false => case.id.clone(),
        };
        let log = format!("{dir}/{}", case.log);
        let line = Line {
            number: i + 1,
            place: case.place,
            title: &title,
            id: &case.id,
            unit: &unit,
            case: &record,
            hypervisor: &case.hypervisor,
            result: &result,
            verdict: &verdict,
            bad,
            log: &log,
            command: &case.command,
        };
        each(&mut |r| r.case(&line))?;
    }
    each(&mut |r| r.finished(&summary))?;
    Ok(summary)
}

/// The unit and the record that `case` came from, as far as the document tells.
fn record(case: &Case) -> Option<(Unit, payload::Case)> {
    let (arch, rest) = case.id.split_once('/')?;
    let (name, path) = rest.split_once('/')?;
    let unit = Unit {
        name: name.into(),
        arch: Arch::from_word(arch)?,
        payload: name.into(),
        groups: Vec::new(),
        machine: Machine::default(),
        cases: Vec::new(),
        timeout_s: DEFAULT_TIMEOUT_S,
        unit_timeout_s: DEFAULT_UNIT_TIMEOUT_S,
        args: String::new(),
        at: String::new(),
    };
    let record = payload::Case {
        path: path.into(),
        doc: case.rule.clone(),
        spec: case.spec.clone().unwrap_or_default(),
        needs: Vec::new(),
        groups: case.groups.clone(),
        at: case.at.clone(),
        timeout_s: None,
        ends: Ends::Returns,
    };
    Some((unit, record))
}

fn result(case: &Case) -> CaseResult {
    CaseResult {
        outcome: case.outcome,
        need: case.need.clone(),
        kind: case.kind,
        diagnostic: case.diagnostic.clone(),
        duration: Duration::try_from_secs_f64(case.duration_ms / 1e3).unwrap_or_default(),
        console: case.console.clone(),
        attempts: case.attempts.clone(),
    }
}

fn verdict(case: &Case) -> Verdict {
    let reason = || Reason {
        text: case.known.clone().unwrap_or_default(),
        reference: case.reference.clone().unwrap_or_default(),
    };
    match case.verdict.as_str() {
        "expected" => Verdict::Expected,
        "known" => Verdict::Known(reason()),
        "fixed" => Verdict::Fixed(reason()),
        "flaky" => Verdict::Flaky(case.known.clone().unwrap_or_default()),
        _ => Verdict::Unexpected,
    }
}
