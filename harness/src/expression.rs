//! The selection language of `-E`: `group(gic) & !group(slow) & failed(last)`.
//!
//! ```text
//! or    = and { ("|" | "or") and }
//! and   = not { ("&" | "and") not }
//! not   = ("!" | "not") not | "(" or ")" | call
//! call  = NAME "(" [ argument { "," argument } ] ")"
//! ```
//!
//! An argument is a glob or `/regex/`, as everywhere else on the command line. Some terms need more
//! than a case: `hypervisor(..)` the machine it runs on, `failed(..)` an earlier run. As long as
//! that is not known such a term is neither true nor false, and a case that may still be chosen is
//! kept. A mistake is shown with a caret under it: a selection that silently means something else
//! is a run that silently tests something else.

use crate::arch::Arch;
use crate::catalog::{Catalog, CatalogUnit};
use crate::error::{Error, Result, did_you_mean};
use crate::manifest::{NODEFAULT, SELFCHECK};
use crate::outcome::Outcome;
use crate::runs::{self, Past};
use crate::select::Filter;
use assay_protocol::need::NEEDS;
use glob::Pattern;
use regex::Regex;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// The terms, with what they say; `assay run --help` and docs/selection.md show the same words.
pub const TERMS: &[(&str, &str)] = &[
    ("all", "every case"),
    ("arch", "the architecture is one of the arguments"),
    (
        "failed",
        "the outcome in that run was unexpected; the run is `last` unless named",
    ),
    ("group", "the case is in one of these groups"),
    ("hypervisor", "it runs on one of these hypervisors"),
    (
        "id",
        "a glob (and everything below it) or /regex/ over the id",
    ),
    ("need", "it has one of these needs"),
    ("new", "that run holds no such case"),
    ("none", "no case"),
    (
        "outcome",
        "it had one of these outcomes in the run named last, or in `last`",
    ),
    ("spec", "a glob or /regex/ over its spec reference"),
    ("unit", "its unit is one of these"),
];

/// Words of `outcome(..)` beyond the six outcomes.
const VERDICTS: [&str; 5] = ["known", "fixed", "flaky", "expected", "unexpected"];

/// A word as a glob or `/regex/` over one name.
#[derive(Clone, Debug)]
enum Word {
    Glob(Pattern),
    Regex(Regex),
}

impl Word {
    fn matches(&self, text: &str) -> bool {
        match self {
            Word::Glob(glob) => glob.matches(text),
            Word::Regex(regex) => regex.is_match(text),
        }
    }
}

