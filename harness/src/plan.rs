//! The plan: every case that will get a line, numbered before anything boots.

use crate::arch::Arch;
use crate::catalog::{Catalog, CatalogUnit};
use crate::error::Result;
use crate::hypervisor::auto::Auto;
use crate::hypervisor::{Boot, Hypervisor, Offer, Unavailable};
use crate::payload;
use crate::refine::Shard;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A unit on a hypervisor.
#[derive(Clone)]
pub struct Job {
    /// The unit and its selected cases.
    pub unit: CatalogUnit,
    /// What runs it.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// What that offers, or why it cannot be used.
    pub offer: std::result::Result<Offer, Unavailable>,
    /// What is booted.
    pub image: PathBuf,
    /// The number of its first case in the plan, from 1.
    pub first: usize,
    /// File name of its console log, in the run directory.
    pub log: String,
    /// The numbers of its cases in the whole selection, before it was cut into shards.
    pub places: Vec<usize>,
    /// How often earlier attempts started its machine.
    pub launched: u32,
}

impl Job {
    /// The ids of its cases, in plan order.
    pub fn ids(&self) -> Vec<String> {
        self.unit.numbers.iter().map(|n| self.unit.id(*n)).collect()
    }

    /// Roughly how long it takes, in any unit: a case that asks its host for a service waits for
    /// the host.
    pub fn weight(&self) -> usize {
        let service = |n: &usize| {
            self.unit
                .case(*n)
                .needs
                .iter()
                .any(|need| need.starts_with("service."))
        };
        self.unit
            .numbers
            .iter()
            .map(|n| if service(n) { 25 } else { 1 })
            .sum()
    }
}

/// All jobs, in plan order.
#[derive(Clone, Default)]
pub struct Plan {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// How many cases there are.
    pub cases: usize,
    /// Whether more than one hypervisor is planned: descriptions then begin with its name.
    pub many: bool,
    /// The part that it is of the whole selection.
    pub shard: Option<Shard>,
}

impl Plan {
    /// What a report calls case `id` of `job`.
    pub fn title(&self, job: &Job, id: &str) -> String {
        match self.many {
            true => format!("{}/{id}", job.hypervisor.name()),
            false => id.to_owned(),
        }
    }
}

/// Plans the units of `selected` on each of `hypervisors`; flat images are written to `images`.
pub fn plan(
    selected: &Catalog,
    hypervisors: &[Arc<dyn Hypervisor>],
    images: &Path,
) -> Result<Plan> {
    let pairs = hypervisors.iter().flat_map(|h| {
        let units = selected.units.iter();
        let fits = units.filter(|u| h.archs().contains(&u.unit.arch));
        fits.map(move |u| (Arc::clone(h), u))
    });
    plan_pairs(pairs, hypervisors.len() > 1, images)
}

/// Plans each unit of `selected` on the one hypervisor that `auto` chooses for it.
pub fn plan_auto(selected: &Catalog, auto: &Auto, images: &Path) -> Result<Plan> {
    let pairs = selected.units.iter().map(|unit| (auto.choose(unit), unit));
    plan_pairs(pairs, false, images)
}

fn plan_pairs<'a>(
    pairs: impl Iterator<Item = (Arc<dyn Hypervisor>, &'a CatalogUnit)>,
    many: bool,
    images: &Path,
) -> Result<Plan> {
    let mut plan = Plan {
        many,
        ..Plan::default()
    };
    let mut offers: HashMap<(&str, Arch), std::result::Result<Offer, Unavailable>> = HashMap::new();
    for (hypervisor, unit) in pairs {
        let arch = unit.unit.arch;
        let offer = offers
            .entry((hypervisor.name(), arch))
            .or_insert_with(|| hypervisor.probe(arch))
            .clone();
        let image = match (&offer, hypervisor.boot(arch)) {
            (Ok(_), Boot::Image) => image(&unit.payload.path, arch, images)?,
            _ => unit.payload.path.clone(),
        };
        let log = format!("{}-{}-{arch}.log", unit.unit.name, hypervisor.name());
        let first = plan.cases + 1;
        plan.cases += unit.numbers.len();
        plan.jobs.push(Job {
            unit: unit.clone(),
            hypervisor,
            offer,
            image,
            first,
            log,
            places: (first..=plan.cases).collect(),
            launched: 0,
        });
    }
    Ok(plan)
}

/// The flat image of `elf`, written anew when it is older than the ELF file.
fn image(elf: &Path, arch: Arch, dir: &Path) -> Result<PathBuf> {
    use crate::error::Error;
    let time = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    let name = elf.file_name().unwrap_or_default().to_string_lossy();
    // Two payload directories may hold files of the same name.
    let place = elf
        .parent()
        .unwrap_or(Path::new(""))
        .as_os_str()
        .as_encoded_bytes();
    let hash = place.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
    });
    let path = dir.join(format!("{arch}-{name}-{:08x}.img", hash >> 32));
    if time(&path) > time(elf) {
        return Ok(path);
    }
    let bytes = payload::flat_image(elf, arch)?;
    let fresh = path.with_extension(format!("{}", std::process::id()));
    std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(&fresh, bytes))
        .and_then(|()| std::fs::rename(&fresh, &path))
        .map_err(|e| Error::file("write image", &path, e))?;
    Ok(path)
}
