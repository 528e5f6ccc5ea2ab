//! A reader of flattened device trees (Devicetree Specification 0.4, chapter 5).
//!
//! The tree comes from the hypervisor, so nothing in it is trusted: every offset and length is
//! checked, and a tree that is wrong gives an [`Error`], never a stray read or an endless loop.
//! Nothing is allocated; [`Tree::walk`] shows each node with its properties.

use core::fmt;

/// First word of a tree.
const MAGIC: u32 = 0xd00d_feed;
/// The most bytes a tree may have.
const MAX_SIZE: usize = 2 << 20;
/// The deepest nesting of nodes.
const MAX_DEPTH: usize = 16;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// What is wrong with a tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The first word is not the magic number.
    Magic(u32),
    /// The total size is smaller than a header or larger than 2 MiB.
    Size(u32),
    /// The version, or the last compatible one, is not for this reader.
    Version(u32, u32),
    /// A block or a property reaches beyond its end, at this offset.
    Bounds(usize),
    /// A name is not terminated or not UTF-8, at this offset of its block.
    Name(usize),
    /// A token that the format does not have.
    Token(u32),
    /// Nodes nest deeper than 16, or end before they begin.
    Depth,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "the device tree is wrong: {self:x?}")
    }
}

/// A tree whose header has been checked.
#[derive(Clone, Copy)]
pub struct Tree<'a> {
    structure: &'a [u8],
    strings: &'a [u8],
    reservations: &'a [u8],
    size: usize,
}

fn word(bytes: &[u8], at: usize) -> Result<u32, Error> {
    let end = at.checked_add(4).ok_or(Error::Bounds(at))?;
    let four = bytes.get(at..end).ok_or(Error::Bounds(at))?;
    Ok(u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
}

/// `count` cells of 32 bits as a number; more than two cells keep the lowest 64 bits.
pub fn cells(bytes: &[u8], at: usize, count: usize) -> Option<u64> {
    let mut value = 0u64;
    for i in 0..count {
        value = value << 32 | u64::from(word(bytes, (at + i) * 4).ok()?);
    }
    Some(value)
}

fn text(block: &[u8], at: usize) -> Result<&str, Error> {
    let rest = block.get(at..).ok_or(Error::Name(at))?;
    let end = rest.iter().position(|&b| b == 0).ok_or(Error::Name(at))?;
    core::str::from_utf8(&rest[..end]).map_err(|_| Error::Name(at))
}

/// The size that the header at `bytes` states, which needs its first 8 bytes only.
pub fn stated_size(bytes: &[u8]) -> Result<usize, Error> {
    let magic = word(bytes, 0)?;
    if magic != MAGIC {
        return Err(Error::Magic(magic));
    }
    let size = word(bytes, 4)?;
    match size as usize {
        40..=MAX_SIZE => Ok(size as usize),
        _ => Err(Error::Size(size)),
    }
}

impl<'a> Tree<'a> {
    /// Checks the header of `bytes`, which must hold at least the stated size.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let size = stated_size(bytes)?;
        let bytes = bytes.get(..size).ok_or(Error::Bounds(size))?;
        let (version, compatible) = (word(bytes, 20)?, word(bytes, 24)?);
        if version < 17 || compatible > 17 {
            return Err(Error::Version(version, compatible));
        }
        let block = |offset: usize, length: usize| {
            let end = offset.checked_add(length).ok_or(Error::Bounds(offset))?;
            bytes.get(offset..end).ok_or(Error::Bounds(offset))
        };
        let offset = |at: usize| word(bytes, at).map(|w| w as usize);
        let reservations = offset(16)?;
        Ok(Tree {
            structure: block(offset(8)?, offset(36)?)?,
            strings: block(offset(12)?, offset(32)?)?,
            reservations: bytes
                .get(reservations..)
                .ok_or(Error::Bounds(reservations))?,
            size,
        })
    }

    /// Bytes of the whole tree.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The memory reservation block: (address, length) pairs.
    pub fn reservations(&self) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        let block = self.reservations;
        (0..block.len() / 16)
            .map_while(move |i| Some((cells(block, i * 4, 2)?, cells(block, i * 4 + 2, 2)?)))
            .take_while(|&(address, length)| address != 0 || length != 0)
    }

    /// Calls `visit` with every node, parents first.
    pub fn walk(&self, mut visit: impl FnMut(&Node<'a>)) -> Result<(), Error> {
        let mut at = 0;
        let mut depth = 0;
        // Cells of addresses and sizes in the children of the node at each depth.
        let mut cell_stack = [(2u32, 1u32); MAX_DEPTH + 1];
        loop {
            let token = word(self.structure, at)?;
            at += 4;
            match token {
                NOP => {}
                END_NODE => depth = usize::checked_sub(depth, 1).ok_or(Error::Depth)?,
                END if depth == 0 => return Ok(()),
                BEGIN_NODE => {
                    if depth == MAX_DEPTH {
                        return Err(Error::Depth);
                    }
                    let name = text(self.structure, at)?;
                    at = (at + name.len() + 1).next_multiple_of(4);
                    let start = at;
                    while matches!(word(self.structure, at)?, PROP | NOP) {
                        at += self.skip_property(at)?;
                    }
                    let node = Node {
                        name,
                        depth,
                        parent_cells: cell_stack[depth],
                        properties: &self.structure[start..at],
                        strings: self.strings,
                    };
                    let own = |key| node.property(key).and_then(|v| word(v, 0).ok());
                    depth += 1;
                    cell_stack[depth] = (
                        own("#address-cells").unwrap_or(2),
                        own("#size-cells").unwrap_or(1),
                    );
                    visit(&node);
                }
                other => return Err(Error::Token(other)),
            }
        }
    }

    /// Bytes of the property or NOP at `at`, checked.
    fn skip_property(&self, at: usize) -> Result<usize, Error> {
        if word(self.structure, at)? == NOP {
            return Ok(4);
        }
        let length = word(self.structure, at + 4)? as usize;
        text(self.strings, word(self.structure, at + 8)? as usize)?;
        let end = (at + 12).checked_add(length).ok_or(Error::Bounds(at))?;
        if end > self.structure.len() {
            return Err(Error::Bounds(at));
        }
        Ok(end.next_multiple_of(4) - at)
    }
}

