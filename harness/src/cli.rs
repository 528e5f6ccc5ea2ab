//! Every flag, in the user's words.

use crate::arch::Arch;
use crate::refine::Shard;
use crate::report::{Format, Target};
use assay_protocol::bench;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Runs conformance payloads on hypervisors and reports stable TAP13.
///
/// Exit status: 0 every outcome was expected, 1 an outcome was not, 2 wrong command line or
/// manifest, 3 nothing ran, 130 interrupted.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    /// Where things are.
    #[command(flatten)]
    pub place: Place,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where things are.
#[derive(Debug, Default, Args)]
pub struct Place {
    /// The manifest [default: unittests.yaml here or in a folder above]
    #[arg(long, global = true, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// Take payloads from DIR/<arch>/<payload> instead of the build output
    #[arg(long, global = true, value_name = "DIR")]
    pub payload_dir: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run cases
    Run(Box<RunOptions>),
    /// List what could run; boots nothing
    List(ListOptions),
    /// Build the payloads
    Build(BuildOptions),
    /// Show which hypervisors can be used here, and what they offer
    Hypervisors(HypervisorsOptions),
    /// Validate unittests.yaml, expectations, case tables and cases.txt; boots nothing
    Check(CheckOptions),
    /// Compare outcomes of runs or TAP files, differences first
    Compare(CompareOptions),
    /// Join the run directories of shards into one
    Merge(MergeOptions),
    /// Write reports of a run that is over
    Report(ReportOptions),
    /// Since when cases fail, and which are flaky, from a folder of runs
    History(HistoryOptions),
    /// Run an existing build of kvm-unit-tests under this runner
    Import(ImportOptions),
    /// Measure what demand paging and dirty logging cost, as ratios to plain writes
    ///
    /// A guest writes once to each page: memory that is there (plain), pages under a dirty log or a
    /// dirty ring, pages that the host fills. Compare ratios, not rates: a ratio is of one moment of
    /// one machine. Exit status: 0 all was measured that this host offers, 1 a page was not logged or
    /// not filled, so there is no number, 2 the hypervisor or the payload cannot be used, 3 nothing
    /// could be measured, 130 interrupted.
    Bench(BenchOptions),
    /// Print the JSON schema of a document that assay reads or writes
    Schema(SchemaOptions),
    /// Print completions for a shell
    Completions(CompletionsOptions),
    /// Print the manual page
    Man(ManOptions),
    /// Run one payload on the built-in VMM
    Vmm(Box<crate::vmm::Options>),
    /// Prepare what a hypervisor needs and run it (the adaptors' own use)
    #[command(hide = true, subcommand)]
    Launch(LaunchCommand),
    /// Run QEMU and answer the guest's service requests
    #[command(hide = true)]
    Supervise(crate::supervisor::Options),
    /// Play a recorded console (for the runner's own tests)
    #[command(hide = true)]
    Replay(ReplayOptions),
}

