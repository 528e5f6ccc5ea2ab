//! `assay supervise`: QEMU, and beside it someone who answers what the guest asks.
//!
//! The guest prints a [`Question`] on its console and reads the [`Reply`] from the console's input.
//! Questions do not reach the runner; a comment about each reply does.
//!
//! | [`Request`] | does |
//! | --- | --- |
//! | `migrate` | moves the machine to a second QEMU while it runs, through at least [`ROUNDS`] rounds of dirty pages |
//! | `migrate_postcopy` | as above, but the machine goes on over there while pages are still missing |
//! | `save_restore` | stops the machine, saves it to a file, ends it, and goes on in a QEMU that was fed the file |
//! | `inject nmi` | injects what QEMU's `inject-nmi` injects: an NMI on every processor, or a restart interruption |
//!
//! Whatever goes wrong before the other machine runs, the first one goes on and the guest hears
//! of it. Nothing waits without a limit.

pub mod console;
mod machine;
pub mod stream;

use crate::error::{Error, Result};
use assay_protocol::service::{Answer, Question, Reply, Request};
use console::{Piece, Splitter};
use machine::{Machine, Spare};
use serde_json::json;
use std::ffi::OsString;
use std::io::{Read, Seek, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use stream::{Filter, Sabotage};

/// How often dirty memory is looked through, at the least, before the machine may stop.
const ROUNDS: u64 = 3;
/// Bytes per second until then: the rounds are to last long enough for the guest to write.
const SLOW: u64 = 32 << 20;
/// Bytes per second afterwards.
const FAST: u64 = 1 << 40;
/// Milliseconds that the machine may stand still while the rounds last: too few to end them.
const SHORT: u64 = 1;
/// Milliseconds that it may stand still afterwards.
const LONG: u64 = 30_000;
/// How long the rounds may last before the machine is moved with fewer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a whole migration may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How often its progress is asked for.
const TICK: Duration = Duration::from_millis(3);

/// `assay supervise`
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Make a fault in the migration stream: stale-page, torn-page, lost-page, drop=SECTION,
    /// spoil=HEX
    #[arg(long, value_name = "FAULT")]
    pub sabotage: Option<Sabotage>,
    /// QEMU and its arguments; its console is standard input and output
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Runs QEMU to its end; the exit status is QEMU's.
pub fn run(options: &Options) -> Result<u8> {
    let fail = |why: String| Error::usage(format!("supervise: {why}"));
    let first = Spare::start(&options.command, None).and_then(Spare::ready);
    let machine = first.map_err(fail)?;
    let mut supervisor = Supervisor {
        command: options.command.clone(),
        machine,
        next: None,
        filter: Arc::new(Mutex::new(Filter::new(options.sabotage.clone()))),
        splitter: Splitter::default(),
    };
    supervisor.serve().map_err(fail)
}

struct Supervisor {
    command: Vec<OsString>,
    /// The one that the guest runs on.
    machine: Machine,
    /// Where it goes next. A guest that moved once may do so again, and QEMU takes its time to start.
    next: Option<Destination>,
    filter: Arc<Mutex<Filter>>,
    splitter: Splitter,
}

/// A QEMU that waits for a stream.
struct Destination {
    spare: Spare,
    /// The socket that QEMU inherited, and the other end of it.
    inside: UnixStream,
    into: UnixStream,
}

impl Destination {
    fn start(command: &[OsString]) -> std::result::Result<Self, String> {
        let (into, inside) = UnixStream::pair().map_err(|e| e.to_string())?;
        let spare = Spare::start(command, Some(&inside))?;
        Ok(Destination {
            spare,
            inside,
            into,
        })
    }
}

/// How a machine is moved.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Precopy,
    Postcopy,
    Saved,
}

impl Supervisor {
    /// Passes the console on and answers requests until QEMU ends.
    fn serve(&mut self) -> std::result::Result<u8, String> {
        while let Some(bytes) = self.machine.console() {
            for piece in self.splitter.feed(&bytes) {
                match piece {
                    Piece::Bytes(bytes) => show(&bytes)?,
                    Piece::Request(request) => self.answer(&request)?,
                }
            }
        }
        show(&self.splitter.finish())?;
        self.machine.end()
    }

