//! What can become of a case, and why.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// The six outcomes. Each planned case gets exactly one.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The hypervisor keeps the promise.
    Pass,
    /// The machine or the host lacks something; the need is named.
    Skip,
    /// The hypervisor breaks the promise.
    Fail,
    /// The machine died while the case ran.
    Crash,
    /// The case took longer than its limit.
    Timeout,
    /// The suite's own fault: the payload, the transcript or the adaptor.
    Error,
}

impl Outcome {
    /// All of them, in the order of summaries.
    pub const ALL: [Outcome; 6] = [
        Outcome::Pass,
        Outcome::Skip,
        Outcome::Fail,
        Outcome::Crash,
        Outcome::Timeout,
        Outcome::Error,
    ];

    /// Its word in every report.
    pub const fn word(self) -> &'static str {
        match self {
            Outcome::Pass => "pass",
            Outcome::Skip => "skip",
            Outcome::Fail => "fail",
            Outcome::Crash => "crash",
            Outcome::Timeout => "timeout",
            Outcome::Error => "error",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// The named causes of an outcome that is neither pass nor skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A check of the case did not hold.
    Assertion,
    /// The payload panicked.
    Panic,
    /// An exception that no case caught.
    Exception,
    /// The machine reset itself or stopped without a word; a triple fault does that.
    Reset,
    /// The hypervisor ended with an exit status of its own.
    Exit,
    /// A signal killed the hypervisor.
    Signal,
    /// The case ran longer than its limit.
    Timeout,
    /// The machine never said that the payload was running.
    NoBoot,
    /// The payload went on, or ended, without a result for the case.
    NoResult,
    /// The transcript contradicts itself.
    BadTranscript,
    /// The payload refused its command line.
    Usage,
    /// The case asked for a service that nobody offered.
    Service,
    /// The machine ended in another way than the case promised.
    WrongEnd,
    /// The hypervisor cannot be used on this host.
    Unavailable,
    /// The hypervisor could not be started.
    Spawn,
    /// A signal ended the run before the case had its turn.
    Interrupted,
    /// `--fail-fast` ended the run before the case had its turn.
    NotRun,
}

impl Kind {
    /// Its word in reports: the name in kebab case.
    pub fn word(self) -> String {
        let name = format!("{self:?}");
        let mut word = String::new();
        for c in name.chars() {
            if c.is_ascii_uppercase() && !word.is_empty() {
                word.push('-');
            }
            word.push(c.to_ascii_lowercase());
        }
        word
    }
}

/// What the guest or the runner has to say about an outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Diagnostic {
    /// What was checked, or what went wrong.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    /// What the manual asks for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expected: Option<String>,
    /// What the hypervisor did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub got: Option<String>,
    /// `file:line` of the check.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at: Option<String>,
    /// The manual's section.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub spec: Option<String>,
    /// Values worth keeping.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub notes: Vec<String>,
    /// Registers and backtrace of a panic or exception.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub details: Vec<String>,
    /// Keys of the guest's block that the runner does not know.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub other: Vec<(String, String)>,
}

impl Attempt {
    /// `fail: message`, or the outcome alone.
    pub fn text(&self) -> String {
        match &self.message {
            Some(message) => format!("{}: {message}", self.outcome),
            None => self.outcome.word().to_owned(),
        }
    }
}

/// What became of one case.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseResult {
    /// The outcome.
    pub outcome: Outcome,
    /// The need that was missing, of a skip.
    pub need: Option<String>,
    /// The cause, when the outcome is neither pass nor skip.
    pub kind: Option<Kind>,
    /// What there is to say.
    pub diagnostic: Diagnostic,
    /// From `# start` to the result, as the runner saw it.
    pub duration: Duration,
    /// The last console lines before a crash or timeout.
    pub console: Vec<String>,
    /// What each attempt came to, when there was more than one.
    pub attempts: Vec<Attempt>,
}

/// One of several attempts at a case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    /// What it came to.
    pub outcome: Outcome,
    /// What there was to say.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    /// Milliseconds from start to result.
    pub duration_ms: f64,
}

impl CaseResult {
    /// A result without cause or diagnostics.
    pub fn plain(outcome: Outcome) -> Self {
        CaseResult {
            outcome,
            need: None,
            kind: None,
            diagnostic: Diagnostic::default(),
            duration: Duration::ZERO,
            console: Vec::new(),
            attempts: Vec::new(),
        }
    }

    /// A result with a cause that the runner found.
    pub fn caused(outcome: Outcome, kind: Kind, message: impl Into<String>) -> Self {
        let mut result = CaseResult::plain(outcome);
        result.kind = Some(kind);
        result.diagnostic.message = Some(message.into());
        result
    }

    /// A skip for the lack of `need`.
    pub fn skip(need: impl Into<String>) -> Self {
        CaseResult {
            need: Some(need.into()),
            ..CaseResult::plain(Outcome::Skip)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_kebab_words() {
        assert_eq!(Kind::NoBoot.word(), "no-boot");
        assert_eq!(
            serde_json::to_string(&Kind::BadTranscript).unwrap(),
            "\"bad-transcript\""
        );
        assert_eq!(Kind::BadTranscript.word(), "bad-transcript");
    }
}
