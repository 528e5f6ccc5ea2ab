//! The migration stream on its way, and what a test may do to it.
//!
//! A case that stays green while pages are lost proves nothing. So the stream goes through the
//! supervisor, which can put an old version of a page in place of a newer one, or leave the state
//! of a device out. It knows two things about the stream, which have held since QEMU 2.x: pages
//! travel whole, and the full state of a device is a section with a header and a footer.

use assay_protocol::stamp;
use std::collections::BTreeMap;
use std::str::FromStr;

/// Bytes of a page.
const PAGE: usize = stamp::PAGE;
/// Of these pages the fault hits the one with this number.
const VICTIM: u32 = 3;
/// First byte of a device's section, and of a section's footer.
const SECTION_FULL: u8 = 0x04;
const SECTION_FOOTER: u8 = 0x7e;

/// A fault that is made on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A page that is written all the time arrives as it was when it was first sent.
    StalePage,
    /// Of such a page the second half arrives as it was when it was first sent.
    TornPage,
    /// A page that was written only before arrives empty.
    LostPage,
    /// The sections with this name do not arrive: the device keeps the state of its reset.
    Drop(String),
    /// These bytes arrive with their lowest bit turned, wherever they are.
    Spoil(Vec<u8>),
}

impl FromStr for Sabotage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hex = |digits: &str| -> Option<Vec<u8>> {
            let pair = |i: usize| u8::from_str_radix(digits.get(i..i + 2)?, 16).ok();
            (0..digits.len()).step_by(2).map(pair).collect()
        };
        match text.split_once('=') {
            None => match text {
                "stale-page" => Ok(Sabotage::StalePage),
                "torn-page" => Ok(Sabotage::TornPage),
                "lost-page" => Ok(Sabotage::LostPage),
                _ => Err(format!(
                    "'{text}' is none of stale-page, torn-page, lost-page, drop=SECTION, \
                     spoil=HEX"
                )),
            },
            Some(("drop", name)) if (1..256).contains(&name.len()) => {
                Ok(Sabotage::Drop(name.to_owned()))
            }
            Some(("spoil", digits)) => match hex(digits) {
                Some(bytes) if bytes.len() >= 4 => Ok(Sabotage::Spoil(bytes)),
                _ => Err(format!(
                    "'{digits}' is not four bytes or more in hexadecimal"
                )),
            },
            Some((key, _)) => Err(format!("'{key}' is neither drop nor spoil")),
        }
    }
}

/// What the bytes go through. It outlives a migration: the first version of a page may have been
/// sent by an earlier one.
#[derive(Debug, Default)]
pub struct Filter {
    sabotage: Option<Sabotage>,
    first: BTreeMap<u32, Vec<u8>>,
    held: Vec<u8>,
    dropping: Option<[u8; 5]>,
    faults: u32,
}

impl Filter {
    /// A filter that makes this fault; none passes everything at once.
    pub fn new(sabotage: Option<Sabotage>) -> Self {
        Filter {
            sabotage,
            ..Filter::default()
        }
    }

    /// Whether the fault would break the stream itself: post-copy packs sections into a blob of a
    /// stated length.
    pub fn breaks_packages(&self) -> bool {
        matches!(self.sabotage, Some(Sabotage::Drop(_)))
    }

    /// How often the fault was made.
    pub fn faults(&self) -> u32 {
        self.faults
    }

