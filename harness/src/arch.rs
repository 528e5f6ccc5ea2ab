//! The three architectures, and everything that follows from the choice of one.

use serde::{Deserialize, Serialize};
use std::fmt;

/// An architecture that payloads exist for.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lowercase")]
pub enum Arch {
    /// x86-64.
    X86,
    /// AArch64.
    Arm64,
    /// z/Architecture.
    S390x,
}

impl Arch {
    /// All of them, in the order of reports.
    pub const ALL: [Arch; 3] = [Arch::X86, Arch::Arm64, Arch::S390x];

    /// The word in ids, file names and options.
    pub const fn word(self) -> &'static str {
        match self {
            Arch::X86 => "x86",
            Arch::Arm64 => "arm64",
            Arch::S390x => "s390x",
        }
    }

    /// The architecture called `word`.
    pub fn from_word(word: &str) -> Option<Self> {
        Arch::ALL.into_iter().find(|a| a.word() == word)
    }

    /// The package that holds its payloads.
    pub const fn package(self) -> &'static str {
        match self {
            Arch::X86 => "tests-x86",
            Arch::Arm64 => "tests-arm64",
            Arch::S390x => "tests-s390x",
        }
    }

    /// The Rust target its payloads are built for.
    pub const fn target(self) -> &'static str {
        match self {
            Arch::X86 => "x86_64-unknown-none",
            Arch::Arm64 => "aarch64-unknown-none-softfloat",
            Arch::S390x => "s390x-unknown-linux-gnu",
        }
    }

    /// `e_machine` of its ELF files.
    pub const fn elf_machine(self) -> object::elf::Machine {
        match self {
            Arch::X86 => object::elf::EM_X86_64,
            Arch::Arm64 => object::elf::EM_AARCH64,
            Arch::S390x => object::elf::EM_S390,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
