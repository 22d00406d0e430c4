//! `cargo xtask testbed`: a command in the bed.

use crate::binaries;
use anyhow::{Context, Result, bail};
use casemate_testbed::{Assets, Bed, Cache, Job, Output, Stdin, with_programs};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Arguments of `testbed`.
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "The command's output is passed on as it comes, and its exit status is this \
                  command's own; 125 means that the bed failed. In the bed, /casemate holds guest \
                  kernels and a Debian userland, /scratch is an empty ext4 disk, and what is \
                  written below /out comes back with --output."
)]
pub struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    /// Boot the bed from nothing instead of restoring its saved state
    #[arg(long)]
    cold: bool,
    /// Seconds that the command may take
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    /// Copy a file or folder into the bed (may be repeated)
    #[arg(long, value_name = "HERE:THERE")]
    input: Vec<String>,
    /// Put what the command leaves in /out into this folder
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Set a variable for the command (may be repeated)
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Give the bed no Casemate programs and no /casemate, and build none
    #[arg(long)]
    bare: bool,
    /// Print the bed's serial console afterwards
    #[arg(long)]
    console: bool,
    /// The command and its arguments
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Build and cache everything that the bed needs, then stop
    Prepare,
}

/// Runs the chore.
pub fn main(arguments: Arguments) -> Result<ExitCode> {
    if let Some(Action::Prepare) = arguments.action {
        let bed = Bed::prepare()?;
        let assets = Assets::get(&Cache::open()?)?;
        println!("{}", bed.describe());
        println!("assets: {}", assets.image.display());
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.command.is_empty() {
        bail!("no command; usage: cargo xtask testbed -- CMD [ARG…]");
    }
    let mut job = Job::new(arguments.command);
    job.timeout = Duration::from_secs(arguments.timeout);
    job.cold = arguments.cold;
    job.output = Output::Stream;
    job.outputs = arguments.output;
    // A terminal has no end of file to pass on: the bed is for commands, not for sessions.
    if !std::io::stdin().is_terminal() {
        job.stdin = Stdin::Inherit;
    }
    for pair in &arguments.input {
        let (here, there) = split(pair, ':')?;
        job = job.input(here, there);
    }
    for pair in &arguments.env {
        let (name, value) = split(pair, '=')?;
        job = job.env(name, value);
    }
    let mut bed = Bed::prepare()?;
    if !arguments.bare {
        binaries::build()?;
        job = with_programs(job)?;
        bed = bed.with_assets(Assets::get(&Cache::open()?)?.image);
    }
    let result = bed.run(&job)?;
    if arguments.console {
        eprintln!("--- console of the bed ---\n{}", result.console);
    }
    Ok(u8::try_from(result.status).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn split(pair: &str, at: char) -> Result<(&str, &str)> {
    pair.split_once(at)
        .with_context(|| format!("{pair:?} has no {at:?} in it"))
}