/// One node, whose properties have been checked.
pub struct Node<'a> {
    /// Name with unit address.
    pub name: &'a str,
    /// 0 for the root.
    pub depth: usize,
    /// The parent's `#address-cells` and `#size-cells`.
    pub parent_cells: (u32, u32),
    properties: &'a [u8],
    strings: &'a [u8],
}

impl<'a> Node<'a> {
    /// The value of property `key`.
    pub fn property(&self, key: &str) -> Option<&'a [u8]> {
        let mut at = 0;
        while let Ok(token) = word(self.properties, at) {
            if token == NOP {
                at += 4;
                continue;
            }
            let length = word(self.properties, at + 4).ok()? as usize;
            let name = text(self.strings, word(self.properties, at + 8).ok()? as usize).ok()?;
            let value = self.properties.get(at + 12..at + 12 + length)?;
            if name == key {
                return Some(value);
            }
            at = (at + 12 + length).next_multiple_of(4);
        }
        None
    }

    /// A property that is a string.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        text(self.property(key)?, 0).ok()
    }

    /// A property that is one or two cells.
    pub fn number(&self, key: &str) -> Option<u64> {
        let value = self.property(key)?;
        cells(value, 0, (value.len() / 4).min(2))
    }

    /// Whether `compatible` lists `name`.
    pub fn is_compatible(&self, name: &str) -> bool {
        let all = self.property("compatible").unwrap_or(&[]);
        all.split(|&b| b == 0).any(|one| one == name.as_bytes())
    }

    /// Whether a property of this name exists.
    pub fn has(&self, key: &str) -> bool {
        self.property(key).is_some()
    }

    /// Entry `index` of `reg`: address and size.
    pub fn reg(&self, index: usize) -> Option<(u64, u64)> {
        let (a, s) = (
            self.parent_cells.0.min(4) as usize,
            self.parent_cells.1.min(4) as usize,
        );
        let value = self.property("reg")?;
        let at = index.checked_mul(a + s).filter(|_| a > 0)?;
        Some((cells(value, at, a)?, cells(value, at + a, s)?))
    }
}
