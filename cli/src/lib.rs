//! The command line: arguments, images, streams, terminal, report.

pub mod args;
mod audit;
mod binaries;
pub mod clock;
mod doctor;
mod generate;
mod inspect;
mod jail;
mod kernels;
mod policy;
mod run;
pub mod say;

use args::{Cli, Command};
use casemate_proto::status::OWN_FAILURE;
use clap::Parser;
use clap::error::ErrorKind;
use std::process::ExitCode;

/// What was seen before the runtime started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Startup {
    /// Which of the fds 0, 1 and 2 were closed.
    pub closed: [bool; 3],
    /// Microseconds of `CLOCK_MONOTONIC` when the process began.
    pub started_us: u64,
}

/// The whole of it.
pub fn main(startup: &Startup) -> ExitCode {
    if let Some(args) = jail::args::alone(std::env::args_os()) {
        return jail::main(&args, startup);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return refused(&e),
    };
    match cli.command {
        Command::Run(args) => run::main(&args, startup),
        Command::Jail(args) => jail::main(&args, startup),
        Command::Policy(args) => policy::main(&args),
        Command::Inspect(args) => inspect::main(&args),
        Command::Audit(args) => audit::main(&args),
        Command::Doctor(args) => doctor::main(&args),
        Command::Kernel(args) => kernels::command::main(&args),
        Command::Reap(args) => run::reap_main(&args),
        Command::Completions { shell } => generate::completions(shell),
        Command::Man => generate::man(),
    }
}

fn refused(error: &clap::Error) -> ExitCode {
    let wanted = matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    if wanted {
        return match error.print() {
            Ok(()) if error.exit_code() == 0 => ExitCode::SUCCESS,
            _ => ExitCode::from(OWN_FAILURE),
        };
    }
    say::line(args::one_line(error));
    ExitCode::from(OWN_FAILURE)
}