    /// Takes `bytes` and appends to `out` what goes on.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let Some(sabotage) = self.sabotage.clone() else {
            return out.extend_from_slice(bytes);
        };
        self.held.extend_from_slice(bytes);
        let mut held = std::mem::take(&mut self.held);
        let keep = match &sabotage {
            Sabotage::StalePage => self.pages(stamp::WRITTEN, &mut held, |page, first| {
                page.copy_from_slice(first)
            }),
            Sabotage::TornPage => self.pages(stamp::WRITTEN, &mut held, |page, first| {
                page[PAGE / 2..].copy_from_slice(&first[PAGE / 2..]);
            }),
            Sabotage::LostPage => self.pages(stamp::COLD, &mut held, |page, _| page.fill(0)),
            Sabotage::Drop(name) => self.sections(name, &mut held),
            Sabotage::Spoil(wanted) => self.bytes(wanted, &mut held),
        };
        let go = held.len() - keep;
        out.extend_from_slice(&held[..go]);
        self.held = held.split_off(go);
    }

    /// The stream pauses or ends: nothing may be held back any longer.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
        self.dropping = None;
    }

    /// Calls `change` with each version of the victim but the first one of written pages; returns
    /// how many bytes at the end may be the start of a page.
    fn pages(
        &mut self,
        kind: &[u8; 8],
        held: &mut [u8],
        change: impl Fn(&mut [u8], &[u8]),
    ) -> usize {
        let header = stamp::header(kind, VICTIM);
        let mut at = 0;
        while let Some(found) = find(&held[at..], &header) {
            let start = at + found;
            let Some(page) = held.get_mut(start..start + PAGE) else {
                return held.len() - start;
            };
            let first = self.first.entry(VICTIM).or_insert_with(|| page.to_vec());
            let before = page.to_vec();
            change(page, first);
            self.faults += u32::from(page != &before[..]);
            at = start + PAGE;
        }
        tail(&held[at..], &header)
    }

    /// Takes the sections called `name` out.
    fn sections(&mut self, name: &str, held: &mut Vec<u8>) -> usize {
        let mut at = 0;
        loop {
            if let Some(footer) = self.dropping {
                let Some(found) = find(&held[at..], &footer) else {
                    let keep = tail(&held[at..], &footer);
                    held.drain(at..held.len() - keep);
                    return keep;
                };
                held.drain(at..at + found + footer.len());
                self.dropping = None;
                self.faults += 1;
            }
            let mut label = vec![name.len() as u8];
            label.extend_from_slice(name.as_bytes());
            // The header is: a byte, four bytes of section id, then the label.
            match find(&held[at..], &label) {
                Some(found) if at + found >= 5 && held[at + found - 5] == SECTION_FULL => {
                    let start = at + found - 5;
                    let mut footer = [SECTION_FOOTER; 5];
                    footer[1..].copy_from_slice(&held[start + 1..start + 5]);
                    self.dropping = Some(footer);
                    at = start;
                }
                Some(found) => at += found + 1,
                None => return (held.len() - at).min(label.len() + 5),
            }
        }
    }

    fn bytes(&mut self, wanted: &[u8], held: &mut [u8]) -> usize {
        let mut at = 0;
        while let Some(found) = find(&held[at..], wanted) {
            at += found + wanted.len();
            held[at - 1] ^= 1;
            self.faults += 1;
        }
        tail(&held[at..], wanted)
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    let mut at = 0;
    while let Some(found) = bytes[at..].iter().position(|b| *b == first) {
        at += found;
        match bytes.get(at..at + wanted.len()) {
            Some(same) if same == wanted => return Some(at),
            Some(_) => at += 1,
            None => return None,
        }
    }
    None
}

/// The length of the longest end of `bytes` that `wanted` starts with.
fn tail(bytes: &[u8], wanted: &[u8]) -> usize {
    (1..wanted.len().min(bytes.len() + 1))
        .rev()
        .find(|&n| bytes.ends_with(&wanted[..n]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(kind: &[u8; 8], number: u32, fill: u8) -> Vec<u8> {
        let mut page = stamp::header(kind, number).to_vec();
        page.resize(PAGE, fill);
        page
    }

    /// Feeds `stream` in pieces of `size` bytes.
    fn through(sabotage: &str, stream: &[u8], size: usize) -> (Vec<u8>, u32) {
        let mut filter = Filter::new(Some(sabotage.parse().unwrap()));
        let mut out = Vec::new();
        for piece in stream.chunks(size) {
            filter.feed(piece, &mut out);
        }
        filter.flush(&mut out);
        (out, filter.faults())
    }

    #[test]
    fn a_stale_page_is_its_first_version() {
        let versions = [1, 2, 3].map(|v| page(stamp::WRITTEN, VICTIM, v)).concat();
        let other = page(stamp::WRITTEN, VICTIM + 1, 9);
        let stream = [&b"head"[..], &versions, &other, b"tail"].concat();
        let first = page(stamp::WRITTEN, VICTIM, 1).repeat(3);
        let expected = [&b"head"[..], &first, &other, b"tail"].concat();
        for size in [1, 7, 4096, 100_000] {
            assert_eq!(through("stale-page", &stream, size), (expected.clone(), 2));
        }
    }

    #[test]
    fn a_section_is_left_out() {
        let section = |id: u8, name: &str, body: &[u8]| {
            let mut s = vec![SECTION_FULL, 0, 0, 0, id, name.len() as u8];
            s.extend_from_slice(name.as_bytes());
            s.extend_from_slice(body);
            s.extend_from_slice(&[SECTION_FOOTER, 0, 0, 0, id]);
            s
        };
        let (a, b, c) = (
            section(1, "cpu", b"x"),
            section(2, "apic", b"\x7e\0\0\0\x01y"),
            section(3, "apicz", b"z"),
        );
        let stream = [&a[..], &b, &c].concat();
        for size in [1, 5, 1000] {
            let expected = [&a[..], &c].concat();
            assert_eq!(through("drop=apic", &stream, size), (expected, 1));
        }
        assert_eq!(through("drop=none", &stream, 3), (stream.clone(), 0));
    }

    #[test]
    fn bytes_are_spoiled_wherever_they_are() {
        let stream = b"a\x01\x02\x03\x04b\x01\x02\x03\x04\x01\x02";
        for size in [1, 3, 100] {
            let (out, faults) = through("spoil=01020304", stream, size);
            assert_eq!(out, b"a\x01\x02\x03\x05b\x01\x02\x03\x05\x01\x02");
            assert_eq!(faults, 2);
        }
    }

    #[test]
    fn wrong_words_are_refused() {
        for wrong in ["", "stale", "drop=", "spoil=12", "spoil=xyzw1234", "a=b"] {
            assert!(wrong.parse::<Sabotage>().is_err(), "{wrong}");
        }
    }
}
