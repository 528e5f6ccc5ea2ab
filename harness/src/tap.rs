//! Reading TAP: streams of our own, and of other runners.
//!
//! `tap_parser` knows only TAP version 14 and no noise, so the text is mapped first: the version
//! line is rewritten, foreign lines and blocks that it would refuse are left out, and a `#` that
//! starts no directive is escaped.

use crate::outcome::Outcome;
use tap_parser::{DirectiveKind, TapParser, TapStatement};

/// A test line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Its number, where it has one.
    pub number: Option<usize>,
    /// Its description.
    pub title: String,
    /// Pass, skip or fail.
    pub outcome: Outcome,
    /// The reason after `# TODO`: the failure is known.
    pub todo: Option<String>,
}

/// A stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// How many tests the plan promises.
    pub plan: Option<usize>,
    /// The test lines.
    pub points: Vec<Point>,
    /// The stream was cut short by `Bail out!`.
    pub bailed: bool,
}

/// A stream's frame, which `tap_parser` does not report when it is broken.
struct Frame {
    plan: Option<usize>,
    bailed: bool,
}

/// Rewrites TAP13 so that `tap_parser` reads it: it stops at the plan's count, so a plan that
/// counts the test lines replaces the stream's own.
fn map(text: &str) -> (String, Frame) {
    let mut tests = String::new();
    let mut count = 0;
    let mut frame = Frame {
        plan: None,
        bailed: false,
    };
    for line in text.lines() {
        if line.starts_with("Bail out!") {
            frame.bailed = true;
        } else if let Some(plan) = line.strip_prefix("1..") {
            let plan = plan.split([' ', '#']).next().unwrap_or(plan);
            frame.plan = frame.plan.or(plan.parse().ok());
        } else if line.starts_with("ok ") || line.starts_with("not ok ") {
            count += 1;
            tests.push_str(&escape(line));
            tests.push('\n');
        }
    }
    (format!("TAP version 14\n1..{count}\n{tests}"), frame)
}

/// Escapes every `#` but the one that starts a directive.
fn escape(line: &str) -> String {
    let directive = |rest: &str| {
        let word = rest.trim_start().get(..4).unwrap_or("");
        word.eq_ignore_ascii_case("skip") || word.eq_ignore_ascii_case("todo")
    };
    let at = line
        .match_indices(" #")
        .find(|(i, _)| directive(&line[i + 2..]))
        .map(|(i, _)| i);
    let (title, rest) = line.split_at(at.unwrap_or(line.len()));
    let title = title.replace("\\#", "#").replace('#', "\\#");
    match rest.split_at_checked(2) {
        Some((start, reason)) => format!("{title}{start}{}", reason.replace('#', "\\#")),
        None => title,
    }
}

/// Reads `text`.
pub fn read(text: &str) -> Result<Stream, String> {
    let (mapped, frame) = map(text);
    let mut parser = TapParser::new();
    let document = parser.parse(&mapped).map_err(|e| e.to_string())?;
    let mut stream = Stream {
        plan: frame.plan,
        bailed: frame.bailed,
        points: Vec::new(),
    };
    for statement in document {
        if let TapStatement::TestPoint(test) = statement {
            let reason = |key: DirectiveKind| {
                let found = test.directive.as_ref().filter(|d| d.kind == key);
                found.map(|d| d.reason.unwrap_or_default().trim().to_owned())
            };
            let outcome = match (test.result, reason(DirectiveKind::Skip)) {
                (true, Some(_)) => Outcome::Skip,
                (true, None) => Outcome::Pass,
                (false, _) => Outcome::Fail,
            };
            let title = test.desc.unwrap_or_default();
            let title = title
                .trim_start_matches("- ")
                .replace("\\#", "#")
                .trim()
                .to_owned();
            let todo = reason(DirectiveKind::Todo);
            stream.points.push(Point {
                number: test.number,
                title,
                outcome,
                todo,
            });
        }
    }
    Ok(stream)
}

/// Reads a stream of our own, which must be flawless: version and plan first, numbers from one
/// without gaps, as many as planned, and no title twice.
pub fn validate(text: &str) -> Result<Stream, String> {
    let mut lines = text.lines();
    if lines.next() != Some("TAP version 13") {
        return Err("line 1 is no version line".into());
    }
    if !lines.next().is_some_and(|l| l.starts_with("1..")) {
        return Err("line 2 is no plan".into());
    }
    let mut block = false;
    for (i, line) in lines.enumerate() {
        let inside = block;
        match line {
            "  ---" if !block => block = true,
            "  ..." if block => block = false,
            _ => {}
        }
        let known = ["ok ", "not ok ", "# ", "Bail out!"]
            .iter()
            .any(|p| line.starts_with(p));
        if line.is_empty() || !(inside || block || known) || (block && !line.starts_with("  ")) {
            return Err(format!("line {} is no TAP: '{line}'", i + 3));
        }
    }
    let stream = read(text)?;
    let numbers = stream.points.iter().map(|p| p.number);
    if !numbers.eq((1..=stream.points.len()).map(Some)) {
        return Err("the numbers have gaps".into());
    }
    if stream.plan != Some(stream.points.len()) {
        return Err(format!(
            "plan {:?}, but {} tests",
            stream.plan,
            stream.points.len()
        ));
    }
    let mut titles: Vec<&str> = stream.points.iter().map(|p| p.title.as_str()).collect();
    titles.sort_unstable();
    match titles.windows(2).find(|w| w[0] == w[1]) {
        Some(twice) => Err(format!("'{}' comes twice", twice[0])),
        None => Ok(stream),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "TAP version 13\n1..4\nok 1 - a/b\nnot ok 2 - a/c\n  ---\n  got: \"#\"\n  ...\n\
                        ok 3 - a/d # SKIP needs cpus>=2\nnot ok 4 - a/e # TODO known (no. 5)\n";

    #[test]
    fn our_own_streams_are_read() {
        let stream = validate(TEXT).unwrap();
        let outcomes: Vec<_> = stream.points.iter().map(|p| p.outcome).collect();
        assert_eq!(
            outcomes,
            [Outcome::Pass, Outcome::Fail, Outcome::Skip, Outcome::Fail]
        );
        assert_eq!(stream.points[1].title, "a/c");
        assert_eq!(stream.points[3].todo.as_deref(), Some("known (no. 5)"));
    }

    #[test]
    fn foreign_streams_are_read_as_far_as_they_go() {
        let text = "noise\nTAP version 13\nok 1 - x # 5 of 7\nnot ok 2 y\nBail out! gone\n";
        let stream = read(text).unwrap();
        assert!(stream.bailed);
        assert_eq!(stream.points[0].title, "x # 5 of 7");
        assert_eq!(stream.points[1].outcome, Outcome::Fail);
    }

    #[test]
    fn flaws_of_our_own_are_found() {
        for (from, to) in [
            ("1..4", "1..5"),
            ("ok 3", "ok 7"),
            ("a/d", "a/b"),
            ("TAP version 13", "TAP version 14"),
            ("  ...", "..."),
            ("1..4\n", "1..4\n\n"),
        ] {
            assert!(
                validate(&TEXT.replacen(from, to, 1)).is_err(),
                "{from} -> {to}"
            );
        }
    }
}