    fn answer(&mut self, question: &str) -> std::result::Result<(), String> {
        // Nobody waits for an answer to a question without a number.
        let Some((number, words)) = Question::split(question) else {
            return show(format!("# host: {question}: this is no request\n").as_bytes());
        };
        let begun = Instant::now();
        let result = Request::from_words(words).map(|request| self.fulfil(request));
        let answer = match &result {
            None => Answer::Unknown,
            Some(Ok(words)) => Answer::Done(words),
            Some(Err(why)) => Answer::Failed(why),
        };
        let reply = Reply { number, answer };
        let took = begun.elapsed().as_millis();
        show(format!("# host: {words}: {reply} ({took} ms)\n").as_bytes())?;
        self.machine.type_in(&format!("{reply}\n"))
    }

    /// Does it; whether or not it could, there are words of one line.
    fn fulfil(&mut self, request: Request) -> std::result::Result<String, String> {
        let done = match request {
            Request::Migrate => self.change_over(How::Precopy),
            Request::MigratePostcopy => self.change_over(How::Postcopy),
            Request::SaveRestore => self.change_over(How::Saved),
            Request::InjectNmi => {
                let done = self.machine.qmp("inject-nmi", json!({}));
                done.map(|_| String::new())
            }
            Request::Nonsense => Err("nobody can do this".into()),
        };
        done.map_err(|why| one_line(&why))
    }

    /// Moves the guest to a fresh QEMU.
    fn change_over(&mut self, how: How) -> std::result::Result<String, String> {
        if how == How::Saved {
            self.machine.qmp("stop", json!({}))?;
        }
        let result = self.move_away(how);
        let (next, words) = match result {
            Ok(done) => done,
            Err(why) => {
                // The guest is still here, whole, whatever became of its copy.
                let _ = self.machine.qmp("migrate_cancel", json!({}));
                let status = self.machine.status();
                if status != "running" {
                    self.machine
                        .qmp("cont", json!({}))
                        .map_err(|e| format!("{why}; and then: {e}"))?;
                }
                return Err(why);
            }
        };
        // When it cannot be started now, the next move starts it, and says so.
        self.next = Destination::start(&self.command).ok();
        let mut old = std::mem::replace(&mut self.machine, next);
        old.quit();
        // What the guest said before it left. It asked, and waits: that is no request.
        while let Some(bytes) = old.console() {
            show(&bytes)?;
        }
        Ok(words)
    }

    fn move_away(&mut self, how: How) -> std::result::Result<(Machine, String), String> {
        let there = |why: String| format!("the destination: {why}");
        let (out, from) = UnixStream::pair().map_err(|e| e.to_string())?;
        let Destination {
            spare,
            inside,
            into,
        } = match self.next.take() {
            Some(next) => next,
            None => Destination::start(&self.command).map_err(there)?,
        };
        let mut next = spare.ready().map_err(there)?;
        let postcopy = json!({"capabilities":
            [{"capability": "postcopy-ram", "state": how == How::Postcopy}]});
        self.machine
            .qmp("migrate-set-capabilities", postcopy.clone())?;
        next.qmp("migrate-set-capabilities", postcopy)
            .map_err(there)?;
        next.listen(inside).map_err(there)?;
        let mut copier = Some(self.copy(from, into, how)?);

        self.machine.give("out", out.as_fd())?;
        drop(out);
        self.machine.pace(SLOW, SHORT)?;
        self.machine.qmp("migrate", json!({"uri": "fd:out"}))?;

        let begun = Instant::now();
        let mut hurried = false;
        let words = loop {
            let info = self.machine.qmp("query-migrate", json!({}))?;
            let status = info["status"].as_str().unwrap_or("none");
            let rounds = info["ram"]["dirty-sync-count"].as_u64().unwrap_or(0);
            match status {
                "completed" => {
                    let bytes = info["ram"]["transferred"].as_u64().unwrap_or(0);
                    let stood = info["downtime"].as_u64().unwrap_or(0);
                    break format!("rounds={rounds} kib={} downtime_ms={stood}", bytes >> 10);
                }
                "failed" | "cancelled" => {
                    let why = info["error-desc"].as_str().unwrap_or("without a reason");
                    let other = next
                        .last_words()
                        .map_or(String::new(), |w| format!(" ({w})"));
                    return Err(format!("migration {status}: {why}{other}"));
                }
                _ => {}
            }
            let enough = match how {
                How::Saved => true,
                How::Precopy => rounds > ROUNDS,
                How::Postcopy => rounds > 1,
            };
            if status == "active" && !hurried && (enough || begun.elapsed() > PATIENCE) {
                hurried = true;
                if how == How::Postcopy {
                    self.machine.qmp("migrate-start-postcopy", json!({}))?;
                } else {
                    self.machine.pace(FAST, LONG)?;
                }
            }
            if begun.elapsed() > LIMIT {
                return Err(format!("migration takes longer than {LIMIT:?}"));
            }
            thread::sleep(TICK);
        };
        if how == How::Saved
            && let Some(copier) = copier.take()
        {
            // The file is complete: only now is it fed.
            let _ = copier.join();
        }
        while begun.elapsed() < LIMIT {
            if let Some(why) = next.has_ended() {
                return Err(there(why));
            }
            match (how, next.status().as_str()) {
                (_, "running") => {
                    let faults = self.filter.lock().map_or(0, |f| f.faults());
                    let faults = match faults {
                        0 => String::new(),
                        n => format!(" faults={n}"),
                    };
                    return Ok((next, words + &faults));
                }
                // It was saved as it was: stopped.
                (How::Saved, "paused" | "prelaunch") => {
                    next.qmp("cont", json!({})).map_err(there)?;
                }
                _ => thread::sleep(TICK),
            }
        }
        Err(there(format!("it is {} instead of running", next.status())))
    }

