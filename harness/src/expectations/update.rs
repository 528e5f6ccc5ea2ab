//! `--update-expectations`: the file follows what a run found, and keeps its comments.
//!
//! The file is edited as text, item by item: entries that became stale go, deviations that nothing
//! explains are appended with a reason for a person to complete. Everything else stays to the byte.

use crate::outcome::Outcome;
use std::fmt::Write;

/// A deviation that no entry explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deviation {
    /// The case.
    pub id: String,
    /// What became of it.
    pub outcome: Outcome,
    /// What there was to say.
    pub message: String,
}

/// `text` without the entries numbered in `stale` (from 0), and with `new` at its end.
pub fn update(text: &str, stale: &[usize], new: &[Deviation], version: &str) -> String {
    let mut out = String::new();
    let mut entry: Option<usize> = None;
    for line in text.lines() {
        // A list item starts at column 0 and runs over the indented lines after it; comments and
        // empty lines at column 0 belong to nobody and stay.
        if line.starts_with("- ") || line == "-" {
            entry = Some(entry.map_or(0, |i| i + 1));
        }
        let inside = line.starts_with(['-', ' ', '\t']);
        let gone = inside && entry.is_some_and(|i| stale.contains(&i));
        if !gone {
            out.push_str(line);
            out.push('\n');
        }
    }
    if !new.is_empty() {
        if !out.is_empty() && !out.ends_with("\n\n") {
            out.push('\n');
        }
        let _ = writeln!(
            out,
            "# Found by a run on version {version}; not yet explained."
        );
    }
    for deviation in new {
        let message = deviation
            .message
            .replace(['\\', '"'], "'")
            .replace(['\n', '#'], " ");
        let _ = writeln!(
            out,
            "- id: {}\n  outcome: {}\n  reason: \"not yet explained: {}\"\n  reference: docs/findings.md",
            deviation.id,
            deviation.outcome,
            message.trim()
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expectations::Expectations;
    use crate::outcome::CaseResult;

    const TEXT: &str = "# head\n- { id: a/b/c, outcome: fail, reason: r, reference: x }\n\
                        # about the second\n- id: a/b/d\n  outcome: crash\n  # inside\n  reason: r\n  \
                        reference: x\n# tail\n";

    #[test]
    fn stale_entries_go_and_comments_stay() {
        assert_eq!(update(TEXT, &[], &[], "1"), TEXT);
        let first = update(TEXT, &[0], &[], "1");
        assert!(
            first.starts_with("# head\n# about the second\n- id: a/b/d\n"),
            "{first}"
        );
        let second = update(TEXT, &[1], &[], "1");
        assert!(second.ends_with("# about the second\n# tail\n"), "{second}");
        assert_eq!(Expectations::parse("e", &second).unwrap().entries.len(), 1);
    }

    #[test]
    fn new_deviations_parse_again() {
        let new = [Deviation {
            id: "a/b/e".into(),
            outcome: Outcome::Timeout,
            message: "say \"no\" # to\nthis \\".into(),
        }];
        let text = update(TEXT, &[0], &new, "7.2");
        let known = Expectations::parse("e", &text).unwrap();
        assert_eq!(known.entries.len(), 2);
        let judged = known.judge("a/b/e", "7.2", &CaseResult::plain(Outcome::Timeout));
        assert!(matches!(judged, crate::expectations::Verdict::Known(_)));
    }

    #[test]
    fn stale_and_overlapping_entries_are_found() {
        let known = Expectations::parse("e", TEXT).unwrap();
        let results = |c, d| vec![("a/b/c".to_owned(), c), ("a/b/d".to_owned(), d)];
        assert_eq!(
            known.stale("1", &results(Outcome::Pass, Outcome::Crash)),
            [0]
        );
        assert_eq!(
            known.stale("1", &results(Outcome::Skip, Outcome::Pass)),
            [1]
        );
        assert!(
            known
                .stale("1", &results(Outcome::Fail, Outcome::Fail))
                .is_empty()
        );
        assert!(known.overlaps(["a/b/c", "a/b/d"].into_iter()).is_empty());
        let twice =
            format!("{TEXT}- {{ id: \"a/b/*\", outcome: crash, reason: r, reference: x }}\n");
        let known = Expectations::parse("e", &twice).unwrap();
        assert_eq!(known.overlaps(["a/b/c", "a/b/d"].into_iter()), [(1, 2)]);
    }
}
