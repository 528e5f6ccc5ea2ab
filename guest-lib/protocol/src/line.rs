//! The console lines of a payload.
//!
//! ```text
//! TAP version 13
//! 1..2
//! # start 1 x86/svm/vmrun/asid_zero_is_refused
//! ok 1 - x86/svm/vmrun/asid_zero_is_refused
//! # start 2 x86/svm/vmrun/...
//! not ok 2 - x86/svm/vmrun/...
//!   ---
//!   message: "..."
//!   ...
//! # done
//! ```
//!
//! Everything before the version line is firmware chatter. Numbers are those of this boot, not
//! of the runner's plan; the id is what counts. A line that fits none of these forms is noise.

/// The first line of a payload. A second one means that the machine booted again.
pub const VERSION: &str = "TAP version 13";
/// The last line of a payload that ran everything it was asked to run.
pub const DONE: &str = "# done";
/// `# start N id`: from here on, what happens is this case's doing.
pub const START: &str = "# start ";
/// `# expect poweroff` or `# expect reset`: the case passes when that happens next.
pub const EXPECT: &str = "# expect ";
/// `# panic: message`: the payload itself gave up; `#` lines with details follow.
pub const PANIC: &str = "# panic: ";
/// `# exception: what`: an exception that no case caught; `#` lines with details follow.
pub const EXCEPTION: &str = "# exception: ";
/// `# restart: reason`: the payload ends early on purpose (a CPU is lost for good, say) after
/// it judged its case; the runner boots it again for the cases that remain.
pub const RESTART: &str = "# restart: ";
/// `# service N words`: the payload asks its host and waits for the answer.
pub const SERVICE: &str = "# service ";
/// `# usage: message`: the command line makes no sense to the payload.
pub const USAGE: &str = "# usage: ";
/// Indentation of a diagnostic block and of each line in it.
pub const YAML_INDENT: &str = "  ";
/// First line of a diagnostic block.
pub const YAML_OPEN: &str = "  ---";
/// Last line of a diagnostic block.
pub const YAML_CLOSE: &str = "  ...";
/// Separates a case id from a directive.
pub const SKIP: &str = " # SKIP needs ";

/// Keys of a diagnostic block that the runner knows. Scalars are double-quoted strings.
pub mod key {
    /// What was checked.
    pub const MESSAGE: &str = "message";
    /// What the manual asks for.
    pub const EXPECTED: &str = "expected";
    /// What the hypervisor did.
    pub const GOT: &str = "got";
    /// `file:line` of the check.
    pub const AT: &str = "at";
    /// The manual's section.
    pub const SPEC: &str = "spec";
    /// A list of notes: values worth keeping, on any outcome.
    pub const NOTES: &str = "notes";
}
