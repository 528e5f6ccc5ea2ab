//! A bar on standard error that shows what is running. Hidden when that is no terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The bar.
pub struct Bar {
    bar: ProgressBar,
    running: Mutex<BTreeMap<usize, (String, Instant)>>,
}

impl Bar {
    /// A bar for `cases` cases.
    pub fn new(cases: usize) -> Self {
        let visible = std::io::stderr().is_terminal() && std::env::var_os("CI").is_none();
        let target = match visible {
            true => ProgressDrawTarget::stderr_with_hz(10),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(cases as u64), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:20} {pos}/{len} {elapsed} {wide_msg}")
        {
            bar.set_style(style);
        }
        if visible {
            bar.enable_steady_tick(Duration::from_millis(250));
        }
        Bar {
            bar,
            running: Mutex::default(),
        }
    }

    /// Case `id` of job `job` runs now.
    pub fn case(&self, job: usize, id: &str) {
        if self.bar.is_hidden() {
            return;
        }
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.insert(job, (id.to_owned(), Instant::now()));
        self.bar.set_message(message(&running));
    }

    /// Job `job` is over; `cases` more cases have their lines.
    pub fn done(&self, job: usize, cases: usize) {
        self.bar.inc(cases as u64);
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.remove(&job);
        self.bar.set_message(message(&running));
    }

    /// Hides the bar while `then` writes.
    pub fn suspend<T>(&self, then: impl FnOnce() -> T) -> T {
        self.bar.suspend(then)
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn message(running: &BTreeMap<usize, (String, Instant)>) -> String {
    let age = |since: &Instant| since.elapsed().as_secs();
    let word = |(id, since): &(String, Instant)| match age(since) {
        0 => id.clone(),
        age => format!("{id} ({age} s)"),
    };
    running.values().map(word).collect::<Vec<_>>().join(", ")
}
