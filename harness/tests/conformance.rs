//! The conformance units as tests of `cargo test` and `cargo nextest`: one trial per unit.
//!
//! A unit is ignored, with its reason in its kind, when its payload is not built or its
//! hypervisor is not installed: `cargo test` works on a bare machine. `./run_tests.sh` is what
//! insists. The hypervisor is `ASSAY_TEST_HYPERVISOR`, or QEMU's emulation.

use assay::arch::Arch;
use assay::catalog::{self, CatalogUnit};
use assay::expectations::{Expectations, Verdict};
use assay::hypervisor::{self, Hypervisor};
use assay::interrupt::Interrupt;
use assay::payload::PayloadDir;
use assay::plan::plan;
use assay::run::{Settings, run};
use assay::select::{Request, select};
use libtest_mimic::{Arguments, Failed, Trial};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap_or_default()
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = match trials() {
        Ok(trials) => trials,
        Err(why) => {
            eprintln!("conformance: {why}");
            return ExitCode::FAILURE;
        }
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trials() -> Result<Vec<Trial>, String> {
    let root = root();
    let name = std::env::var("ASSAY_TEST_HYPERVISOR").unwrap_or_else(|_| "qemu-tcg".into());
    let cache = root.join("target/assay/cache");
    let hypervisor = hypervisor::find(&name, &cache).map_err(|e| e.to_string())?;
    let mut units =
        assay::manifest::load(&root.join("unittests.yaml")).map_err(|e| e.to_string())?;
    units.retain(|u| {
        !["selfcheck", "nodefault"]
            .iter()
            .any(|g| u.groups.iter().any(|h| h == g))
    });
    let dir = PayloadDir {
        root: root.clone(),
        over: None,
    };
    let mut trials = Vec::new();
    for unit in units {
        let title = unit.id().replace('/', "::");
        let path = dir.path(unit.arch, &unit.payload);
        let missing = match (path.exists(), hypervisor.probe(unit.arch)) {
            (false, _) => Some("payload not built; run ./run_tests.sh"),
            (_, Err(_)) => Some("hypervisor not installed"),
            _ => None,
        };
        if let Some(why) = missing {
            let trial = Trial::test(title, || Ok(()))
                .with_kind(why)
                .with_ignored_flag(true);
            trials.push(trial);
            continue;
        }
        let (hypervisor, root, dir) = (Arc::clone(&hypervisor), root.clone(), dir.clone());
        let trial = Trial::test(title, move || {
            let catalog = catalog::from_units(vec![unit], &dir).map_err(|e| e.to_string())?;
            // Cases that must be asked for stay out here too.
            let chosen = select(&catalog, &Request::default()).map_err(|e| e.to_string())?;
            chosen
                .units
                .into_iter()
                .try_for_each(|u| check(u, &hypervisor, &root))
        });
        trials.push(trial);
    }
    Ok(trials)
}

/// Runs `unit` and complains about every outcome that is not expected.
fn check(unit: CatalogUnit, hypervisor: &Arc<dyn Hypervisor>, root: &Path) -> Result<(), Failed> {
    let arch: Arch = unit.unit.arch;
    let runs = root.join("target/assay");
    let only = catalog::Catalog { units: vec![unit] };
    let plan = plan(&only, &[Arc::clone(hypervisor)], &runs.join("cache/images"))
        .map_err(|e| e.to_string())?;
    let job = &plan.jobs[0];
    let file = root
        .join("expectations")
        .join(format!("{}.yaml", hypervisor.name()));
    let expectations = Expectations::load(&file).map_err(|e| e.to_string())?;
    let version = hypervisor
        .probe(arch)
        .map(|o| o.version)
        .unwrap_or_default();
    let logs = runs.join("cargo-test");
    std::fs::create_dir_all(&logs)?;
    let scale = std::env::var("ASSAY_TIMEOUT_SCALE")
        .ok()
        .and_then(|s| s.parse().ok());
    let settings = Settings {
        timeout_s: None,
        // Trials run side by side, whatever CPUs they ask for.
        scale: scale.unwrap_or(2.0),
        interrupt: Interrupt::default(),
    };
    let report = run(job, &logs, &settings, &|_| ());
    let mut wrong = String::new();
    for (id, result) in job.ids().iter().zip(&report.results) {
        if expectations.judge(id, &version, result) == Verdict::Unexpected {
            let why = result.diagnostic.message.as_deref().unwrap_or_default();
            writeln!(wrong, "{} {id}: {why}", result.outcome)?;
        }
    }
    // A unit that only skips is no failure here: the hypervisor lacks what it needs.
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(format!("{wrong}log: {}", logs.join(&job.log).display()).into()),
    }
}