/// `assay hypervisors`
#[derive(Debug, Args)]
pub struct HypervisorsOptions {
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Hypervisors that need preparation.
#[derive(Debug, Subcommand)]
pub enum LaunchCommand {
    /// A disk image and a configuration for Bochs
    Bochs(crate::hypervisor::bochs::Options),
    /// Files and a terminal for any command
    Exec(crate::hypervisor::prepare::Options),
}

/// Which cases.
#[derive(Debug, Default, Args)]
pub struct SelectOptions {
    /// Globs over ids (`arm64/gic*/**`), unit names, or /regex/
    #[arg(value_name = "FILTER")]
    pub filters: Vec<String>,
    /// Only cases of GROUP, or none of `!GROUP` (repeat)
    #[arg(short, long = "group", value_name = "GROUP")]
    pub groups: Vec<String>,
    /// Also units that must be asked for (group nodefault)
    #[arg(short, long)]
    pub all: bool,
    /// Only this architecture (repeat)
    #[arg(long = "arch", value_name = "ARCH")]
    pub archs: Vec<Arch>,
    /// Only cases of which EXPR is true: 'group(gic) & !group(slow) & failed(last)'
    ///
    /// Operators: & | ! and parentheses. Terms: all() none() arch(..) group(..) hypervisor(..)
    /// id(glob or /regex/) need(..) spec(..) unit(..) failed(RUN) new(RUN) outcome(WORD.., RUN),
    /// where RUN is `last` or a run directory, results.json or TAP file. Groups named here are
    /// asked for, nodefault and selfcheck too. See docs/selection.md.
    #[arg(short = 'E', long = "expression", value_name = "EXPR")]
    pub expression: Option<String>,
}

/// `assay run`
#[derive(Debug, Default, Args)]
pub struct RunOptions {
    /// Which cases.
    #[command(flatten)]
    pub select: SelectOptions,
    /// Hypervisor under test (repeat; `all`) [default: auto, the best for each unit]
    #[arg(long = "hypervisor", value_name = "NAME")]
    pub hypervisors: Vec<String>,
    /// Machines that run at the same time [default: as many as fit the CPUs]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// List what would run, and stop
    #[arg(short, long)]
    pub list: bool,
    /// With --list: cases instead of units
    #[arg(long, requires = "list")]
    pub cases: bool,
    /// TAP version 13 on standard output
    #[arg(short, long)]
    pub tap: bool,
    /// Show every case, not only unexpected ones
    #[arg(short, long)]
    pub verbose: bool,
    /// Seconds a case may take
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout: Option<u32>,
    /// Stop at the first unexpected outcome
    #[arg(long)]
    pub fail_fast: bool,
    /// Only what was unexpected in an earlier run, where it was [RUN: last]
    #[arg(long, value_name = "RUN", num_args = 0..=1, default_missing_value = "last",
          require_equals = true)]
    pub rerun_failed: Option<String>,
    /// The Kth of N parts; a case's part depends on its id alone
    #[arg(long, value_name = "K/N")]
    pub shard: Option<Shard>,
    /// Run units and cases in the order that SEED stands for
    #[arg(long, value_name = "SEED")]
    pub shuffle: Option<u64>,
    /// Run every case N times; one unexpected outcome decides
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: Option<u32>,
    /// Run an unexpected case up to N times more; a later pass makes it flaky
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,
    /// Fixed (a known deviation that passes) and flaky cases make the run fail too
    #[arg(long)]
    pub strict: bool,
    /// Print the hypervisor commands instead of running them
    #[arg(long)]
    pub dry_run: bool,
    /// Start the one selected unit under the hypervisor's gdb stub, and print the gdb line
    #[arg(long)]
    pub gdb: bool,
    /// Format of standard output [default: pretty on a terminal, else tap]
    #[arg(long, value_name = "FORMAT", conflicts_with = "tap")]
    pub format: Option<Format>,
    /// Write a further report (repeat): junit=FILE, ktap=FILE, html=FILE, ...
    #[arg(short, long = "output", value_name = "FORMAT=FILE")]
    pub outputs: Vec<Target>,
    /// Run directory [default: target/assay/<run>]
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
    /// Known deviations [default: expectations/<hypervisor>.yaml]
    #[arg(long, value_name = "FILE")]
    pub expectations: Option<PathBuf>,
    /// Rewrite the expectations: drop stale entries, add unexpected outcomes; keeps comments
    #[arg(long)]
    pub update_expectations: bool,
    /// Build the payloads first
    #[arg(long)]
    pub build: bool,
    /// Play recorded consoles from DIR instead of running a hypervisor
    #[arg(long, value_name = "DIR", hide = true)]
    pub replay: Option<PathBuf>,
}

/// `assay list`
#[derive(Debug, Args)]
pub struct ListOptions {
    /// Which cases.
    #[command(flatten)]
    pub select: SelectOptions,
    /// Cases instead of units
    #[arg(long)]
    pub cases: bool,
    /// Groups and how many cases each has
    #[arg(long = "groups", conflicts_with_all = ["cases", "needs"])]
    pub by_group: bool,
    /// The vocabulary of needs, and how many cases have each
    #[arg(long, conflicts_with = "cases")]
    pub needs: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `assay build`
#[derive(Debug, Args)]
pub struct BuildOptions {
    /// Only this architecture (repeat)
    #[arg(long = "arch", value_name = "ARCH")]
    pub archs: Vec<Arch>,
}

/// `assay check`
#[derive(Debug, Args)]
pub struct CheckOptions {
    /// Write cases.txt anew instead of comparing it
    #[arg(long)]
    pub write: bool,
}

/// `assay compare`
#[derive(Debug, Args)]
pub struct CompareOptions {
    /// Run directories, results.json files or TAP files
    #[arg(required = true, num_args = 1.., value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Show cases without a difference too
    #[arg(long)]
    pub all: bool,
    /// Exit with 1 when a later run is worse than the first in this way
    #[arg(long, value_name = "WHAT")]
    pub fail_on: Option<FailOn>,
    /// The same as --fail-on regression
    #[arg(long, conflicts_with = "fail_on", hide = true)]
    pub fail_on_regression: bool,
    /// Write the matrix as one self-contained page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Markdown instead of plain text, for merge requests
    #[arg(long)]
    pub markdown: bool,
}

/// What makes `assay compare` fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum FailOn {
    /// A case passed and is bad now, or is bad and was skipped or not there.
    Regression,
    /// The same, or a case passed and is skipped or gone now.
    Loss,
    /// Any difference.
    Difference,
}

