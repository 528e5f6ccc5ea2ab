//! A hypervisor as a child process: its own process group, bounded output, a certain end.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use wait_timeout::ChildExt;

/// Lines of standard error that are kept.
const STDERR_LINES: usize = 8;
/// Bytes of standard error that are looked at.
const STDERR_BYTES: usize = 64 << 10;
/// A rest after a short read. Some consoles write byte by byte, and a reader that wakes up for
/// each of them slows the guest; what comes in this time is read in one go.
const REST: Duration = Duration::from_micros(500);
/// A read of fewer bytes is short.
const SHORT: usize = 4096;

/// A program and its arguments, ready to run or to be copied into a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// The program.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
}

impl CommandLine {
    /// A command line that runs `program`.
    pub fn new(program: impl Into<OsString>) -> Self {
        CommandLine {
            program: program.into(),
            args: Vec::new(),
        }
    }

    /// Appends one argument.
    pub fn arg(&mut self, arg: impl Into<OsString>) -> &mut Self {
        self.args.push(arg.into());
        self
    }

    /// Appends arguments.
    pub fn args<I: IntoIterator<Item: Into<OsString>>>(&mut self, args: I) -> &mut Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// As a line for a shell.
    pub fn shell(&self) -> String {
        let mut line = String::new();
        for word in std::iter::once(&self.program).chain(&self.args) {
            let _ = write!(
                line,
                "{}{}",
                if line.is_empty() { "" } else { " " },
                quote(word)
            );
        }
        line
    }
}

fn quote(word: &OsString) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.into_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// A running hypervisor. Dropping it kills its process group and reaps it.
pub struct Machine {
    child: Child,
    group: rustix::process::Pid,
    status: Option<ExitStatus>,
    stderr: Vec<u8>,
    stdout_open: bool,
    stderr_open: bool,
    rest: bool,
}

/// What waiting for output came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Bytes were read into the buffer.
    Bytes(usize),
    /// The console is closed: nobody in the group holds it any more.
    Closed,
    /// Nothing came in time.
    Nothing,
}

impl Machine {
    /// Starts `command` in a process group of its own. It dies with this thread.
    pub fn start(command: &CommandLine) -> io::Result<Self> {
        let mut process = Command::new(&command.program);
        process
            .args(&command.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        die_with_parent(&mut process);
        let child = process.spawn()?;
        let group = rustix::process::Pid::from_child(&child);
        Ok(Machine {
            child,
            group,
            status: None,
            stderr: Vec::new(),
            stdout_open: true,
            stderr_open: true,
            rest: false,
        })
    }

    /// Waits at most `limit` for console bytes. Standard error is drained on the way.
    pub fn read(&mut self, buffer: &mut [u8], limit: Duration) -> io::Result<Output> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let until = Instant::now() + limit;
        if std::mem::take(&mut self.rest) {
            std::thread::sleep(REST.min(limit));
        }
        loop {
            if !self.stdout_open {
                return Ok(Output::Closed);
            }
            let (Some(out), Some(err)) = (self.child.stdout.as_ref(), self.child.stderr.as_ref())
            else {
                return Ok(Output::Closed);
            };
            let mut fds = vec![PollFd::from_borrowed_fd(out.as_fd(), PollFlags::IN)];
            if self.stderr_open {
                fds.push(PollFd::from_borrowed_fd(err.as_fd(), PollFlags::IN));
            }
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(&mut fds, Some(&left)) {
                Ok(0) => return Ok(Output::Nothing),
                Ok(_) => {}
                // A signal: the caller wants to know at once.
                Err(rustix::io::Errno::INTR) => return Ok(Output::Nothing),
                Err(e) => return Err(e.into()),
            }
            let ready = |fd: Option<&PollFd<'_>>| fd.is_some_and(|fd| !fd.revents().is_empty());
            let (out_ready, err_ready) = (ready(fds.first()), ready(fds.get(1)));
            if err_ready {
                self.drain_stderr();
            }
            if out_ready && let Some(out) = self.child.stdout.as_mut() {
                match out.read(buffer)? {
                    0 => self.stdout_open = false,
                    n => {
                        self.rest = n < SHORT;
                        return Ok(Output::Bytes(n));
                    }
                }
            }
        }
    }

