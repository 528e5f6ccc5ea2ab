//! The lines that Linaro's parser of kvm-unit-tests results reads, as KernelCI and LKFT use it.
//!
//! That parser is not a TAP reader: it wants `: ` and a text in every `not ok` line, takes what
//! follows as the log, and makes a slug of the name and everything behind it. So ids carry hyphens
//! for slashes, a failure carries its message, and a skip carries nothing but the word.

use super::lava::word;
use crate::matrix::Status;
use crate::report::json::Document;
use std::io::{self, Write};

/// Writes `document` to `out`.
pub fn write(document: &Document, out: &mut dyn Write) -> io::Result<()> {
    let many = document.many;
    writeln!(out, "TAP version 13\n1..{}", document.cases.len())?;
    for (i, case) in document.cases.iter().enumerate() {
        let (n, mut name) = (i + 1, word(&case.id));
        if many {
            name = format!("{}-{name}", case.hypervisor);
        }
        match Status::of(case) {
            s if s.passes() => writeln!(out, "ok {n} - {name}")?,
            // Who reads this knows no TODO: a known deviation must not alarm anybody.
            Status::Skip | Status::Known => writeln!(out, "ok {n} - {name} # skip")?,
            status => {
                let message = case.diagnostic.message.as_deref().unwrap_or("no message");
                let text = message.replace(['\n', '\r', '#'], " ").replace(": ", ":");
                writeln!(out, "not ok {n} - {name}: {} {text}", status.word())?;
            }
        }
    }
    Ok(())
}
