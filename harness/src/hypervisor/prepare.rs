//! `assay launch exec`: writes files, gives a terminal, runs the command.

use crate::error::{Error, Result};
use clap::Args;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// `assay launch exec`
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The folder for the files
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A file to write first (repeat)
    #[arg(long = "file", value_name = "NAME=TEXT")]
    files: Vec<String>,
    /// Give the command a terminal as its standard input and output
    #[arg(long)]
    pty: bool,
    /// The command
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Runs what `options` ask for.
pub fn exec(options: &Options) -> Result<u8> {
    for file in &options.files {
        let (name, text) = file
            .split_once('=')
            .ok_or_else(|| Error::usage(format!("--file {file}: write NAME=TEXT")))?;
        let dir = options.dir.clone().unwrap_or_default();
        let path = dir.join(name);
        std::fs::create_dir_all(&dir)
            .and_then(|()| std::fs::write(&path, text))
            .map_err(|e| Error::file("write", &path, e))?;
    }
    let Some((program, args)) = options.command.split_first() else {
        return Err(Error::usage("no command"));
    };
    let mut command = Command::new(program);
    command.args(args);
    let failed =
        |e: io::Error| Error::nothing(format!("cannot run {}: {e}", program.to_string_lossy()));
    if !options.pty {
        return Err(failed(command.exec()));
    }
    with_terminal(&mut command).map_err(failed)
}

/// Runs `command` on a terminal of its own and copies what it prints.
fn with_terminal(command: &mut Command) -> io::Result<u8> {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let name: OsString = std::os::unix::ffi::OsStringExt::from_vec(name.into_bytes());
    let name = PathBuf::from(name);
    let open = || File::options().read(true).write(true).open(&name);
    let slave = open()?;
    // No translation of line ends.
    let mut mode = rustix::termios::tcgetattr(&slave)?;
    mode.make_raw();
    rustix::termios::tcsetattr(&slave, rustix::termios::OptionalActions::Now, &mode)?;
    command
        .stdin(Stdio::from(open()?))
        .stdout(Stdio::from(slave));
    let mut child = command.spawn()?;
    // The command holds descriptors of the terminal until it is gone too.
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut master = File::from(master);
    let mut out = io::stdout().lock();
    let mut buffer = [0; 4096];
    loop {
        match master.read(&mut buffer) {
            // EIO: nobody holds the other side any more.
            Ok(0) | Err(_) => break,
            Ok(n) => {
                out.write_all(&buffer[..n])?;
                out.flush()?;
            }
        }
    }
    let status = child.wait()?;
    Ok(status
        .code()
        .and_then(|c| u8::try_from(c).ok())
        .unwrap_or(1))
}
