//! The hypervisor's command for a section, and its run.
//!
//! The machine is the one that payloads of kvm-unit-tests expect: their exit device, their console,
//! their parameters appended last, so that a section may override anything.

use super::config::{Section, seconds};
use super::console::{Console, End, Point};
use super::shell::Variables;
use crate::arch::Arch;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::outcome::{CaseResult, Kind, Outcome};
use crate::process::{CommandLine, Log, Machine, Output, ended};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes of a console that a log keeps.
const LOG_LIMIT: usize = 16 << 20;
/// Seconds a section may take unless something says otherwise.
const DEFAULT_SECONDS: f64 = 90.0;
/// How often the run looks whether it is to end.
const TICK: Duration = Duration::from_millis(50);

/// What holds for all sections.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The architecture.
    pub arch: Arch,
    /// `ACCEL`, up to the first comma.
    pub accel: String,
    /// The whole of `ACCEL`.
    pub accel_word: String,
    /// `MACHINE`.
    pub machine: Option<String>,
    /// The program.
    pub program: PathBuf,
    /// `TARGET_CPU` or `PROCESSOR`.
    pub cpu: Option<String>,
    /// A file for `-initrd` with the guest's environment.
    pub environ: Option<PathBuf>,
    /// Where payloads are.
    pub dir: PathBuf,
    /// What configuration texts may name.
    pub variables: Variables,
    /// `TIMEOUT`, for every section.
    pub timeout: Option<String>,
}

impl Setting {
    /// The command for `section`.
    pub fn command(&self, section: &Section) -> Result<CommandLine> {
        let mut command = CommandLine::new(&self.program);
        let accel = &self.accel_word;
        match self.arch {
            Arch::X86 => {
                command.args(["--no-reboot", "-nodefaults", "-display", "none"]);
                command.args(["-device", "pc-testdev"]);
                command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x4"]);
                command.args(["-serial", "stdio", "-device", "pci-testdev"]);
            }
            Arch::Arm64 => {
                command.args(["-nodefaults", "-display", "none"]);
                command.args(["-device", "virtio-serial-device"]);
                command.args([
                    "-device",
                    "virtconsole,chardev=ctd",
                    "-chardev",
                    "testdev,id=ctd",
                ]);
                command.args(["-device", "pci-testdev", "-serial", "stdio"]);
            }
            Arch::S390x => {
                command.args(["-nodefaults", "-display", "none"]);
                command.args([
                    "-chardev",
                    "stdio,id=con0",
                    "-device",
                    "sclpconsole,chardev=con0",
                ]);
            }
        }
        let model = match (&self.machine, self.arch) {
            (Some(machine), _) => format!("{machine},accel={accel}"),
            (None, Arch::X86) => format!("accel={accel}"),
            (None, Arch::Arm64) => format!("virt,accel={accel}"),
            (None, Arch::S390x) => format!("s390-ccw-virtio,accel={accel}"),
        };
        command.args(["-machine", &model]);
        let usual = match (self.arch, self.accel.as_str()) {
            (Arch::Arm64, "tcg") => Some("max"),
            (Arch::Arm64, _) => Some("host"),
            _ => None,
        };
        if let Some(cpu) = self.cpu.as_deref().or(usual) {
            command.args(["-cpu", cpu]);
        }
        command.arg("-kernel").arg(self.dir.join(&section.file));
        let smp = if section.smp.is_empty() {
            "1"
        } else {
            &section.smp
        };
        let smp = section.expand(smp, &self.variables)?;
        if smp.parse::<u32>().is_err() {
            return Err(Error::usage(format!(
                "{}: smp '{smp}' is no number",
                section.at
            )));
        }
        command.args(["-smp", &smp]);
        let args = section.words(&section.args, &self.variables)?.join(" ");
        if !args.is_empty() {
            command.args(["-append", &args]);
        }
        if let Some(environ) = &self.environ {
            command.arg("-initrd").arg(environ);
        }
        command.args(section.words(&section.params, &self.variables)?);
        Ok(command)
    }

    /// How long `section` may take; `None` is for ever.
    pub fn limit(&self, section: &Section) -> Result<Option<Duration>> {
        let text = self.timeout.as_deref().unwrap_or(&section.timeout);
        let wrong = |e| Error::usage(format!("{}: {e}", section.at));
        let limit = match text {
            "" => DEFAULT_SECONDS,
            text => seconds(text).map_err(wrong)?,
        };
        Ok((limit > 0.0).then(|| Duration::try_from_secs_f64(limit).unwrap_or_default()))
    }
}

/// What a section came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The payload's results.
    pub points: Vec<Point>,
    /// How it ended.
    pub exit: CaseResult,
    /// The command, for a shell.
    pub command: String,
    /// How long it took.
    pub duration: Duration,
}

/// Runs `command`; its console goes to `log`.
pub fn run(
    command: &CommandLine,
    arch: Arch,
    limit: Option<Duration>,
    log: &Path,
    interrupt: &Interrupt,
) -> Report {
    let begun = Instant::now();
    let line = command.shell();
    let report = |points, exit| Report {
        points,
        exit,
        command: line.clone(),
        duration: begun.elapsed(),
    };
    let broken = |why: String| {
        report(
            Vec::new(),
            CaseResult::caused(Outcome::Error, Kind::Spawn, why),
        )
    };
    if interrupt.is_set() {
        let why = "the run ended before this section had its turn";
        return report(
            Vec::new(),
            CaseResult::caused(Outcome::Error, Kind::Interrupted, why),
        );
    }
    let mut log = match Log::create(log, LOG_LIMIT) {
        Ok(log) => log,
        Err(e) => return broken(format!("cannot write {}: {e}", log.display())),
    };
    log.note(&line);
    let mut machine = match Machine::start(command) {
        Ok(machine) => machine,
        Err(e) => {
            return broken(format!(
                "cannot start {}: {e}",
                command.program.to_string_lossy()
            ));
        }
    };
    let mut console = Console::default();
    let mut buffer = vec![0; 64 << 10];
    let deadline = limit.map(|l| begun + l);
    let over = || deadline.is_some_and(|d| Instant::now() >= d);
    let cut = loop {
        if interrupt.is_set() {
            break Some(End::Interrupted);
        }
        if over() {
            break Some(End::TimedOut);
        }
        match machine.read(&mut buffer, TICK) {
            Ok(Output::Bytes(n)) => {
                log.write(&buffer[..n]);
                console.feed(&buffer[..n]);
            }
            Ok(Output::Nothing) => {}
            Ok(Output::Closed) | Err(_) => break None,
        }
    };
    let end = cut.unwrap_or_else(|| {
        loop {
            match machine.wait(TICK) {
                Ok(Some(status)) => match ended(status) {
                    Ok(code) => break End::Exited(code),
                    Err(signal) => break End::Signalled(signal),
                },
                _ if interrupt.is_set() => break End::Interrupted,
                // Its console is closed, but it does not end.
                _ if over() || begun.elapsed() > Duration::from_secs(3600) => break End::TimedOut,
                _ => {}
            }
        }
    });
    machine.kill();
    let stderr = machine.stderr();
    for text in &stderr {
        log.note(&format!("# assay: stderr: {text}"));
    }
    let (points, exit) = console.close(arch, end, &stderr);
    report(points, exit)
}
