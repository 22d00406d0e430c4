//! The arguments that have to do with the audit log.

use casemate_audit::FOLDER;
use clap::{Args, Subcommand, ValueHint};
use std::path::{Path, PathBuf};

/// Where `casemate run` and `casemate jail` record what they decide.
#[derive(Debug, Args)]
pub struct AuditChoice {
    /// Folder of the audit log [default: /var/lib/casemate/audit; of users other than root
    /// casemate/audit in $XDG_STATE_HOME or ~/.local/state]
    #[arg(long, value_name = "D", value_hint = ValueHint::DirPath)]
    pub audit_dir: Option<PathBuf>,

    /// Record nothing in the audit log
    #[arg(long, conflicts_with = "audit_dir")]
    pub no_audit: bool,
}

impl AuditChoice {
    /// The folder; `None`: nothing is to be recorded.
    ///
    /// # Errors
    /// As [`folder`].
    pub fn folder(&self) -> Result<Option<PathBuf>, String> {
        match self.no_audit {
            true => Ok(None),
            false => folder(self.audit_dir.as_deref(), "--audit-dir").map(Some),
        }
    }
}

/// The folder of a log that was given with `option`, or else the user's own.
///
/// # Errors
/// In one line, where none was given and the user has no place for one.
fn folder(given: Option<&Path>, option: &str) -> Result<PathBuf, String> {
    if let Some(folder) = given {
        return Ok(std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()));
    }
    let uid = nix::unistd::geteuid();
    if uid.is_root() {
        return Ok(PathBuf::from(FOLDER));
    }
    // XDG base directories: what is not absolute does not count.
    let named = |variable| std::env::var_os(variable).map(PathBuf::from);
    let home = named("HOME").map(|home| home.join(".local/state"));
    let state = [named("XDG_STATE_HOME"), home];
    match state.into_iter().flatten().find(|path| path.is_absolute()) {
        Some(state) => Ok(state.join("casemate/audit")),
        None => Err(format!(
            "neither XDG_STATE_HOME nor HOME names a folder, so there is no place for the audit \
             log of uid {uid}: name one with {option}"
        )),
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

/// Where a log is read.
#[derive(Debug, Args)]
pub struct LogDir {
    /// Folder of the audit log, or of a copy of it [default: as of `casemate jail`]
    #[arg(long, value_name = "D", value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
}

impl LogDir {
    /// The folder.
    ///
    /// # Errors
    /// As [`folder`].
    pub fn folder(&self) -> Result<PathBuf, String> {
        folder(self.dir.as_deref(), "--dir")
    }
}

/// `casemate audit verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Where it is.
    #[command(flatten)]
    pub log: LogDir,

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
    /// Where it is.
    #[command(flatten)]
    pub log: LogDir,

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
