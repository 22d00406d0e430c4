//! The arguments of `casemate policy`, as they are typed.

use clap::{Args, Subcommand, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;

/// `casemate policy`.
#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// What to do
    #[command(subcommand)]
    pub command: PolicyCommand,
}

/// The commands of `casemate policy`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Say whether policy files can be used, and what is wrong with those that cannot
    Check {
        /// Policy files
        #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
    },
    /// Say in words what a policy leaves a program to do
    Explain {
        /// A shipped policy, or a file; without it, the shipped ones are listed
        #[arg(value_name = "NAME|FILE", value_hint = ValueHint::FilePath)]
        policy: Option<OsString>,
    },
    /// Say what one policy allows and another does not
    Diff {
        /// A shipped policy, or a file
        #[arg(value_name = "A", value_hint = ValueHint::FilePath)]
        from: OsString,
        /// Another one
        #[arg(value_name = "B", value_hint = ValueHint::FilePath)]
        to: OsString,
    },
    /// Compile a policy, and say what it comes to
    Compile {
        /// A shipped policy, or a file
        #[arg(value_name = "NAME|FILE", value_hint = ValueHint::FilePath)]
        policy: OsString,
        /// Write the seccomp program: `struct sock_filter` after `struct sock_filter`
        #[arg(short, long, value_name = "OUT", value_hint = ValueHint::FilePath)]
        out: Option<PathBuf>,
        /// Print all that is enforced as JSON
        #[arg(long)]
        json: bool,
    },
    /// Run a program without confining it, and propose a policy from what it called
    Trace {
        /// Propose a policy that narrows this one, and tell what it would have refused
        #[arg(long, value_name = "P", value_hint = ValueHint::FilePath)]
        base: Option<OsString>,
        /// Write the proposal to a file [default: standard error]
        #[arg(short, long, value_name = "OUT", value_hint = ValueHint::FilePath)]
        out: Option<PathBuf>,
        /// The program and its arguments
        #[arg(last = true, required = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
        command: Vec<OsString>,
    },
}
