//! The arguments that have to do with the audit log.

use casemate_audit::FOLDER;
use clap::{Args, Subcommand, ValueHint};
use std::path::PathBuf;

/// Where `casemate run` and `casemate jail` record what they decide.
#[derive(Debug, Args)]
pub struct AuditChoice {
    /// Folder of the audit log
    #[arg(long, value_name = "D", default_value = FOLDER, value_hint = ValueHint::DirPath)]
    pub audit_dir: PathBuf,

    /// Record nothing in the audit log
    #[arg(long, conflicts_with = "audit_dir")]
    pub no_audit: bool,
}

impl AuditChoice {
    /// The folder; `None`: nothing is to be recorded.
    pub fn folder(&self) -> Option<PathBuf> {
        let folder = || std::path::absolute(&self.audit_dir).unwrap_or(self.audit_dir.clone());
        (!self.no_audit).then(folder)
    }
}

/// `casemate audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// What to do
    #[command(subcommand)]
    pub command: AuditCommand,
}

/// The commands of `casemate audit`.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Find every change to the log: edited, missing, added, moved and cut off lines
    Verify(VerifyArgs),
    /// Print what the log says, without verifying it
    Show(ShowArgs),
}

/// `casemate audit verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Folder of the audit log, or of a copy of it
    #[arg(long, value_name = "D", default_value = FOLDER, value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,

    /// The public key that the log must be signed with, as digits or as the name of the file
    /// with them [default: the file `public` of the folder D-key]
    #[arg(long, value_name = "KEY", value_hint = ValueHint::FilePath)]
    pub key: Option<String>,

    /// Earlier files were archived: the log may begin with any
    #[arg(long)]
    pub from_any: bool,

    /// A head that was copied earlier, whose lines must be there; may be repeated
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub earlier: Vec<PathBuf>,

    /// Number of a `gap` line that is accounted for: a crash of the host; may be repeated
    #[arg(long, value_name = "SEQ")]
    pub known_gap: Vec<u64>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `casemate audit show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Folder of the audit log, or of a copy of it
    #[arg(long, value_name = "D", default_value = FOLDER, value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,

    /// Only this tenant's lines
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    pub tenant: Option<String>,

    /// Only lines of cells and jails of this name
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    pub id: Option<String>,

    /// Only lines from this time on: `2026-01-31T12:00:00Z`, or how long ago, as in `2h`
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,

    /// Print the lines as they are in the log
    #[arg(long)]
    pub json: bool,

    /// Go on with what is added
    #[arg(long)]
    pub follow: bool,
}
