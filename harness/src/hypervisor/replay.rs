//! Plays recorded consoles, so that the runner itself is tested without a hypervisor.
//!
//! A recording of launch N of a unit is the file `<dir>/<arch>/<unit>.<N>`. Its bytes are the
//! console, except lines that begin with `%`:
//!
//! | line | does |
//! | --- | --- |
//! | `%exit N` | ends with status N |
//! | `%signal N` | kills itself |
//! | `%hang` | says nothing more and does not end |
//! | `%sleep MS` | waits |
//! | `%stderr TEXT` | writes to standard error |
//! | `%repeat N TEXT` | writes TEXT N times, without line feeds |
//! | `%flood TEXT` | writes TEXT lines for ever |
//! | `%fork` | leaves a child behind that keeps the console open |

use super::{Boot, Hypervisor, Launch, Offer, Unavailable, Unmet};
use crate::arch::Arch;
use crate::manifest::Unit;
use crate::process::CommandLine;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The adaptor. The child process is this program itself, as `assay replay FILE`.
pub struct Replay {
    dir: PathBuf,
    program: PathBuf,
}

impl Replay {
    /// Plays what is in `dir`; `program` is the `assay` binary.
    pub fn new(dir: &Path, program: &Path) -> Self {
        Replay {
            dir: dir.to_owned(),
            program: program.to_owned(),
        }
    }
}

impl Hypervisor for Replay {
    fn name(&self) -> &'static str {
        "replay"
    }

    fn probe(&self, _: Arch) -> Result<Offer, Unavailable> {
        match self.dir.is_dir() {
            true => Ok(Offer {
                version: "1.0".into(),
                ..Offer::default()
            }),
            false => Err(Unavailable(format!(
                "no recordings in {}",
                self.dir.display()
            ))),
        }
    }

    fn supports(&self, _: &Unit) -> Result<(), Unmet> {
        Ok(())
    }

    fn boot(&self, _: Arch) -> Boot {
        Boot::Elf
    }

    fn command(&self, launch: &Launch<'_>) -> CommandLine {
        let mut command = CommandLine::new(&self.program);
        let file = format!("{}.{}", launch.unit.id(), launch.number);
        command
            .arg("replay")
            .arg(self.dir.join(file))
            .arg(launch.guest_args);
        command
    }
}

/// Plays the recording `file` on standard output; returns the exit status.
pub fn play(file: &Path) -> std::io::Result<u8> {
    let mut out = std::io::stdout().lock();
    let bytes = std::fs::read(file)?;
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let Some(words) = line.strip_prefix(b"%") else {
            out.write_all(line)?;
            continue;
        };
        let text = String::from_utf8_lossy(words);
        let text = text.trim_end_matches('\n');
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let number: u64 = rest
            .split(' ')
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(0);
        out.flush()?;
        match word {
            "exit" => return Ok(u8::try_from(number).unwrap_or(255)),
            "signal" => {
                let signal = i32::try_from(number).ok();
                let signal = signal.and_then(rustix::process::Signal::from_named_raw);
                let signal = signal.ok_or_else(|| std::io::Error::other("no such signal"))?;
                // The first SIGSEGV only ends in the handler that Rust installs.
                loop {
                    rustix::process::kill_process(rustix::process::getpid(), signal)?;
                }
            }
            "hang" => loop {
                std::thread::sleep(Duration::from_secs(3600));
            },
            "sleep" => std::thread::sleep(Duration::from_millis(number)),
            "stderr" => eprintln!("{rest}"),
            "repeat" => {
                let text = rest.split_once(' ').map_or("", |(_, text)| text);
                for _ in 0..number {
                    out.write_all(text.as_bytes())?;
                }
            }
            "flood" => loop {
                writeln!(out, "{rest}")?;
            },
            "fork" => {
                std::process::Command::new("sleep").arg("1000").spawn()?;
            }
            _ => return Err(std::io::Error::other(format!("unknown line %{text}"))),
        }
    }
    Ok(0)
}
