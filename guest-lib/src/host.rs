//! Help from whoever supervises the hypervisor: requests over the console.
//!
//! The guest prints `# service N words` and reads `N ok words` or `N error words` from the
//! console's input. Assay's own VMM has a faster way, the doorbell ([`crate::service`]). Which services there are
//! stands on the command line; a case names the need and is skipped where it is not met.

use crate::arch::{cpu, platform};
use crate::case::{Failure, Stop};
use crate::cpus::{self, Cpu};
use crate::line;
use crate::service;
use crate::time;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use assay_protocol::line::SERVICE;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Moves the machine to another process while it runs.
pub const MIGRATE: &str = "migrate";
/// Moves the machine; part of its memory follows when it is asked for.
pub const MIGRATE_POSTCOPY: &str = "migrate_postcopy";
/// Saves the machine to a file and goes on in a fresh one.
pub const SAVE_RESTORE: &str = "save_restore";
/// Injects an NMI, or what the architecture has in its place.
pub const INJECT_NMI: &str = "inject nmi";

/// The longest answer that is kept.
const LONGEST: usize = 512;

/// The host did not do it; these are its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub String);

impl From<Refused> for Stop {
    #[track_caller]
    fn from(refused: Refused) -> Self {
        Failure::new(format!("the host refused: {}", refused.0)).into()
    }
}

/// Asks the host and waits for its answer, which may have words.
///
/// There is no limit: the clock may stand still or jump meanwhile. The runner's limit holds.
pub fn ask(words: &str) -> Result<String, Refused> {
    ask_while(words, || ())
}

/// As [`ask`], and does `meanwhile` again and again until the answer is there.
pub fn ask_while(words: &str, mut meanwhile: impl FnMut()) -> Result<String, Refused> {
    // Assay's own VMM saves and restores by its doorbell.
    if words == SAVE_RESTORE && service::has_doorbell() {
        let done = service::rebuild().map_err(|why| Refused(format!("{why:?}")));
        return done.map(|()| String::new());
    }
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed).to_string();
    platform::console_listen(true);
    while platform::console_read().is_some() {}
    line!("{SERVICE}{number} {words}");
    let mut text = String::new();
    let result = loop {
        meanwhile();
        // Each poll takes the lock under which the host works on its answer. No clock is read in
        // between, for that may take the same lock, and the clock may stand still.
        for i in 0..cpu::RELAXES_BETWEEN_POLLS {
            // Where the hint is no instruction, an empty loop would vanish.
            core::hint::black_box(i);
            cpu::relax();
        }
        let mut complete = false;
        while !complete && let Some(byte) = platform::console_read() {
            complete = byte == b'\n';
            if byte != b'\n' && text.len() < LONGEST {
                text.push(char::from(byte));
            }
        }
        if !complete {
            continue;
        }
        match text.trim().strip_prefix(&*number).map(str::trim_start) {
            Some(rest) if rest.starts_with("ok") => break Ok(rest[2..].trim().to_string()),
            Some(rest) if rest.starts_with("error") => {
                break Err(Refused(rest[5..].trim().to_string()));
            }
            // An answer to somebody who no longer waits.
            _ => text.clear(),
        }
    };
    platform::console_listen(false);
    result
}

/// Runs `step` on every processor again and again while the host does each of `requests`. After
/// each answer every processor must go on. Returns the processors' states, in their order.
pub fn during<S: Send>(
    requests: &[&str],
    fresh: impl Fn(Cpu) -> S + Sync,
    step: impl Fn(&mut S) + Sync,
) -> Result<Vec<S>, Stop> {
    let steps: Vec<AtomicU64> = cpus::all().map(|_| AtomicU64::new(0)).collect();
    let over = AtomicBool::new(false);
    let advanced = |from: &[u64]| {
        let behind = || {
            let mut others = steps.iter().zip(from).skip(1);
            others.any(|(now, from)| now.load(Ordering::Relaxed) < from + 2)
        };
        time::wait_until(time::PATIENCE, || !behind())
    };
    let lead = |state: &mut S| -> Result<(), Stop> {
        let now = || -> Vec<u64> { steps.iter().map(|s| s.load(Ordering::Relaxed)).collect() };
        for request in requests {
            if !advanced(&now()) {
                return Err(Failure::new("a processor does not go on before the request").into());
            }
            ask_while(request, || step(state))?;
            if !advanced(&now()) {
                return Err(
                    Failure::new(format!("a processor stands still after {request}")).into(),
                );
            }
        }
        Ok(())
    };
    let results = cpus::on_all(|cpu| {
        let mut state = fresh(cpu);
        if cpu == Cpu::BOOT {
            let led = lead(&mut state);
            over.store(true, Ordering::Release);
            return (state, led);
        }
        while !over.load(Ordering::Acquire) {
            step(&mut state);
            steps[cpu.0].fetch_add(1, Ordering::Relaxed);
        }
        (state, Ok(()))
    })?;
    let mut states = Vec::new();
    for (state, led) in results {
        led?;
        states.push(state);
    }
    Ok(states)
}