    fn drain_stderr(&mut self) {
        let mut buffer = [0; 4096];
        let n = self
            .child
            .stderr
            .as_mut()
            .map_or(0, |e| e.read(&mut buffer).unwrap_or(0));
        self.stderr_open = n != 0;
        self.stderr.extend_from_slice(&buffer[..n]);
        if self.stderr.len() > STDERR_BYTES {
            self.stderr.drain(..self.stderr.len() - STDERR_BYTES / 2);
        }
    }

    /// Waits at most `limit` for the process to end by itself.
    pub fn wait(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.wait_timeout(limit)?;
        }
        Ok(self.status)
    }

    /// Kills what is left of the process group and reaps the child.
    pub fn kill(&mut self) {
        // The group may outlive the child, so it is killed in any case.
        let _ = rustix::process::kill_process_group(self.group, rustix::process::Signal::KILL);
        if self.status.is_none() {
            self.status = self.child.wait().ok();
        }
    }

    /// What standard error has brought so far, as far as it is kept.
    pub fn said(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.stderr)
    }

    /// The last lines of standard error.
    pub fn stderr(&mut self) -> Vec<String> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        while self.stderr_open {
            let Some(err) = self.child.stderr.as_ref() else {
                break;
            };
            let mut fds = [PollFd::from_borrowed_fd(err.as_fd(), PollFlags::IN)];
            match poll(&mut fds, Some(&now)) {
                Ok(n) if n > 0 => self.drain_stderr(),
                _ => break,
            }
        }
        let text = String::from_utf8_lossy(&self.stderr);
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .collect();
        let from = lines.len().saturating_sub(STDERR_LINES);
        lines[from..]
            .iter()
            .map(|l| l.chars().take(300).collect())
            .collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How the process ended, as an exit status or the signal that killed it.
pub fn ended(status: ExitStatus) -> std::result::Result<i32, i32> {
    match status.code() {
        Some(code) => Ok(code),
        None => Err(status.signal().unwrap_or(0)),
    }
}

/// Nothing outlives the runner, even when the runner is killed by SIGKILL.
#[expect(
    unsafe_code,
    reason = "only the child itself can ask for its parent-death signal"
)]
pub(crate) fn die_with_parent(process: &mut Command) {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    let parent = rustix::process::getpid();
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe {
        process.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            match getppid() == Some(parent) {
                true => Ok(()),
                false => Err(rustix::io::Errno::SRCH.into()),
            }
        });
    }
}

/// A console log of bounded size. It keeps what came first, for that is where a run goes wrong.
pub struct Log {
    file: File,
    left: usize,
}

impl Log {
    /// Creates the log at `path`; `limit` is the most it keeps, in bytes.
    pub fn create(path: &std::path::Path, limit: usize) -> io::Result<Self> {
        Ok(Log {
            file: File::create(path)?,
            left: limit,
        })
    }

    /// A line of our own.
    pub fn note(&mut self, line: &str) {
        let _ = writeln!(self.file, "{line}");
    }

    /// Console bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        let take = bytes.len().min(self.left);
        let _ = self.file.write_all(&bytes[..take]);
        self.left -= take;
        if take < bytes.len() && take > 0 {
            self.note("\n# assay: the rest of this console is not kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> CommandLine {
        let mut command = CommandLine::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        let mut command = CommandLine::new("qemu");
        command.args(["-append", "a b=c'd", "x=1,y"]);
        assert_eq!(command.shell(), r"qemu -append 'a b=c'\''d' x=1,y");
    }

    #[test]
    fn output_and_status_arrive() {
        let mut machine = Machine::start(&shell("echo hi; echo no >&2; exit 7")).unwrap();
        let mut buffer = [0; 64];
        let limit = Duration::from_secs(5);
        assert_eq!(machine.read(&mut buffer, limit).unwrap(), Output::Bytes(3));
        assert_eq!(machine.read(&mut buffer, limit).unwrap(), Output::Closed);
        assert_eq!(ended(machine.wait(limit).unwrap().unwrap()), Ok(7));
        assert_eq!(machine.stderr(), ["no"]);
    }

    #[test]
    fn the_whole_group_is_killed() {
        let mut machine = Machine::start(&shell("sleep 100 & echo $!; wait")).unwrap();
        let mut buffer = [0; 64];
        let Output::Bytes(n) = machine.read(&mut buffer, Duration::from_secs(5)).unwrap() else {
            panic!()
        };
        let pid: i32 = std::str::from_utf8(&buffer[..n])
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        machine.kill();
        let gone = || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat.contains(") Z "),
            Err(_) => true,
        };
        let until = Instant::now() + Duration::from_secs(5);
        while !gone() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(gone());
    }
}
