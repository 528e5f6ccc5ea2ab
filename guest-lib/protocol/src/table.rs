//! The case table: an array of [`Record`]s in the ELF section [`SECTION`].
//!
//! All three architectures are 64-bit, so a record has one shape; only the byte order differs.
//! A [`Text`] points into the payload's own read-only data: the runner follows the address
//! through the program headers. The order in the section means nothing; both sides sort by
//! [`Record::path`] and then number from zero. Those numbers are what `cases=` selects.

/// The ELF section that holds the records.
pub const SECTION: &str = ".assay.cases";

/// The size of one record in the section, in bytes.
pub const RECORD_SIZE: usize = core::mem::size_of::<Record>();

/// A string in the payload's memory: address and length in bytes, both 64-bit.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Text {
    /// First byte (a link-time address in the ELF file).
    pub address: *const u8,
    /// Length in bytes.
    pub length: usize,
}

impl Text {
    /// Points at `text`.
    pub const fn new(text: &'static str) -> Self {
        Text {
            address: text.as_ptr(),
            length: text.len(),
        }
    }

    /// The string.
    pub fn get(&self) -> &'static str {
        // SAFETY: `new` is the only constructor, and it took a `&'static str`.
        unsafe {
            core::str::from_utf8_unchecked(core::slice::from_raw_parts(self.address, self.length))
        }
    }
}

// SAFETY: a `Text` is a `&'static str` taken apart; it is never written through.
unsafe impl Sync for Text {}
// SAFETY: as above.
unsafe impl Send for Text {}

/// How the virtual machine ends when the case passes.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ends {
    /// The case returns a verdict and the payload goes on.
    Returns = 0,
    /// The case passes when the virtual machine powers off.
    Poweroff = 1,
    /// The case passes when the virtual machine resets and boots the payload again.
    Reset = 2,
    /// The virtual machine resets and boots the payload again, and the case passes there.
    Again = 3,
}

/// One case, as the macro writes it. Field order is the wire format: change it on both sides.
#[repr(C)]
pub struct Record {
    /// `module_path!()` and the function (and row), e.g. `gic::redistributor::isenabler0...`.
    /// The first segment is the payload; the rest joined by `/` is the path within a unit.
    pub module: Text,
    /// The function, or `function/row`.
    pub name: Text,
    /// First paragraph of the doc comment: the rule in plain words.
    pub doc: Text,
    /// `<document> <section>[ <REGISTER or INSTRUCTION>]`.
    pub spec: Text,
    /// Needs, separated by single spaces; each is in [`crate::need`].
    pub needs: Text,
    /// Groups beyond those of the unit, separated by single spaces.
    pub groups: Text,
    /// Source file, relative to the workspace root.
    pub file: Text,
    /// Line of the function in [`Record::file`].
    pub line: u32,
    /// Seconds the case may take; 0 means the unit's limit.
    pub timeout_s: u32,
    /// How the run ends when the case passes ([`Ends`] as a number).
    pub ends: u32,
    /// Zero.
    pub reserved: u32,
    /// Entry point in the guest: builds the fixtures and runs the case.
    pub run: *const (),
}

// SAFETY: records are immutable statics.
unsafe impl Sync for Record {}

const _: () = assert!(RECORD_SIZE == 7 * 16 + 4 * 4 + 8);