/// One term or a combination.
#[derive(Clone, Debug)]
enum Node {
    Constant(bool),
    Arch(Vec<Arch>),
    Group(Vec<Word>),
    Id(Vec<Filter>),
    Unit(Vec<Word>),
    Need(Vec<Word>),
    Spec(Vec<Word>),
    Hypervisor(Vec<Word>),
    /// Words and the run.
    Outcome(Vec<String>, String),
    /// The run.
    New(String),
    Not(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
}

/// A parsed expression.
#[derive(Clone, Debug)]
pub struct Expression {
    text: String,
    node: Node,
    /// Names of groups and units as written, to check them against the catalog.
    written: Vec<(&'static str, String, Range<usize>)>,
    /// Earlier runs that it speaks of, filled by [`Expression::load`].
    past: BTreeMap<String, Past>,
}

/// What a case is judged by.
pub struct Subject<'a> {
    /// Its unit.
    pub unit: &'a CatalogUnit,
    /// Its number in the payload.
    pub number: usize,
    /// Its hypervisor, when that is known.
    pub hypervisor: Option<&'a str>,
}

/// A mistake and where it is.
struct Mistake {
    at: Range<usize>,
    what: String,
}

impl Expression {
    /// Parses `text`.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parser = Parser {
            text,
            at: 0,
            depth: 0,
            written: Vec::new(),
        };
        let parsed = parser.or().and_then(|node| {
            parser.space();
            match parser.rest().chars().next() {
                None => Ok(node),
                Some(')') => Err(parser.mistake(1, "this ')' closes nothing")),
                Some(_) => {
                    let length = parser.name_length().max(1);
                    Err(parser.mistake(length, "expected '&', '|' or the end"))
                }
            }
        });
        let written = std::mem::take(&mut parser.written);
        match parsed {
            Ok(node) => Ok(Expression {
                text: text.to_owned(),
                node,
                written,
                past: BTreeMap::new(),
            }),
            Err(mistake) => Err(pointed(text, &mistake)),
        }
    }

    /// Refuses groups and units that `catalog` does not know.
    pub fn check(&self, catalog: &Catalog) -> Result<()> {
        let mut groups: Vec<&str> = catalog.groups().into_iter().collect();
        groups.extend([NODEFAULT, SELFCHECK]);
        let units: Vec<&str> = catalog.units.iter().map(|u| u.unit.name.as_str()).collect();
        for (kind, text, at) in &self.written {
            let known = if *kind == "group" { &groups } else { &units };
            let Ok(word) = word(text) else { continue };
            if !known.iter().any(|name| word.matches(name)) {
                let hint = did_you_mean(text, known.iter().copied());
                let what = format!("unknown {kind} '{text}'{hint}");
                return Err(pointed(
                    &self.text,
                    &Mistake {
                        at: at.clone(),
                        what,
                    },
                ));
            }
        }
        Ok(())
    }

    /// Whether it names `group`, which asks for the group's cases.
    pub fn asks_for(&self, group: &str) -> bool {
        self.written
            .iter()
            .any(|(kind, text, _)| *kind == "group" && text == group)
    }

    /// Reads the earlier runs that it speaks of; names of runs are looked up in `runs`.
    pub fn load(&mut self, runs: &Path) -> Result<()> {
        let mut names = Vec::new();
        self.node.runs(&mut names);
        for name in names {
            let past = runs::past(runs, &name)
                .map_err(|e| Error::usage(format!("-E '{}': {e}", self.text)))?;
            self.past.insert(name, past);
        }
        Ok(())
    }

    /// Whether it is true of `subject`; `None` when that depends on what is not known yet.
    pub fn holds(&self, subject: &Subject<'_>) -> Option<bool> {
        let id = subject.unit.id(subject.number);
        self.node.holds(subject, &id, &self.past)
    }

    /// Whether `subject` may be chosen.
    pub fn allows(&self, subject: &Subject<'_>) -> bool {
        self.holds(subject) != Some(false)
    }
}

impl Node {
    fn runs(&self, names: &mut Vec<String>) {
        match self {
            Node::Outcome(_, run) | Node::New(run) if !names.contains(run) => {
                names.push(run.clone());
            }
            Node::Not(a) => a.runs(names),
            Node::And(a, b) | Node::Or(a, b) => {
                a.runs(names);
                b.runs(names);
            }
            _ => {}
        }
    }

    fn holds(&self, s: &Subject<'_>, id: &str, past: &BTreeMap<String, Past>) -> Option<bool> {
        let case = s.unit.case(s.number);
        let any = |words: &[Word], text: &str| words.iter().any(|w| w.matches(text));
        let entry = |run: &String| {
            let past = past.get(run)?;
            Some(past.of(s.hypervisor?, id))
        };
        Some(match self {
            Node::Constant(value) => *value,
            Node::Arch(archs) => archs.contains(&s.unit.unit.arch),
            Node::Group(words) => {
                let groups = s.unit.unit.groups.iter().chain(&case.groups);
                groups.into_iter().any(|g| any(words, g))
            }
            Node::Id(filters) => filters.iter().any(|f| f.matches(&s.unit.unit.name, id)),
            Node::Unit(words) => any(words, &s.unit.unit.name) || any(words, &s.unit.unit.id()),
            Node::Need(words) => case.needs.iter().any(|n| any(words, n)),
            Node::Spec(words) => any(words, &case.spec),
            Node::Hypervisor(words) => any(words, s.hypervisor?),
            Node::Outcome(words, run) => {
                entry(run)?.is_some_and(|was| words.iter().any(|w| was.is(w)))
            }
            Node::New(run) => entry(run)?.is_none(),
            Node::Not(a) => !a.holds(s, id, past)?,
            Node::And(a, b) => match (a.holds(s, id, past), b.holds(s, id, past)) {
                (Some(false), _) | (_, Some(false)) => false,
                (a, b) => a? && b?,
            },
            Node::Or(a, b) => match (a.holds(s, id, past), b.holds(s, id, past)) {
                (Some(true), _) | (_, Some(true)) => true,
                (a, b) => a? || b?,
            },
        })
    }
}

