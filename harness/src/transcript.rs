//! Console bytes in, protocol events out.
//!
//! The console belongs to the guest, so nothing in it is trusted: it may hold any bytes, lines of
//! any length, half a block, or no end. Memory stays bounded and nothing panics; what is not
//! understood becomes [`Event::Noise`].

use crate::outcome::Diagnostic;
use assay_protocol::line;
use assay_protocol::table::Ends;

/// Bytes of a line that are kept; the rest of a longer line is dropped.
pub const MAX_LINE: usize = 4096;
/// Lines of a diagnostic block that are kept.
const MAX_BLOCK: usize = 200;

/// Something that the guest said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The payload is running.
    Version,
    /// `1..N`.
    Plan,
    /// A case begins.
    Start {
        /// Its id.
        id: String,
    },
    /// A case has ended, with the block that followed its line.
    Result {
        /// Its id.
        id: String,
        /// `ok` or `not ok`.
        ok: bool,
        /// The missing need.
        skip: Option<String>,
        /// Its block.
        diagnostic: Box<Diagnostic>,
    },
    /// What happens next to the machine is the case's result.
    Expect(Ends),
    /// The payload gave up.
    Panic(String),
    /// An exception that no case caught.
    Exception(String),
    /// The payload ends early on purpose.
    Restart(String),
    /// The payload asks its host.
    Service(String),
    /// The payload refuses its command line.
    Usage(String),
    /// Any other comment.
    Comment(String),
    /// The payload ran everything it was asked to run.
    Done,
    /// Anything else.
    Noise(String),
}

/// Splits bytes into lines of bounded length.
#[derive(Default)]
struct Lines {
    line: Vec<u8>,
}

impl Lines {
    /// Feeds `bytes` and calls `each` for every line that is complete.
    fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(String)) {
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let (text, complete) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            let room = MAX_LINE - self.line.len();
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if complete {
                each(self.take());
            }
        }
    }

    fn take(&mut self) -> String {
        let line: Vec<u8> = self.line.iter().copied().filter(|b| *b != 0).collect();
        self.line.clear();
        String::from_utf8_lossy(&line)
            .trim_end_matches('\r')
            .to_owned()
    }
}

/// A result whose block may still follow.
struct Pending {
    id: String,
    ok: bool,
    skip: Option<String>,
    block: Option<Block>,
}

/// A diagnostic block that is being read.
#[derive(Default)]
struct Block {
    diagnostic: Diagnostic,
    list: Option<String>,
    lines: usize,
}

/// Reads one launch's console.
#[derive(Default)]
pub struct Transcript {
    lines: Lines,
    booted: bool,
    pending: Option<Pending>,
}

impl Transcript {
    /// Feeds `bytes` and appends what they say to `events`, each with its line.
    pub fn feed(&mut self, bytes: &[u8], events: &mut Vec<Event>) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.feed(bytes, |line| self.line(line, events));
        self.lines = lines;
    }

    /// The console has ended: a last line without a line feed counts, half a block too.
    pub fn finish(&mut self, events: &mut Vec<Event>) {
        if !self.lines.line.is_empty() {
            let line = self.lines.take();
            // Half of a result line is no result: only comments survive without their end.
            match line.starts_with("# ") {
                true => self.line(line, events),
                false => events.push(Event::Noise(line)),
            }
        }
        self.settle(events);
    }

    fn settle(&mut self, events: &mut Vec<Event>) {
        if let Some(p) = self.pending.take() {
            let diagnostic = Box::new(p.block.map(|b| b.diagnostic).unwrap_or_default());
            events.push(Event::Result {
                id: p.id,
                ok: p.ok,
                skip: p.skip,
                diagnostic,
            });
        }
    }

    fn line(&mut self, line: String, events: &mut Vec<Event>) {
        if let Some(pending) = &mut self.pending {
            match &mut pending.block {
                None if line == line::YAML_OPEN => {
                    pending.block = Some(Block::default());
                    return;
                }
                Some(_) if line == line::YAML_CLOSE => return self.settle(events),
                Some(block) if line.starts_with(line::YAML_INDENT) => {
                    return block.line(&line[line::YAML_INDENT.len()..]);
                }
                _ => self.settle(events),
            }
        }
        // Firmware may leave the cursor anywhere, and its escape sequences in our first line.
        if line == line::VERSION || (!self.booted && line.ends_with(line::VERSION)) {
            self.booted = true;
            return events.push(Event::Version);
        }
        if !self.booted {
            return events.push(Event::Noise(line));
        }
        match self.parse(&line) {
            Some(event) => events.push(event),
            None if self.pending.is_some() => {}
            None => events.push(Event::Noise(line)),
        }
    }

    /// What `line` says; a result becomes pending instead.
    fn parse(&mut self, line: &str) -> Option<Event> {
        if let Some(comment) = line.strip_prefix('#') {
            return Some(comment_event(line, comment));
        }
        if let Some(count) = line.strip_prefix("1..") {
            return count.trim_end().parse::<u32>().ok().map(|_| Event::Plan);
        }
        let (ok, rest) = match line.strip_prefix("not ok ") {
            Some(rest) => (false, rest),
            None => (true, line.strip_prefix("ok ")?),
        };
        let (number, rest) = rest.split_once(" - ")?;
        number.parse::<u32>().ok()?;
        let (id, skip) = match rest.split_once(line::SKIP) {
            Some((id, need)) => (id, Some(need.trim().to_owned())),
            None => (rest, None),
        };
        let id = id.trim_end().to_owned();
        self.pending = Some(Pending {
            id,
            ok,
            skip,
            block: None,
        });
        None
    }
}

