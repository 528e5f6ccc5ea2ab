//! Everything that could run: the units of the manifest with the case tables of their payloads.

use crate::arch::Arch;
use crate::error::Result;
use crate::manifest::{self, Unit};
use crate::payload::{self, Case, Payload, PayloadDir};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

/// A unit with what its payload holds for it.
#[derive(Clone, Debug)]
pub struct CatalogUnit {
    /// The unit.
    pub unit: Arc<Unit>,
    /// Its payload.
    pub payload: Arc<Payload>,
    /// The numbers of its cases in the payload, ascending.
    pub numbers: Vec<usize>,
}

impl CatalogUnit {
    /// The case with number `number`.
    pub fn case(&self, number: usize) -> &Case {
        &self.payload.cases[number]
    }

    /// The id of the case with number `number`.
    pub fn id(&self, number: usize) -> String {
        format!("{}/{}", self.unit.id(), self.case(number).path)
    }

    /// Whether the case with number `number` is in `group`.
    pub fn in_group(&self, number: usize, group: &str) -> bool {
        self.unit
            .groups
            .iter()
            .chain(&self.case(number).groups)
            .any(|g| g == group)
    }
}

/// All units, in the order of the manifest within each architecture.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// The units.
    pub units: Vec<CatalogUnit>,
}

/// Reads the manifest and the payloads of `archs`. No payload is read twice.
pub fn load(manifest: &Path, dir: &PayloadDir, archs: &[Arch]) -> Result<Catalog> {
    let mut units = manifest::load(manifest)?;
    units.retain(|u| archs.contains(&u.arch));
    from_units(units, dir)
}

/// Reads the payloads of `units`.
pub fn from_units(mut units: Vec<Unit>, dir: &PayloadDir) -> Result<Catalog> {
    units.sort_by_key(|u| u.arch);
    let mut known: HashMap<(Arch, String), Arc<Payload>> = HashMap::new();
    let mut catalog = Catalog::default();
    for unit in units {
        let key = (unit.arch, unit.payload.clone());
        let payload = match known.get(&key) {
            Some(payload) => Arc::clone(payload),
            None => {
                let path = dir.path(unit.arch, &unit.payload);
                let payload = payload::read(&path, unit.arch).map_err(|mut e| {
                    e.message = format!("{}: {}", unit.at, e.message);
                    e
                })?;
                let payload = Arc::new(payload);
                known.insert(key, Arc::clone(&payload));
                payload
            }
        };
        let wanted = |case: &Case| {
            unit.cases.is_empty() || unit.cases.iter().any(|glob| glob.matches(&case.path))
        };
        let numbers = (0..payload.cases.len())
            .filter(|n| wanted(&payload.cases[*n]))
            .collect();
        catalog.units.push(CatalogUnit {
            unit: Arc::new(unit),
            payload,
            numbers,
        });
    }
    Ok(catalog)
}

impl Catalog {
    /// Every id, in plan order.
    pub fn ids(&self) -> impl Iterator<Item = String> {
        self.units
            .iter()
            .flat_map(|u| u.numbers.iter().map(|n| u.id(*n)))
    }

    /// Every group that some case is in.
    pub fn groups(&self) -> BTreeSet<&str> {
        let mut groups = BTreeSet::new();
        for unit in &self.units {
            groups.extend(unit.unit.groups.iter().map(String::as_str));
            for number in &unit.numbers {
                groups.extend(unit.case(*number).groups.iter().map(String::as_str));
            }
        }
        groups
    }
}
