//! The commands, one file each.

pub mod bench;
pub mod build;
pub mod check;
pub mod compare;
pub mod debug;
pub mod history;
pub mod hypervisors;
pub mod import;
pub mod list;
pub mod merge;
pub mod report;
pub mod run;
pub mod shell;

use crate::cli::ReplayOptions;
use crate::error::{Error, Result};
use std::io;

/// `assay replay`.
pub fn replay(options: &ReplayOptions) -> Result<u8> {
    match crate::hypervisor::replay::play(&options.file) {
        // The reader went away: that is its business.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        result => result.map_err(|e| Error::file("play", &options.file, e)),
    }
}

/// The result of writing to standard output: a reader that went away ends the command quietly.
pub fn written(result: io::Result<u8>) -> Result<u8> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        result => result.map_err(|e| Error::usage(format!("cannot write to standard output: {e}"))),
    }
}