/// `assay merge`
#[derive(Debug, Args)]
pub struct MergeOptions {
    /// Run directories or results.json files
    #[arg(required = true, num_args = 1.., value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// The run directory to make
    #[arg(long, value_name = "DIR")]
    pub output_dir: PathBuf,
    /// Let a later run have the word on cases that an earlier one holds too
    #[arg(long)]
    pub replace: bool,
    /// Accept that shards are missing
    #[arg(long)]
    pub partial: bool,
    /// Format of standard output [default: pretty on a terminal, else tap]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Write a further report (repeat): ktap=FILE, lava=FILE, ...
    #[arg(short, long = "output", value_name = "FORMAT=FILE")]
    pub outputs: Vec<Target>,
}

/// `assay report`
#[derive(Debug, Args)]
pub struct ReportOptions {
    /// A run directory or results.json, or the name of a run [default: last]
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// Format of standard output [default: pretty]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Write to a file instead (repeat): junit=FILE, html=FILE, ...
    #[arg(short, long = "output", value_name = "FORMAT=FILE")]
    pub outputs: Vec<Target>,
    /// Show every case, not only unexpected ones
    #[arg(short, long)]
    pub verbose: bool,
}

/// `assay history`
#[derive(Debug, Args)]
pub struct HistoryOptions {
    /// A folder of run directories [default: target/assay]
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Look at the last N runs only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub last: Option<u32>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `assay import`
///
/// The letters are those of run_tests.sh, and so are QEMU, ACCEL, MACHINE, MAX_SMP, TIMEOUT, CHECK,
/// TARGET_CPU, ERRATATXT and ERRATA_* in the environment.
#[derive(Debug, Args)]
pub struct ImportOptions {
    /// The build: config.mak is here
    pub dir: PathBuf,
    /// Only these sections of unittests.cfg
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Also sections of the group nodefault; errata count as fixed
    #[arg(short, long)]
    pub all: bool,
    /// Only sections of GROUP (repeat)
    #[arg(short, long = "group", value_name = "GROUP")]
    pub groups: Vec<String>,
    /// Machines that run at the same time [default: 1]
    #[arg(short, long = "parallel", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// List the sections, and stop
    #[arg(short, long)]
    pub list: bool,
    /// TAP version 13 on standard output
    #[arg(short, long, visible_alias = "tap13")]
    pub tap: bool,
    /// Show every case, not only unexpected ones
    #[arg(short, long)]
    pub verbose: bool,
    /// Print the commands instead of running them
    #[arg(long)]
    pub dry_run: bool,
    /// Format of standard output [default: pretty on a terminal, else tap]
    #[arg(long, value_name = "FORMAT", conflicts_with = "tap")]
    pub format: Option<Format>,
    /// Write a further report (repeat): junit=FILE, html=FILE, ...
    #[arg(short, long = "output", value_name = "FORMAT=FILE")]
    pub outputs: Vec<Target>,
    /// Run directory [default: DIR/assay/<run>]
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
    /// Known deviations
    #[arg(long, value_name = "FILE")]
    pub expectations: Option<PathBuf>,
}

/// `assay bench`
#[derive(Debug, Args)]
pub struct BenchOptions {
    /// Hypervisor to measure; it must show its guest the dirty log
    #[arg(long, value_name = "NAME", default_value = "kvm")]
    pub hypervisor: String,
    /// Pages that are written in a round
    #[arg(long, value_name = "N", default_value_t = bench::DEFAULT_PAGES,
          value_parser = clap::value_parser!(u32).range(1..=bench::MAX_PAGES as i64))]
    pub pages: u32,
    /// Rounds of each measurement; their median counts
    #[arg(long, value_name = "N", default_value_t = bench::DEFAULT_ROUNDS,
          value_parser = clap::value_parser!(u32).range(1..=bench::MAX_ROUNDS as i64))]
    pub rounds: u32,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `assay completions`
#[derive(Debug, Args)]
pub struct CompletionsOptions {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// `assay man`
#[derive(Debug, Args)]
pub struct ManOptions {
    /// Write a page per command into DIR instead of the main page to standard output
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// `assay schema`
#[derive(Debug, Args)]
pub struct SchemaOptions {
    /// Which document
    pub document: SchemaOf,
}

/// The documents that have a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SchemaOf {
    /// unittests.yaml
    Manifest,
    /// expectations/<hypervisor>.yaml
    Expectations,
    /// results.json
    Results,
    /// A line of `-o jsonl=FILE`
    Events,
    /// `bench --json`
    Bench,
}

/// `assay replay`
#[derive(Debug, Args)]
pub struct ReplayOptions {
    /// The recording
    pub file: PathBuf,
    /// The guest's command line, for the log
    pub args: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
