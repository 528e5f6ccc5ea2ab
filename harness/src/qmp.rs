//! QEMU's machine protocol: JSON objects, a line each, over a socket.

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long QEMU may take for an answer: its main loop may wait for a processor that emulates.
pub const LIMIT: Duration = Duration::from_secs(30);
/// The longest message that is taken for one.
const MAX_MESSAGE: usize = 1 << 20;

/// Why a command has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QmpError {
    /// The socket is closed: QEMU has ended.
    Closed,
    /// No answer in time.
    Late(String),
    /// QEMU refuses the command, with its own words.
    Refused(String),
    /// What came is no message of the protocol, or the socket failed.
    Broken(String),
}

impl std::fmt::Display for QmpError {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            QmpError::Closed => write!(f, "QEMU has ended"),
            QmpError::Late(command) => write!(f, "QEMU does not answer {command}"),
            QmpError::Refused(words) => write!(f, "{words}"),
            QmpError::Broken(what) => write!(f, "QMP: {what}"),
        }
    }
}

/// A connection that has left the negotiation behind it. Events are dropped.
#[derive(Debug)]
pub struct Qmp {
    stream: UnixStream,
    read: Vec<u8>,
}

impl Qmp {
    /// Takes the greeting from `stream` and enters command mode.
    pub fn new(stream: UnixStream) -> Result<Self, QmpError> {
        let mut qmp = Qmp {
            stream,
            read: Vec::new(),
        };
        let greeting = qmp.message("the greeting", Instant::now() + LIMIT)?;
        if greeting.get("QMP").is_none() {
            return Err(QmpError::Broken(format!("no greeting: {greeting}")));
        }
        qmp.call("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs `command` and returns its result.
    pub fn call(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.send(command, arguments, None)
    }

    /// Gives QEMU `fd`, to be known as `name`.
    pub fn give(&mut self, name: &str, fd: BorrowedFd<'_>) -> Result<(), QmpError> {
        self.send("getfd", json!({ "fdname": name }), Some(fd))
            .map(drop)
    }

    fn send(
        &mut self,
        command: &str,
        arguments: Value,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<Value, QmpError> {
        let line = json!({ "execute": command, "arguments": arguments }).to_string() + "\n";
        let sent = match fd {
            None => self.stream.write_all(line.as_bytes()),
            Some(fd) => send_with(&self.stream, line.as_bytes(), fd),
        };
        sent.map_err(io_error)?;
        let until = Instant::now() + LIMIT;
        loop {
            let message = self.message(command, until)?;
            if let Some(result) = message.get("return") {
                return Ok(result.clone());
            }
            if let Some(error) = message.get("error") {
                let words = error["desc"].as_str().unwrap_or("an error without words");
                return Err(QmpError::Refused(words.to_owned()));
            }
        }
    }

    /// The next message, whatever it is.
    fn message(&mut self, waiting_for: &str, until: Instant) -> Result<Value, QmpError> {
        loop {
            if let Some(end) = self.read.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return serde_json::from_slice(&line)
                    .map_err(|e| QmpError::Broken(format!("not a message: {e}")));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(QmpError::Late(waiting_for.to_owned()));
            }
            if self.read.len() > MAX_MESSAGE {
                return Err(QmpError::Broken("a message without an end".into()));
            }
            let mut buffer = [0; 4096];
            self.stream.set_read_timeout(Some(left)).map_err(io_error)?;
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(QmpError::Closed),
                Ok(n) => self.read.extend_from_slice(&buffer[..n]),
                Err(e) if again(&e) => {}
                Err(e) => return Err(io_error(e)),
            }
        }
    }
}

fn again(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

fn io_error(e: io::Error) -> QmpError {
    match e.kind() {
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => {
            QmpError::Closed
        }
        _ => QmpError::Broken(e.to_string()),
    }
}

/// Sends `bytes`, the file descriptor with the first of them.
fn send_with(mut stream: &UnixStream, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<()> {
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let sent = sendmsg(
        stream.as_fd(),
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    stream.write_all(&bytes[sent..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// A QEMU that says `lines`, the first at once, each other after a line it reads.
    fn qemu(lines: &'static [&'static str]) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            let mut stream = theirs;
            for (i, line) in lines.iter().enumerate() {
                if i > 0 {
                    let mut byte = [0];
                    while stream.read(&mut byte).unwrap_or(0) == 1 && byte[0] != b'\n' {}
                }
                stream.write_all(line.as_bytes()).unwrap();
            }
        });
        ours
    }

    const GREETING: &str = "{\"QMP\": {}}\r\n";

    #[test]
    fn events_are_no_answers() {
        let mut qmp = Qmp::new(qemu(&[
            GREETING,
            "{\"return\": {}}\n",
            "{\"event\": \"STOP\"}\n{\"return\": {\"status\": \"paused\"}}\n",
        ]))
        .unwrap();
        let status = qmp.call("query-status", json!({})).unwrap();
        assert_eq!(status["status"], "paused");
        assert_eq!(qmp.call("quit", json!({})), Err(QmpError::Closed));
    }

    #[test]
    fn a_refusal_keeps_its_words() {
        let mut qmp = Qmp::new(qemu(&[
            GREETING,
            "{\"return\": {}}\n",
            "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\n",
        ]))
        .unwrap();
        let refused = qmp.call("migrate", json!({}));
        assert_eq!(refused, Err(QmpError::Refused("no".into())));
    }

    #[test]
    fn garbage_is_no_greeting() {
        let broken = Qmp::new(qemu(&["hello\n"])).unwrap_err();
        assert!(matches!(broken, QmpError::Broken(_)), "{broken:?}");
        assert_eq!(Qmp::new(qemu(&[])).unwrap_err(), QmpError::Closed);
    }
}