fn comment_event(line: &str, comment: &str) -> Event {
    let after = |prefix: &str| line.strip_prefix(prefix).map(|text| text.trim().to_owned());
    if let Some(rest) = after(line::START)
        && let Some((_, id)) = rest.split_once(' ')
    {
        return Event::Start {
            id: id.trim().to_owned(),
        };
    }
    if let Some(how) = after(line::EXPECT) {
        match how.as_str() {
            "poweroff" => return Event::Expect(Ends::Poweroff),
            "reset" => return Event::Expect(Ends::Reset),
            "again" => return Event::Expect(Ends::Again),
            _ => {}
        }
    }
    if line.trim_end() == line::DONE {
        return Event::Done;
    }
    type Make = fn(String) -> Event;
    let kinds: [(&str, Make); 5] = [
        (line::PANIC, Event::Panic),
        (line::EXCEPTION, Event::Exception),
        (line::RESTART, Event::Restart),
        (line::SERVICE, Event::Service),
        (line::USAGE, Event::Usage),
    ];
    for (prefix, make) in kinds {
        // A message may be empty, and then the blank that ends the prefix may be missing.
        if line.trim_end() == prefix.trim_end() {
            return make(String::new());
        }
        if let Some(text) = after(prefix) {
            return make(text);
        }
    }
    Event::Comment(comment.trim().to_owned())
}

impl Block {
    fn line(&mut self, line: &str) {
        use line::key;
        self.lines += 1;
        if self.lines > MAX_BLOCK {
            return;
        }
        if let (Some(list), Some(item)) = (&self.list, line.trim_start().strip_prefix("- ")) {
            let item = scalar(item);
            match list.as_str() {
                key::NOTES => self.diagnostic.notes.push(item),
                other => self.diagnostic.other.push((other.to_owned(), item)),
            }
            return;
        }
        let Some((name, value)) = line.split_once(':') else {
            return;
        };
        let (name, value) = (name.trim(), value.trim());
        self.list = value.is_empty().then(|| name.to_owned());
        if value.is_empty() {
            return;
        }
        let value = Some(scalar(value));
        let d = &mut self.diagnostic;
        match name {
            key::MESSAGE => d.message = value,
            key::EXPECTED => d.expected = value,
            key::GOT => d.got = value,
            key::AT => d.at = value,
            key::SPEC => d.spec = value,
            _ => d.other.extend(value.map(|v| (name.to_owned(), v))),
        }
    }
}

/// A scalar's text: double-quoted as the protocol says, or bare.
fn scalar(text: &str) -> String {
    let text = text.trim();
    let Some(inner) = text.strip_prefix('"') else {
        return text.to_owned();
    };
    let mut out = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some('x') => out.extend(hex(&mut chars, 2)),
                Some('u') => out.extend(hex(&mut chars, 4)),
                Some(other) => out.push(other),
                None => break,
            },
            c => out.push(c),
        }
    }
    out
}

