//! `casemate audit`: the audit log, verified or shown. Neither takes any privilege but to
//! read the files.

pub mod args;
mod show;
mod verify;
mod words;

use crate::say;
use args::{AuditArgs, AuditCommand};
use casemate_proto::status::OWN_FAILURE;
use std::process::ExitCode;

/// 0: well; 1: the log was changed; 125: it could not be read.
pub fn main(args: &AuditArgs) -> ExitCode {
    let done = match &args.command {
        AuditCommand::Verify(args) => verify::main(args),
        AuditCommand::Show(args) => show::main(args),
    };
    done.unwrap_or_else(|words| {
        say::line(words);
        ExitCode::from(OWN_FAILURE)
    })
}
