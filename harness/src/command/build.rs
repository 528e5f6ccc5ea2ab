//! `assay build`: builds the payloads that the manifest names.

use crate::arch::Arch;
use crate::cli::Place;
use crate::error::Result;
use crate::workspace::Workspace;

/// Builds the payloads of `archs`; none means all.
pub fn build(place: &Place, archs: &[Arch]) -> Result<u8> {
    let workspace = Workspace::find(place)?;
    let archs = if archs.is_empty() {
        &Arch::ALL[..]
    } else {
        archs
    };
    build_used(&workspace, archs)?;
    Ok(0)
}

/// Builds those of `archs` that some unit needs.
pub fn build_used(workspace: &Workspace, archs: &[Arch]) -> Result<()> {
    let units = crate::manifest::load(&workspace.manifest)?;
    let used = |arch: &&Arch| units.iter().any(|u| u.arch == **arch);
    let archs: Vec<Arch> = archs.iter().filter(used).copied().collect();
    crate::build::build(&workspace.root, &archs)
}
