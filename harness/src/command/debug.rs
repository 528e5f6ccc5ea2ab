//! `assay run --gdb`: one unit under the hypervisor's debug stub, with the gdb line for it.

use crate::arch::Arch;
use crate::error::{Error, Result, exit};
use crate::plan::{Job, Plan};
use crate::run;
use crate::workspace::Workspace;
use std::process::Command;

/// Where the stub listens: gdb's customary port, on this machine only.
pub const PORT: u16 = 1234;

/// Starts the one unit of `plan` stopped before its first instruction, and waits for its end.
pub fn debug(plan: &Plan, workspace: &Workspace) -> Result<u8> {
    let [job] = &plan.jobs[..] else {
        let units = plan.jobs.len();
        return Err(Error::usage(format!(
            "--gdb starts one machine, but {units} units are selected; name a case by its id and a \
             hypervisor"
        )));
    };
    if let Err(why) = &job.offer {
        return Err(Error::nothing(&why.0));
    }
    let scratch = workspace.runs().join("gdb.scratch");
    let Some(command) = run::debug_command(job, &scratch, PORT) else {
        let name = job.hypervisor.name();
        return Err(Error::usage(format!(
            "{name} has no debug stub; try --hypervisor qemu-tcg"
        )));
    };
    eprintln!("assay: {}", command.shell());
    eprintln!(
        "assay: the machine waits; in another terminal:\n  {}",
        gdb_line(job)
    );
    let status = Command::new(&command.program)
        .args(&command.args)
        .status()
        .map_err(|e| Error::usage(format!("cannot start {}: {e}", command.program.display())))?;
    let _ = std::fs::remove_dir_all(&scratch);
    eprintln!("assay: the machine ended ({status})");
    Ok(exit::OK)
}

/// The gdb command that attaches with symbols. An arm64 payload runs at its link address on QEMU's
/// `virt`; elsewhere it relocates itself.
fn gdb_line(job: &Job) -> String {
    let elf = job.unit.payload.path.display();
    let arch = match job.unit.unit.arch {
        Arch::X86 => "i386:x86-64",
        Arch::Arm64 => "aarch64",
        Arch::S390x => "s390:64-bit",
    };
    format!("gdb-multiarch -ex 'set architecture {arch}' {elf} -ex 'target remote :{PORT}'")
}
