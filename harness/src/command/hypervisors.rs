//! `assay hypervisors`: what can be used here and what it offers, or why not.

use crate::arch::Arch;
use crate::cli::{HypervisorsOptions, Place};
use crate::error::Result;
use crate::hypervisor::vmms::UNVERIFIED;
use crate::hypervisor::{Boot, Hypervisor, NAMES, find};
use crate::workspace::Workspace;
use serde::Serialize;
use std::io::Write;

/// One hypervisor for one architecture.
#[derive(Serialize)]
struct Row {
    name: String,
    arch: Arch,
    usable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<String>,
    /// Why it cannot be used, with the cure.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    boots: &'static str,
    capabilities: Vec<String>,
    verified: bool,
    remarks: Vec<String>,
}

fn row(hypervisor: &dyn Hypervisor, arch: Arch) -> Row {
    let probed = hypervisor.probe(arch);
    let offer = probed.as_ref().ok();
    let boots = match (hypervisor.boot(arch), arch) {
        (Boot::Image, _) => "image",
        (Boot::Elf, Arch::X86) => "PVH ELF",
        (Boot::Elf, _) => "ELF",
    };
    let unverified = hypervisor.is_unverified();
    let mut remarks = offer.map_or(Vec::new(), |o| o.remarks.clone());
    if unverified && !remarks.iter().any(|r| r == UNVERIFIED) {
        remarks.push(UNVERIFIED.to_owned());
    }
    Row {
        name: hypervisor.name().to_owned(),
        arch,
        usable: offer.is_some(),
        version: offer.map(|o| o.version.clone()),
        program: offer.map(|o| o.program.display().to_string()),
        reason: probed.as_ref().err().map(|why| why.0.clone()),
        boots,
        capabilities: match offer.is_some() {
            true => hypervisor.capabilities(arch),
            false => Vec::new(),
        },
        verified: !unverified,
        remarks,
    }
}

/// Prints a row per hypervisor and architecture.
pub fn hypervisors(place: &Place, options: &HypervisorsOptions) -> Result<u8> {
    let workspace = Workspace::find(place)?;
    let mut rows = Vec::new();
    for name in NAMES {
        let hypervisor = find(name, &workspace.cache())?;
        rows.extend(
            hypervisor
                .archs()
                .iter()
                .map(|arch| row(hypervisor.as_ref(), *arch)),
        );
    }
    for hypervisor in crate::manifest::hypervisors(&workspace.manifest)? {
        rows.extend(
            hypervisor
                .archs()
                .iter()
                .map(|arch| row(&hypervisor, *arch)),
        );
    }
    let mut out = std::io::stdout().lock();
    if options.json {
        let text = serde_json::to_string_pretty(&rows).unwrap_or_default();
        return super::written(writeln!(out, "{text}").map(|()| 0));
    }
    for row in &rows {
        let text = match (&row.version, &row.reason) {
            (Some(version), _) => {
                let program = row.program.as_deref().unwrap_or("");
                format!("{version} at {program}, boots {}", row.boots)
            }
            (_, reason) => format!("not usable: {}", reason.as_deref().unwrap_or("")),
        };
        let mut lines = vec![format!("{:<16} {:<6} {text}", row.name, row.arch.word())];
        if !row.capabilities.is_empty() {
            lines.push(format!("{:<23} has {}", "", row.capabilities.join(", ")));
        }
        lines.extend(row.remarks.iter().map(|r| format!("{:<23} {r}", "")));
        for line in lines {
            super::written(writeln!(out, "{line}").map(|()| 0))?;
        }
    }
    Ok(0)
}