fn hex(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let text: String = chars.by_ref().take(digits).collect();
    u32::from_str_radix(&text, 16).ok().and_then(char::from_u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(text: &[u8]) -> Vec<Event> {
        let (mut t, mut events) = (Transcript::default(), Vec::new());
        t.feed(text, &mut events);
        t.finish(&mut events);
        events
    }

    fn pass(id: &str) -> Event {
        Event::Result {
            id: id.into(),
            ok: true,
            skip: None,
            diagnostic: Box::default(),
        }
    }

    #[test]
    fn a_clean_transcript_is_read() {
        let text = b"SeaBIOS\r\n\x1bcTAP version 13\r\n1..2\r\n# start 1 a/b/c\r\nok 1 - a/b/c\r\n\
            # start 2 a/b/d\r\nnot ok 2 - a/b/d\r\n  ---\r\n  message: \"x: \\\"y\\\"\"\r\n  \
            expected: \"1\"\r\n  notes:\r\n    - \"n\\u0041\"\r\n  ...\r\n# done\r\n";
        let mut diagnostic = Box::new(Diagnostic {
            message: Some("x: \"y\"".into()),
            expected: Some("1".into()),
            ..Diagnostic::default()
        });
        diagnostic.notes.push("nA".into());
        assert_eq!(
            events(text),
            [
                Event::Noise("SeaBIOS".into()),
                Event::Version,
                Event::Plan,
                Event::Start { id: "a/b/c".into() },
                pass("a/b/c"),
                Event::Start { id: "a/b/d".into() },
                Event::Result {
                    id: "a/b/d".into(),
                    ok: false,
                    skip: None,
                    diagnostic
                },
                Event::Done,
            ]
        );
    }

    #[test]
    fn skips_name_their_need() {
        let text = b"TAP version 13\nok 3 - a/b/c # SKIP needs cpus>=2\n";
        let Event::Result { id, ok, skip, .. } = &events(text)[1] else {
            panic!()
        };
        assert_eq!(
            (id.as_str(), *ok, skip.as_deref()),
            ("a/b/c", true, Some("cpus>=2"))
        );
    }

    #[test]
    fn long_lines_and_nuls_are_bounded() {
        let mut text = b"TAP version 13\n".to_vec();
        text.extend(std::iter::repeat_n(b'x', 10 << 20));
        text.extend(b"\nok 1 - a\0/b\0\n\xff\xfe\n");
        let events = events(&text);
        assert!(matches!(&events[1], Event::Noise(n) if n.len() == MAX_LINE));
        assert_eq!(events[2], pass("a/b"));
        assert!(matches!(&events[3], Event::Noise(_)));
    }

    #[test]
    fn half_a_block_keeps_its_result() {
        let text = b"TAP version 13\nnot ok 1 - a/b\n  ---\n  message: \"m";
        let Event::Result {
            ok: false,
            diagnostic,
            ..
        } = &events(text)[2]
        else {
            panic!("{:?}", events(text))
        };
        assert_eq!(diagnostic.message, None);
        // The next line ends a block that was never closed.
        let text = b"TAP version 13\nnot ok 1 - a/b\n  ---\n  message: m\n# start 2 a/c\n";
        assert!(matches!(events(text)[2], Event::Start { .. }));
    }

    #[test]
    fn a_result_line_cut_short_is_no_result() {
        assert_eq!(
            events(b"TAP version 13\nok 1 - a/b")[1],
            Event::Noise("ok 1 - a/b".into())
        );
    }

    #[test]
    fn bytes_may_arrive_one_by_one() {
        let text =
            b"x\nTAP version 13\n# start 1 a/b\nnot ok 1 - a/b\n  ---\n  got: 1\n  ...\n# done\n";
        let (mut t, mut one) = (Transcript::default(), Vec::new());
        for byte in text {
            t.feed(&[*byte], &mut one);
        }
        t.finish(&mut one);
        assert_eq!(one, events(text));
    }

    #[test]
    fn garbage_never_panics() {
        let mut state = 0x1234_5678_9abc_def0_u64;
        let mut bytes = b"TAP version 13\n".to_vec();
        let words: [&[u8]; 9] = [
            b"ok ",
            b"not ok ",
            b"1 - ",
            b"  ---\n",
            b"  ",
            b"# ",
            b"\n",
            b"# expect ",
            b"\xc3",
        ];
        for _ in 0..20_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            match state >> 60 {
                n @ 0..9 => bytes.extend(words[n as usize]),
                _ => bytes.push((state >> 32) as u8),
            }
        }
        events(&bytes);
    }
}
