//! One QEMU: its console as pipes, its machine protocol on a socket it inherits.

use crate::process::{die_with_parent, ended};
use crate::qmp::{Qmp, QmpError};
use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use wait_timeout::ChildExt;

/// How long QEMU may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(5);

/// A running QEMU; dropping it ends it.
pub struct Machine {
    process: Process,
    qmp: Qmp,
}

/// A QEMU that was started and not heard of yet; dropping it ends it.
pub struct Spare {
    process: Process,
    socket: UnixStream,
}

struct Process {
    child: Child,
    stdin: ChildStdin,
    console: Receiver<Vec<u8>>,
    stderr: Arc<Mutex<String>>,
}

impl Spare {
    /// Starts `command`. With `incoming` it waits for a stream, which [`Machine::listen`] opens on
    /// that socket. It dies with this thread.
    pub fn start(command: &[OsString], incoming: Option<&UnixStream>) -> Result<Self, String> {
        let (program, args) = command.split_first().ok_or("no command")?;
        let (ours, theirs) = UnixStream::pair().map_err(|e| e.to_string())?;
        let mut process = Command::new(program);
        process.args(args);
        let socket = format!("socket,id=assay-qmp,fd={}", theirs.as_raw_fd());
        process.args(["-chardev", &socket]);
        process.args(["-mon", "chardev=assay-qmp,mode=control"]);
        let mut inherited: Vec<BorrowedFd<'_>> = vec![theirs.as_fd()];
        if let Some(incoming) = incoming {
            process.args(["-incoming", "defer"]);
            inherited.push(incoming.as_fd());
        }
        process
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        die_with_parent(&mut process);
        let flags = |flags| {
            let mut all = inherited.iter();
            all.try_for_each(|fd| fcntl_setfd(fd, flags))
                .map_err(|e| e.to_string())
        };
        // One thread starts processes, so nobody else inherits these.
        flags(FdFlags::empty())?;
        let child = process.spawn();
        flags(FdFlags::CLOEXEC)?;
        drop(theirs);
        let mut child =
            child.map_err(|e| format!("cannot start {}: {e}", program.to_string_lossy()))?;

        let stderr = Arc::new(Mutex::new(String::new()));
        let last = stderr.clone();
        let pipe = child.stderr.take().ok_or("no standard error")?;
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                eprintln!("{line}");
                if let Ok(mut last) = last.lock() {
                    *last = line;
                }
            }
        });
        // Bounded: a guest that never stops talking is slowed down, as by any console.
        let (send, console) = sync_channel(64);
        let mut pipe = child.stdout.take().ok_or("no standard output")?;
        thread::spawn(move || {
            let mut buffer = vec![0; 16 << 10];
            while let Ok(n) = pipe.read(&mut buffer) {
                if n == 0 || send.send(buffer[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        let stdin = child.stdin.take().ok_or("no standard input")?;
        Ok(Spare {
            process: Process {
                child,
                stdin,
                console,
                stderr,
            },
            socket: ours,
        })
    }

    /// Waits until its machine protocol answers.
    pub fn ready(self) -> Result<Machine, String> {
        let Spare { process, socket } = self;
        match Qmp::new(socket) {
            Ok(qmp) => Ok(Machine { process, qmp }),
            Err(e) => {
                let words = process.last_words().unwrap_or_default();
                Err(format!("{e} {words}"))
            }
        }
    }
}

impl Process {
    /// The last line of its standard error.
    fn last_words(&self) -> Option<String> {
        let last = self.stderr.lock().ok()?.clone();
        Some(last).filter(|l| !l.is_empty())
    }
}

impl Machine {
    /// Lets the stream in that comes over `incoming`.
    pub fn listen(&mut self, incoming: UnixStream) -> Result<(), String> {
        // The number is the same in the child, which inherited it.
        let uri = format!("fd:{}", incoming.as_raw_fd());
        self.qmp("migrate-incoming", json!({ "uri": uri }))
            .map(drop)
    }

    /// The next bytes of the console; none when it is closed.
    pub fn console(&mut self) -> Option<Vec<u8>> {
        self.process.console.recv().ok()
    }

    /// Types `text` on the console.
    pub fn type_in(&mut self, text: &str) -> Result<(), String> {
        match self.process.stdin.write_all(text.as_bytes()) {
            // It ended meanwhile, and that is what its console will say.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            result => result.map_err(|e| format!("cannot answer: {e}")),
        }
    }

    /// Runs a command of the machine protocol.
    pub fn qmp(&mut self, command: &str, arguments: Value) -> Result<Value, String> {
        self.qmp.call(command, arguments).map_err(|e| match e {
            QmpError::Closed => format!(
                "{command}: QEMU has ended: {}",
                self.last_words().unwrap_or_default()
            ),
            e => format!("{command}: {e}"),
        })
    }

    /// Gives it a file descriptor, to be known as `name`.
    pub fn give(&mut self, name: &str, fd: BorrowedFd<'_>) -> Result<(), String> {
        self.qmp.give(name, fd).map_err(|e| format!("getfd: {e}"))
    }

    /// How fast a migration may be, in bytes per second, and how many milliseconds it may let the
    /// machine stand still at its end.
    pub fn pace(&mut self, bandwidth: u64, downtime_ms: u64) -> Result<(), String> {
        let pace = json!({"max-bandwidth": bandwidth, "downtime-limit": downtime_ms});
        self.qmp("migrate-set-parameters", pace).map(drop)
    }

    /// The run state, or nothing when there is no answer.
    pub fn status(&mut self) -> String {
        let status = self.qmp("query-status", json!({}));
        let word = status
            .ok()
            .and_then(|s| Some(s["status"].as_str()?.to_owned()));
        word.unwrap_or_default()
    }

    /// Why it ended, if it did.
    pub fn has_ended(&mut self) -> Option<String> {
        let status = self.process.child.try_wait().ok()??;
        Some(match self.last_words() {
            Some(words) => format!("QEMU has ended ({status}): {words}"),
            None => format!("QEMU has ended ({status})"),
        })
    }

    /// The last line of its standard error.
    pub fn last_words(&self) -> Option<String> {
        self.process.last_words()
    }

    /// Asks it to end.
    pub fn quit(&mut self) {
        let _ = self.qmp("quit", json!({}));
        if !matches!(self.process.child.wait_timeout(GRACE), Ok(Some(_))) {
            let _ = self.process.child.kill();
        }
    }

    /// Waits for its end; its exit status. A signal that ended it ends this process too.
    pub fn end(&mut self) -> Result<u8, String> {
        let status = match self.process.child.wait_timeout(GRACE) {
            Ok(Some(status)) => status,
            Ok(None) => return Err("QEMU closed its console and did not end".into()),
            Err(e) => return Err(format!("cannot wait for QEMU: {e}")),
        };
        match ended(status) {
            Ok(code) => Ok(u8::try_from(code).unwrap_or(1)),
            Err(signal) => Err(format!("QEMU was ended by signal {signal}")),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
