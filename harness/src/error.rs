//! What can keep a command from doing its work, and how the process then ends.

use std::fmt;

/// Exit codes of `assay`. They are a promise: scripts test them.
pub mod exit {
    /// Every outcome was expected.
    pub const OK: u8 = 0;
    /// At least one outcome was not expected.
    pub const UNEXPECTED: u8 = 1;
    /// The command line, unittests.yaml, an expectation file or a payload is wrong.
    pub const USAGE: u8 = 2;
    /// Nothing ran: nothing was selected, or no hypervisor could be used.
    pub const NOTHING_RAN: u8 = 3;
    /// A signal ended the run.
    pub const INTERRUPTED: u8 = 130;
}

/// An error that ends a command before or instead of its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// One of [`exit`].
    pub exit: u8,
    /// What, where and the cure; one paragraph.
    pub message: String,
}

/// Shorthand of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The user's input is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Error {
            exit: exit::USAGE,
            message: message.into(),
        }
    }

    /// There is nothing to run.
    pub fn nothing(message: impl Into<String>) -> Self {
        Error {
            exit: exit::NOTHING_RAN,
            message: message.into(),
        }
    }

    /// `cannot <what> <path>: <why>`, for files.
    pub fn file(what: &str, path: &std::path::Path, why: impl fmt::Display) -> Self {
        Error::usage(format!("cannot {what} {}: {why}", path.display()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// A closing ` (did you mean 'x'?)` when one of `known` is close to `word`, else nothing.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(word, k), k))
        .filter(|(distance, k)| *distance <= 1 + k.len().min(word.len()) / 4)
        .min()
        .map(|(_, k)| format!(" (did you mean '{k}'?)"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_name_the_nearest_word_or_nothing() {
        assert_eq!(
            did_you_mean("grups", ["groups", "unit"]),
            " (did you mean 'groups'?)"
        );
        assert_eq!(
            did_you_mean("timout_s", ["timeout_s"]),
            " (did you mean 'timeout_s'?)"
        );
        assert_eq!(did_you_mean("zebra", ["groups", "unit"]), "");
    }
}
