//! Verdicts and fixtures.

use crate::fault::Fault;
use alloc::format;
use alloc::string::String;
use core::fmt;
use core::panic::Location;

/// What a case returns: `Ok` is a pass.
pub type Verdict = Result<(), Stop>;

/// Why a case stopped before its end.
#[derive(Debug)]
pub enum Stop {
    /// The hypervisor did not do what the manual asks for.
    Fail(Failure),
    /// The machine lacks something; the word is in [`assay_protocol::need`].
    Skip(&'static str),
}

/// A check that did not hold.
#[derive(Debug)]
pub struct Failure {
    /// What was checked.
    pub message: String,
    /// What the manual asks for; empty when the message says it.
    pub expected: String,
    /// What happened instead; empty when the message says it.
    pub got: String,
    /// Where the check stands.
    pub at: &'static Location<'static>,
}

impl Failure {
    /// A failure that its message describes fully.
    #[track_caller]
    pub fn new(message: impl Into<String>) -> Self {
        Failure {
            message: message.into(),
            expected: String::new(),
            got: String::new(),
            at: Location::caller(),
        }
    }

    /// A failed comparison. Values are shown by `Debug`, numbers in hexadecimal.
    #[track_caller]
    pub fn compared(message: String, got: &dyn fmt::Debug, expected: &dyn fmt::Debug) -> Self {
        Failure {
            message,
            expected: show(expected),
            got: show(got),
            at: Location::caller(),
        }
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Stop::Fail(failure)
    }
}

/// An unexpected fault fails the case.
impl From<Fault> for Stop {
    #[track_caller]
    fn from(fault: Fault) -> Self {
        Stop::Fail(Failure {
            message: String::from("no fault is expected here"),
            expected: String::from("no fault"),
            got: format!("{fault:?} ({})", crate::fault::details()),
            at: Location::caller(),
        })
    }
}

/// Stops the case as skipped. `need` is a word of [`assay_protocol::need`].
pub fn skip<T>(need: &'static str) -> Result<T, Stop> {
    Err(Stop::Skip(need))
}

/// A world that a case receives: built fresh before it, dropped after it.
///
/// `drop` puts back whatever the next case could see.
pub trait Fixture: Sized {
    /// Builds the world, or says why that cannot be done here.
    fn fresh() -> Result<Self, Stop>;
}

/// `Debug` on one line, with numbers in hexadecimal.
pub fn show(value: &dyn fmt::Debug) -> String {
    let pretty = format!("{value:#x?}");
    let mut line = String::with_capacity(pretty.len());
    for part in pretty.lines() {
        let part = part.trim();
        if part.starts_with(['}', ')', ']']) && line.ends_with(',') {
            line.pop();
        }
        let glued = line.is_empty()
            || line.ends_with(['(', '['])
            || part.starts_with([')', ']'])
            || line.ends_with('{') && part.starts_with('}');
        if !glued {
            line.push(' ');
        }
        line.push_str(part);
    }
    line
}
