//! The payload's command line: words `key=value` separated by spaces.
//!
//! | key | value | without it |
//! | --- | --- | --- |
//! | `unit` | unit name, a path segment | the payload's own name |
//! | `cases` | [`Selection`]: `0-11,13,20-24`, run in that order | every case, by number |
//! | `services` | comma-separated service names the host offers | none |
//! | `second_boot` | `1` when the runner itself restarts the payload on purpose | a first boot |
//!
//! Words with other keys are left to the payload (`guest_lib::cmdline::value`).

/// Key of the unit name.
pub const UNIT: &str = "unit";
/// Key of the selected cases.
pub const CASES: &str = "cases";
/// Key of the services the host offers.
pub const SERVICES: &str = "services";
/// Key that says that the boot is a relaunch on purpose.
pub const SECOND_BOOT: &str = "second_boot";

/// The value of `key` in `line`, if it is there.
pub fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split_ascii_whitespace()
        .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

/// Case numbers in run order, as `0-11,13,20-24`.
#[derive(Clone, Debug)]
pub struct Selection<'a> {
    rest: &'a str,
    range: Option<(u32, u32)>,
}

impl<'a> Selection<'a> {
    /// Reads `text`; wrong words end the iteration with `Err`.
    pub fn new(text: &'a str) -> Self {
        Selection {
            rest: text,
            range: None,
        }
    }
}

/// A word in a selection that is neither `N` nor `N-M` with N <= M.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSelection;

impl Iterator for Selection<'_> {
    type Item = Result<u32, BadSelection>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some((next, last)) = self.range {
            self.range = (next < last).then(|| (next + 1, last));
            return Some(Ok(next));
        }
        if self.rest.is_empty() {
            return None;
        }
        let (word, rest) = self.rest.split_once(',').unwrap_or((self.rest, ""));
        self.rest = rest;
        let parsed = match word.split_once('-') {
            None => word.parse().ok().map(|n| (n, n)),
            Some((a, b)) => a.parse().ok().zip(b.parse().ok()),
        };
        match parsed {
            Some((first, last)) if first <= last => {
                self.range = Some((first, last));
                self.next()
            }
            _ => {
                self.rest = "";
                Some(Err(BadSelection))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn values_are_found_by_whole_key() {
        assert_eq!(value("xunit=a unit=b", "unit"), Some("b"));
        assert_eq!(value("unit", "unit"), None);
        assert_eq!(value("cases= unit=x", "cases"), Some(""));
    }

    #[test]
    fn selections_keep_their_order() {
        let all: Result<Vec<_>, _> = Selection::new("3,0-2,7").collect();
        assert_eq!(all.unwrap(), [3, 0, 1, 2, 7]);
    }

    #[test]
    fn bad_selections_end_with_an_error() {
        for bad in ["x", "3-1", "1,,2", "-", "1-"] {
            assert!(Selection::new(bad).any(|n| n.is_err()), "{bad}");
        }
    }
}
