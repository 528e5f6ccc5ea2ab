//! z/Architecture: prefix areas, program interruptions as values, SCLP, SIGP, channel I/O.

pub mod boot;
pub mod channel;
pub mod clock;
pub mod cpu;
pub mod diag;
pub mod exec;
pub mod fault;
pub mod interrupts;
pub mod keep;
pub mod lowcore;
mod mem;
pub mod paging;
pub mod platform;
pub mod registers;
pub mod sclp;
pub mod sigp;
pub mod skey;
pub mod smp;
pub mod time;
pub mod vector;

/// The first segment of an id.
pub const NAME: &str = "s390x";

/// Whether the machine meets the need `word`.
pub fn has(word: &str) -> bool {
    cpu::NEEDS
        .iter()
        .find(|(name, _)| *name == word)
        .is_some_and(|(_, met)| met())
}