/// A glob or `/regex/` over a whole name.
fn word(text: &str) -> std::result::Result<Word, String> {
    match text.strip_prefix('/').and_then(|t| t.strip_suffix('/')) {
        Some(source) => Regex::new(source)
            .map(Word::Regex)
            .map_err(|e| format!("'{text}' is no regular expression: {}", last_line(&e))),
        None => Pattern::new(text)
            .map(Word::Glob)
            .map_err(|e| format!("'{text}' is no glob: {e}")),
    }
}

/// The line of a long message that says what is wrong.
fn last_line(error: &impl ToString) -> String {
    error
        .to_string()
        .lines()
        .last()
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// The message, the expression, and a caret under the mistake.
fn pointed(text: &str, mistake: &Mistake) -> Error {
    // One column per character; line breaks in the expression would tear the caret off.
    let shown: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let columns = |to: usize| text[..to].chars().count();
    let from = columns(mistake.at.start);
    let width = columns(mistake.at.end).saturating_sub(from).max(1);
    let caret = format!("{}{}", " ".repeat(from), "^".repeat(width));
    Error::usage(format!("-E: {}\n  {shown}\n  {caret}", mistake.what))
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    written: Vec<(&'static str, String, Range<usize>)>,
}

type Parsed<T> = std::result::Result<T, Mistake>;

/// An argument and where it stands.
struct Argument {
    text: String,
    at: Range<usize>,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn mistake(&self, length: usize, what: impl Into<String>) -> Mistake {
        let end = (self.at + length).min(self.text.len());
        Mistake {
            at: self.at..end,
            what: what.into(),
        }
    }

    fn name_length(&self) -> usize {
        let name = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        self.rest().find(|c| !name(c)).unwrap_or(self.rest().len())
    }

    /// Takes one of `signs`, or the operator's name as a word of its own.
    fn operator(&mut self, signs: &[&str], name: &str) -> bool {
        self.space();
        let rest = self.rest();
        let sign = signs
            .iter()
            .find(|s| rest.starts_with(**s))
            .map(|s| s.len());
        let length = self.name_length();
        let named = (rest[..length].eq_ignore_ascii_case(name) && !rest[length..].starts_with('('))
            .then_some(length);
        match sign.or(named) {
            Some(length) => {
                self.at += length;
                true
            }
            None => false,
        }
    }

    fn or(&mut self) -> Parsed<Node> {
        let mut node = self.and()?;
        while self.operator(&["||", "|"], "or") {
            node = Node::Or(Box::new(node), Box::new(self.and()?));
        }
        Ok(node)
    }

    fn and(&mut self) -> Parsed<Node> {
        let mut node = self.not()?;
        while self.operator(&["&&", "&"], "and") {
            node = Node::And(Box::new(node), Box::new(self.not()?));
        }
        Ok(node)
    }

    fn not(&mut self) -> Parsed<Node> {
        // A loop, not recursion: a thousand '!' must not exhaust the stack.
        let mut negative = false;
        while self.operator(&["!"], "not") {
            negative = !negative;
        }
        let node = self.primary()?;
        Ok(if negative {
            Node::Not(Box::new(node))
        } else {
            node
        })
    }

    fn primary(&mut self) -> Parsed<Node> {
        self.space();
        if self.rest().starts_with('(') {
            let open = self.at;
            // Depth is bounded so that no input can exhaust the stack.
            if self.depth == 100 {
                return Err(self.mistake(1, "more than 100 parentheses"));
            }
            self.at += 1;
            self.depth += 1;
            let node = self.or()?;
            self.depth -= 1;
            self.space();
            if !self.rest().starts_with(')') {
                let what = "this '(' is never closed";
                return Err(Mistake {
                    at: open..open + 1,
                    what: what.into(),
                });
            }
            self.at += 1;
            return Ok(node);
        }
        let (start, length) = (self.at, self.name_length());
        if length == 0 {
            return Err(match self.rest().chars().next() {
                None => self.mistake(1, "expected a term, found the end"),
                Some(c) => self.mistake(c.len_utf8(), format!("expected a term, found '{c}'")),
            });
        }
        let name = &self.rest()[..length];
        let names = || TERMS.iter().map(|(name, _)| *name);
        let Some((name, _)) = TERMS.iter().find(|(known, _)| *known == name) else {
            let what = match self.rest()[length..].trim_start().starts_with('(') {
                true => format!("unknown term '{name}'{}", did_you_mean(name, names())),
                false => format!("'{name}' is no term; write group({name}) or id({name})"),
            };
            return Err(self.mistake(length, what));
        };
        self.at += length;
        self.space();
        if !self.rest().starts_with('(') {
            return Err(Mistake {
                at: start..start + length,
                what: format!("'{name}' needs parentheses: {name}(...)"),
            });
        }
        let arguments = self.arguments()?;
        let whole = start..self.at;
        self.term(name, arguments, whole)
    }

    fn arguments(&mut self) -> Parsed<Vec<Argument>> {
        let open = self.at;
        let unclosed = || Mistake {
            at: open..open + 1,
            what: "this '(' is never closed".into(),
        };
        self.at += 1;
        let mut arguments = Vec::new();
        loop {
            self.space();
            let start = self.at;
            if self.rest().starts_with('/') {
                self.at += regex_length(self.rest()).ok_or_else(|| {
                    self.mistake(self.rest().len(), "this /regex/ has no closing '/'")
                })?;
            } else {
                // A glob may hold commas and parentheses within brackets only.
                let end = self.rest().find([',', ')', '(']).ok_or_else(unclosed)?;
                self.at += end;
                if self.rest().starts_with('(') {
                    return Err(self.mistake(1, "no parenthesis here; quote it in a /regex/"));
                }
            }
            let text = self.text[start..self.at].trim_end().to_owned();
            self.space();
            let end = start + text.len();
            match (self.rest().chars().next(), text.is_empty()) {
                (Some(')'), true) if arguments.is_empty() => {
                    self.at += 1;
                    return Ok(arguments);
                }
                (Some(_), true) => return Err(self.mistake(1, "expected an argument")),
                (Some(c @ (',' | ')')), false) => {
                    arguments.push(Argument {
                        text,
                        at: start..end,
                    });
                    self.at += 1;
                    if c == ')' {
                        return Ok(arguments);
                    }
                }
                (Some(_), false) => return Err(self.mistake(1, "expected ',' or ')'")),
                (None, _) => return Err(unclosed()),
            }
        }
    }

    fn term(
        &mut self,
        name: &'static str,
        mut arguments: Vec<Argument>,
        whole: Range<usize>,
    ) -> Parsed<Node> {
        let words = |arguments: &[Argument]| -> Parsed<Vec<Word>> {
            let word = |a: &Argument| {
                word(&a.text).map_err(|what| Mistake {
                    at: a.at.clone(),
                    what,
                })
            };
            arguments.iter().map(word).collect()
        };
        let none_wanted = matches!(name, "all" | "none");
        let optional = matches!(name, "failed" | "new");
        if none_wanted && let Some(first) = arguments.first() {
            let what = format!("{name}() takes no argument");
            return Err(Mistake {
                at: first.at.clone(),
                what,
            });
        }
        if arguments.is_empty() && !none_wanted && !optional {
            return Err(Mistake {
                at: whole,
                what: format!("{name}() needs an argument"),
            });
        }
        let run = |arguments: &[Argument]| match arguments {
            [] => Ok("last".to_owned()),
            [run] => Ok(run.text.clone()),
            [_, second, ..] => Err(Mistake {
                at: second.at.clone(),
                what: format!("{name}() takes one run"),
            }),
        };
        Ok(match name {
            "all" => Node::Constant(true),
            "none" => Node::Constant(false),
            "arch" => Node::Arch(
                arguments
                    .iter()
                    .map(|a| {
                        Arch::from_word(&a.text).ok_or_else(|| {
                            let known = Arch::ALL.map(Arch::word);
                            let hint = did_you_mean(&a.text, known);
                            let what = format!("unknown architecture '{}'{hint}", a.text);
                            Mistake {
                                at: a.at.clone(),
                                what,
                            }
                        })
                    })
                    .collect::<Parsed<_>>()?,
            ),
            "group" | "unit" => {
                let node = words(&arguments)?;
                let written = |a: &Argument| (name, a.text.clone(), a.at.clone());
                self.written.extend(arguments.iter().map(written));
                if name == "group" {
                    Node::Group(node)
                } else {
                    Node::Unit(node)
                }
            }
            "id" => Node::Id(
                arguments
                    .iter()
                    .map(|a| {
                        Filter::new(&a.text).map_err(|e| Mistake {
                            at: a.at.clone(),
                            what: format!(
                                "{} is neither glob nor regex: {}",
                                a.text,
                                last_line(&e)
                            ),
                        })
                    })
                    .collect::<Parsed<_>>()?,
            ),
            "need" => {
                let node = words(&arguments)?;
                for (word, a) in node.iter().zip(&arguments) {
                    let numbered = assay_protocol::need::parse(&a.text).is_some();
                    if !numbered && !NEEDS.iter().any(|need| word.matches(need.word)) {
                        let hint = did_you_mean(&a.text, NEEDS.iter().map(|n| n.word));
                        let what = format!("unknown need '{}'{hint}", a.text);
                        return Err(Mistake {
                            at: a.at.clone(),
                            what,
                        });
                    }
                }
                Node::Need(node)
            }
            "spec" => Node::Spec(words(&arguments)?),
            "hypervisor" => Node::Hypervisor(words(&arguments)?),
            "failed" => Node::Outcome(vec!["unexpected".into()], run(&arguments)?),
            "new" => Node::New(run(&arguments)?),
            _ => {
                let known: Vec<&str> = Outcome::ALL
                    .map(Outcome::word)
                    .into_iter()
                    .chain(VERDICTS)
                    .collect();
                // The last argument is a run when it is no outcome.
                let last =
                    arguments.pop_if(|last| last.text == "last" || last.text.contains(['/', '.']));
                let run = last.map_or_else(|| "last".to_owned(), |a| a.text);
                if arguments.is_empty() {
                    return Err(Mistake {
                        at: whole,
                        what: "outcome() needs an outcome".into(),
                    });
                }
                for a in &arguments {
                    if !known.contains(&a.text.as_str()) {
                        let hint = did_you_mean(&a.text, known.iter().copied());
                        let what = format!(
                            "unknown outcome '{}'{hint}; a run is `last` or a path with a '/'",
                            a.text
                        );
                        return Err(Mistake {
                            at: a.at.clone(),
                            what,
                        });
                    }
                }
                Node::Outcome(arguments.into_iter().map(|a| a.text).collect(), run)
            }
        })
    }
}

/// The length of the `/regex/` at the start of `text`, where `\/` does not end it.
fn regex_length(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '/' => {
                let after = text[i + 1..].trim_start();
                // An id in a regex holds slashes: only one before ',' or ')' ends it.
                if after.is_empty() || after.starts_with([',', ')']) {
                    return Some(i + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::tests::catalog;

    fn chosen(text: &str) -> Vec<String> {
        let expression = Expression::parse(text).unwrap();
        let catalog = catalog();
        let mut ids = Vec::new();
        for unit in &catalog.units {
            for number in unit.numbers.iter().copied() {
                let subject = Subject {
                    unit,
                    number,
                    hypervisor: Some("qemu-tcg"),
                };
                if expression.holds(&subject) == Some(true) {
                    ids.push(unit.id(number));
                }
            }
        }
        ids
    }

    fn mistake(text: &str) -> String {
        Expression::parse(text).unwrap_err().message
    }

    #[test]
    fn terms_combine_with_the_usual_precedence() {
        assert_eq!(chosen("unit(svm)").len(), 2);
        assert_eq!(chosen("group(npt)").len(), 3);
        assert_eq!(chosen("unit(svm) & group(npt)"), ["x86/svm/vmrun/b"]);
        assert_eq!(chosen("unit(svm) & !group(npt)"), ["x86/svm/vmrun/a"]);
        assert_eq!(chosen("unit(slow) | unit(svm) & group(npt)").len(), 3);
        assert_eq!(chosen("(unit(slow) | unit(svm)) & group(npt)").len(), 2);
        assert_eq!(chosen("not not unit(svm) and not none()").len(), 2);
        assert_eq!(chosen("all() & arch(x86)").len(), 6);
        assert_eq!(chosen("arch(arm64, s390x)").len(), 0);
    }

    #[test]
    fn arguments_are_globs_or_regular_expressions() {
        assert_eq!(chosen("id(x86/svm/**)").len(), 2);
        assert_eq!(chosen("id(/svm\\/vmrun\\/(a|c)$/)"), ["x86/svm/vmrun/a"]);
        assert_eq!(chosen("id(/svm/vmrun/b/)"), ["x86/svm/vmrun/b"]);
        assert_eq!(chosen("unit(s*)").len(), 4);
        assert_eq!(chosen("hypervisor(qemu-*)").len(), 6);
        assert_eq!(chosen("hypervisor(/^bochs/)").len(), 0);
    }

    #[test]
    fn what_is_not_known_yet_keeps_a_case() {
        let catalog = catalog();
        let subject = Subject {
            unit: &catalog.units[0],
            number: 0,
            hypervisor: None,
        };
        let holds = |text: &str| Expression::parse(text).unwrap().holds(&subject);
        assert_eq!(holds("hypervisor(bochs)"), None);
        assert_eq!(holds("hypervisor(bochs) & none()"), Some(false));
        assert_eq!(holds("hypervisor(bochs) | all()"), Some(true));
        assert_eq!(holds("!failed(last)"), None);
    }

    #[test]
    fn a_caret_stands_under_the_mistake() {
        let expect = "-E: unknown term 'gruop' (did you mean 'group'?)\n  \
                      !gruop(gic) & all()\n   ^^^^^";
        assert_eq!(mistake("!gruop(gic) & all()"), expect);
        for (text, what, from, width) in [
            ("group(a) group(b)", "expected '&', '|' or the end", 9, 5),
            ("slow", "write group(slow)", 0, 4),
            ("group", "needs parentheses", 0, 5),
            ("(group(a)", "never closed", 0, 1),
            ("group(a))", "closes nothing", 8, 1),
            ("group(a", "never closed", 5, 1),
            ("group()", "needs an argument", 0, 7),
            ("group(a,)", "expected an argument", 8, 1),
            ("group(a) & ", "found the end", 11, 1),
            ("& group(a)", "found '&'", 0, 1),
            ("id(/(/)", "neither glob nor regex", 3, 3),
            ("id(/ab)", "no closing '/'", 3, 4),
            ("arch(x68)", "did you mean 'x86'?", 5, 3),
            ("need(x86.swm)", "did you mean 'x86.svm'?", 5, 7),
            ("outcome(fial, last)", "did you mean 'fail'?", 8, 4),
            ("outcome(last)", "needs an outcome", 0, 13),
            ("failed(a, b)", "takes one run", 10, 1),
            ("all(x)", "takes no argument", 4, 1),
            ("é(x)", "unknown term", 0, 1),
            ("", "found the end", 0, 1),
        ] {
            let message = mistake(text);
            assert!(message.contains(what), "{text}: {message}");
            let caret = format!("{}{}", " ".repeat(from + 2), "^".repeat(width));
            assert_eq!(
                message.lines().last(),
                Some(caret.as_str()),
                "{text}: {message}"
            );
        }
    }

    #[test]
    fn groups_and_units_must_exist() {
        let check = |text: &str| Expression::parse(text).unwrap().check(&catalog());
        assert!(check("group(npt) | group(nodefault) | unit(svm)").is_ok());
        let error = check("all() & group(ntp)").unwrap_err().message;
        assert!(
            error.contains("unknown group 'ntp' (did you mean 'npt'?)"),
            "{error}"
        );
        assert!(error.ends_with("\n                ^^^"), "{error}");
        assert!(
            check("unit(swm)")
                .unwrap_err()
                .message
                .contains("did you mean 'svm'?")
        );
    }

    #[test]
    fn no_input_exhausts_the_stack() {
        assert!(Expression::parse(&"(".repeat(100_000)).is_err());
        assert!(Expression::parse(&format!("{}all()", "!".repeat(100_000))).is_ok());
        let long = vec!["all()"; 5_000].join("&");
        assert!(Expression::parse(&long).is_ok());
    }
}
