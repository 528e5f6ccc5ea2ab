//! What the payload `bench` measures, and the note in which it says so.

use core::fmt;

/// Key of the number of pages on the command line.
pub const PAGES: &str = "pages";
/// Key of the number of rounds.
pub const ROUNDS: &str = "rounds";
/// Pages without the key: few, so that most rounds escape the host's scheduler.
pub const DEFAULT_PAGES: u32 = 256;
/// The most pages: the largest dirty ring that the kernel makes takes them all.
pub const MAX_PAGES: u32 = 1 << 15;
/// Rounds without the key.
pub const DEFAULT_ROUNDS: u32 = 9;
/// The most rounds: each is a note, and a case has room for so many.
pub const MAX_ROUNDS: u32 = 100;

/// Ways for a first write to a page to cost more than a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The write is logged; getting the log has watched the page anew.
    Bitmap,
    /// The write is logged; clearing the log has watched the page anew.
    Manual,
    /// The write goes into the processor's dirty ring.
    Ring,
    /// The page is not there and the host fills it.
    Missing,
    /// The page's contents are there and the host maps it.
    Minor,
}

impl Kind {
    /// All of them, in the order of the table.
    pub const ALL: [Kind; 5] = [
        Kind::Bitmap,
        Kind::Manual,
        Kind::Ring,
        Kind::Missing,
        Kind::Minor,
    ];

    /// Its word in a note.
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Bitmap => "bitmap",
            Kind::Manual => "manual",
            Kind::Ring => "ring",
            Kind::Missing => "missing",
            Kind::Minor => "minor",
        }
    }
}

/// One round: plain writes, and right after them first writes of one kind by the same processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The kind.
    pub kind: Kind,
    /// Processors that wrote.
    pub cpus: u32,
    /// Pages that were written for the first time, each once, by all processors together.
    pub pages: u64,
    /// How long that took, on the guest's clock.
    pub ns: u64,
    /// How long one plain write to each of as many other pages took.
    pub plain_ns: u64,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let word = self.kind.word();
        write!(
            f,
            "bench {word} cpus={} pages={} ns={} plain_ns={}",
            self.cpus, self.pages, self.ns, self.plain_ns
        )
    }
}

impl Sample {
    /// Reads a note; `None` when it is another one.
    pub fn parse(note: &str) -> Option<Sample> {
        let (word, values) = note.strip_prefix("bench ")?.split_once(' ')?;
        let value = |key| crate::cmdline::value(values, key)?.parse::<u64>().ok();
        Some(Sample {
            kind: Kind::ALL.into_iter().find(|kind| kind.word() == word)?,
            cpus: value("cpus")?.try_into().ok()?,
            pages: value("pages")?,
            ns: value("ns")?,
            plain_ns: value("plain_ns")?,
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn notes_are_read_as_they_are_written() {
        for kind in Kind::ALL {
            let sample = Sample {
                kind,
                cpus: 2,
                pages: 1024,
                ns: 7_000_000,
                plain_ns: 9_000,
            };
            assert_eq!(Sample::parse(&sample.to_string()), Some(sample));
        }
        for other in ["", "bench ring", "bench x cpus=1 pages=1 ns=1", "a note"] {
            assert_eq!(Sample::parse(other), None, "{other}");
        }
    }
}
