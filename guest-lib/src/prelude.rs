//! What a case file imports.

pub use crate::arch;
pub use crate::case::{Failure, Fixture, Stop, Verdict, skip};
pub use crate::cpus::{self, Cpu};
pub use crate::fault::{self, Fault};
pub use crate::{case, expect, expect_eq, expect_ne, fail, note, time};
pub use alloc::{boxed::Box, format, string::String, vec, vec::Vec};
