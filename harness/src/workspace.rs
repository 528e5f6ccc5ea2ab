//! Where things are: the manifest, the build output, the run directories.

use crate::arch::Arch;
use crate::cli::{Place, SelectOptions};
use crate::error::{Error, Result};
use crate::expression::Expression;
use crate::payload::PayloadDir;
use crate::select::Request;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The manifest's name.
pub const MANIFEST: &str = "unittests.yaml";

/// A checkout.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// The folder of the manifest.
    pub root: PathBuf,
    /// The manifest.
    pub manifest: PathBuf,
    /// The payloads.
    pub payloads: PayloadDir,
}

impl Workspace {
    /// The workspace that `place` names, or the one that the current folder is in.
    pub fn find(place: &Place) -> Result<Self> {
        let manifest = match &place.manifest {
            Some(file) => file.clone(),
            None => {
                let here = std::env::current_dir()
                    .map_err(|e| Error::usage(format!("cannot tell the current folder: {e}")))?;
                let found = here
                    .ancestors()
                    .map(|dir| dir.join(MANIFEST))
                    .find(|f| f.is_file());
                found.ok_or_else(|| {
                    Error::usage(format!(
                        "no {MANIFEST} here or in a folder above; go to the checkout or use --manifest"
                    ))
                })?
            }
        };
        let root = match manifest.parent() {
            Some(dir) if dir != Path::new("") => dir.to_owned(),
            _ => PathBuf::from("."),
        };
        let payloads = PayloadDir {
            root: root.clone(),
            over: place.payload_dir.clone(),
        };
        Ok(Workspace {
            root,
            manifest,
            payloads,
        })
    }

    /// The folder of all run directories.
    pub fn runs(&self) -> PathBuf {
        self.root.join("target/assay")
    }

    /// What runs share: flat images, versions of hypervisors.
    pub fn cache(&self) -> PathBuf {
        self.runs().join("cache")
    }
}

impl SelectOptions {
    /// The request, and the architectures whose payloads must exist for it.
    pub fn request(&self) -> Result<(Request, Vec<Arch>)> {
        let expression = self.expression.as_deref().map(Expression::parse);
        let request = Request {
            filters: self.filters.clone(),
            groups: self.groups.clone(),
            all: self.all,
            expression: expression.transpose()?,
        };
        let archs = crate::select::archs(&request, &self.archs);
        Ok((request, archs))
    }
}

/// A name for a run that begins now: sorts by time and differs between processes.
pub fn run_name() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = now.as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{year:04}{month:02}{day:02}-{:02}{:02}{:02}-{:03}-{}",
        rest / 3600,
        rest / 60 % 60,
        rest % 60,
        now.subsec_millis(),
        std::process::id()
    )
}

/// Year, month and day of the day `days` after 1970-01-01, by walking the calendar.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let mut year = 1970;
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

/// Makes `latest` beside the run directory `dir` point at it.
pub fn link_latest(dir: &Path) -> std::io::Result<()> {
    let (Some(name), Some(parent)) = (dir.file_name(), dir.parent()) else {
        return Ok(());
    };
    let fresh = parent.join(format!("latest.{}", std::process::id()));
    let _ = std::fs::remove_file(&fresh);
    std::os::unix::fs::symlink(name, &fresh)?;
    std::fs::rename(&fresh, parent.join("latest"))
}

#[cfg(test)]
mod tests {
    use super::civil;

    #[test]
    fn days_become_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_454), (2026, 1, 1));
    }
}
