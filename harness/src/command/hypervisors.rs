//! `assay hypervisors`: what can be used here, or why not.

use crate::arch::Arch;
use crate::cli::Place;
use crate::error::Result;
use crate::hypervisor::{NAMES, find};
use crate::workspace::Workspace;
use std::io::Write;

/// Prints a line per hypervisor and architecture.
pub fn hypervisors(place: &Place) -> Result<u8> {
    let workspace = Workspace::find(place)?;
    let mut out = std::io::stdout().lock();
    for name in NAMES {
        let hypervisor = find(name, &workspace.cache())?;
        for arch in Arch::ALL {
            let text = match hypervisor.probe(arch) {
                Ok(offer) => {
                    let remarks = offer.remarks.iter().map(|r| format!(" ({r})"));
                    let remarks = remarks.collect::<String>();
                    format!("{} at {}{remarks}", offer.version, offer.program.display())
                }
                Err(why) => format!("not usable: {}", why.0),
            };
            let line = writeln!(out, "{name:<16} {:<6} {text}", arch.word()).map(|()| 0);
            super::written(line)?;
        }
    }
    Ok(0)
}
