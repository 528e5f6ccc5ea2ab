//! `assay`: runs conformance payloads on hypervisors.

use assay::cli::{Cli, Command, LaunchCommand};
use assay::command;
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        Command::Run(options) => command::run::run(&cli.place, options),
        Command::List(options) => command::list::list(&cli.place, options),
        Command::Build(options) => command::build::build(&cli.place, &options.archs),
        Command::Bench(options) => command::bench::bench(&cli.place, options),
        Command::Hypervisors(options) => command::hypervisors::hypervisors(&cli.place, options),
        Command::Check(options) => command::check::check(&cli.place, options),
        Command::Compare(options) => command::compare::compare(options),
        Command::Merge(options) => command::merge::merge(options),
        Command::Report(options) => command::report::report(&cli.place, options),
        Command::History(options) => command::history::history(&cli.place, options),
        Command::Import(options) => command::import::import(options),
        Command::Schema(options) => command::shell::schema(options),
        Command::Completions(options) => command::shell::completions(options),
        Command::Man(options) => command::shell::man(options),
        Command::Launch(LaunchCommand::Bochs(options)) => assay::hypervisor::bochs::launch(options),
        Command::Launch(LaunchCommand::Exec(options)) => assay::hypervisor::prepare::exec(options),
        Command::Vmm(options) => assay::vmm::run(options),
        Command::Supervise(options) => assay::supervisor::run(options),
        Command::Replay(options) => command::replay(options),
    };
    ExitCode::from(result.unwrap_or_else(|error| {
        eprintln!("assay: {error}");
        error.exit
    }))
}