    /// Takes the stream from one machine to the other in threads of its own.
    fn copy(
        &self,
        from: UnixStream,
        into: UnixStream,
        how: How,
    ) -> std::result::Result<JoinHandle<()>, String> {
        let mut filter = self.filter.clone();
        let breaks = filter.lock().is_ok_and(|f| f.breaks_packages());
        if how == How::Postcopy && breaks {
            filter = Arc::default();
        }
        if how == How::Saved {
            return Ok(thread::spawn(move || {
                let _ = saved(from, into, &filter);
            }));
        }
        // The return path of post-copy: requests for pages.
        let back = into.try_clone().and_then(|b| Ok((b, from.try_clone()?)));
        let (mut back_from, mut back_into) = back.map_err(|e| e.to_string())?;
        thread::spawn(move || {
            let _ = std::io::copy(&mut back_from, &mut back_into);
            let _ = back_into.shutdown(Shutdown::Write);
        });
        Ok(thread::spawn(move || {
            let _ = forward(from, &into, &filter);
            let _ = into.shutdown(Shutdown::Write);
        }))
    }
}

/// Copies through the filter until the stream ends.
fn forward(
    mut from: impl Read,
    mut into: impl Write,
    filter: &Mutex<Filter>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut out = Vec::new();
    loop {
        let n = from.read(&mut buffer)?;
        if let Ok(mut filter) = filter.lock() {
            match n {
                0 => filter.flush(&mut out),
                n => filter.feed(&buffer[..n], &mut out),
            }
        }
        into.write_all(&out)?;
        out.clear();
        if n == 0 {
            return Ok(());
        }
    }
}

/// The stream by way of a file.
fn saved(from: UnixStream, mut into: UnixStream, filter: &Mutex<Filter>) -> std::io::Result<()> {
    let mut file = unnamed_file()?;
    forward(from, &file, filter)?;
    file.rewind()?;
    std::io::copy(&mut file, &mut into)?;
    into.shutdown(Shutdown::Write)
}

/// A file that is gone when nobody has it open.
fn unnamed_file() -> std::io::Result<std::fs::File> {
    use rustix::fs::{Mode, OFlags, open};
    let dir = std::env::temp_dir();
    let fd = open(
        &dir,
        OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC,
        Mode::RUSR | Mode::WUSR,
    )?;
    Ok(fd.into())
}

/// Passes bytes to the runner.
fn show(bytes: &[u8]) -> std::result::Result<(), String> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|e| format!("cannot write the console: {e}"))
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(400).collect()
}
