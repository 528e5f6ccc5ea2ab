//! Builds the payloads: one `cargo build` per architecture.

use crate::arch::Arch;
use crate::error::{Error, Result};
use crate::process::CommandLine;
use std::path::Path;
use std::process::Command;

/// The command that builds the payloads of `arch`.
pub fn command(arch: Arch) -> CommandLine {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = CommandLine::new(cargo);
    command.args(["build", "--profile", "guest", "--package", arch.package()]);
    command.args(["--target", arch.target(), "--features", "payload"]);
    if arch == Arch::S390x {
        command.args(["--config", ".cargo/s390x.toml"]);
    }
    command
}

/// Builds the payloads of `archs` in the workspace at `root`. Cargo's output goes to stderr.
pub fn build(root: &Path, archs: &[Arch]) -> Result<()> {
    for arch in archs {
        let line = command(*arch);
        let failed = |why: String| {
            let package = arch.package();
            Error::usage(format!(
                "cannot build {package}: {why}; the command was: {}",
                line.shell()
            ))
        };
        let status = Command::new(&line.program)
            .args(&line.args)
            .current_dir(root)
            // Our own stdout is for results.
            .stdout(std::io::stderr())
            .status()
            .map_err(|e| failed(e.to_string()))?;
        if !status.success() {
            return Err(failed(status.to_string()));
        }
    }
    Ok(())
}
