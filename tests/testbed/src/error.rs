//! What can go wrong while the bed is built or used.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Result with this crate's error.
pub type Result<T, E = BedError> = std::result::Result<T, E>;

/// An error of the test-bed itself, never of the job that ran in it.
#[derive(Debug, thiserror::Error)]
pub enum BedError {
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted, as an infinitive: "read", "create".
        action: &'static str,
        /// The file it was attempted on.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A host tool could not be started or ended badly.
    #[error("{what} failed: {detail}")]
    Tool {
        /// The step, in words.
        what: String,
        /// Exit status and the last lines the tool wrote.
        detail: String,
    },
    /// Debian packages are missing and we may not install them.
    #[error("missing Debian packages; run as root: apt-get install --no-install-recommends {}", .0.join(" "))]
    MissingPackages(Vec<&'static str>),
    /// Building roots needs root (debootstrap, ownership in images).
    #[error(
        "building {0} needs root (debootstrap sets owners and devices); run it once as root, the result is cached"
    )]
    NeedsRoot(&'static str),
    /// No package of that kind is to be had from the configured sources.
    #[error(
        "no package matches {0} in the configured apt sources; run apt-get update, or check that the security suite is enabled"
    )]
    NoPackage(String),
    /// Kconfig dropped symbols that the recipe asks for.
    #[error(
        "the kernel's configuration dropped {0}; a symbol they depend on is missing from guest/kernel/lean.config"
    )]
    DroppedSymbols(String),
    /// The recipe itself cannot be read.
    #[error("guest/kernel/lean.config: {0}")]
    Recipe(String),
    /// QEMU's control protocol gave an error or ended.
    #[error("QEMU control protocol: {0}")]
    Qmp(String),
    /// The bed stopped before the job had ended.
    #[error(
        "the bed stopped before its job ended (QEMU: {status}); last console lines:\n{console}"
    )]
    Died {
        /// How QEMU ended.
        status: String,
        /// Whether its own kernel panicked.
        panicked: bool,
        /// The console's last lines.
        console: String,
    },
    /// The bed's own kernel panicked, twice.
    #[error("the bed's own kernel panicked in both attempts; last console lines:\n{0}")]
    Panicked(String),
    /// The job or the bed's start took longer than allowed.
    #[error("{what} did not end within {limit:?}; last console lines:\n{console}")]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// How long.
        limit: Duration,
        /// The console's last lines.
        console: String,
    },
    /// The inputs do not fit on the input disk.
    #[error(
        "the inputs of this job are {have} bytes, the input disk holds {limit}; put large fixed files among the assets"
    )]
    InputsTooLarge {
        /// Size of the archive made of the inputs.
        have: u64,
        /// Size of the disk.
        limit: u64,
    },
    /// A job that cannot be expressed.
    #[error("bad job: {0}")]
    BadJob(String),
}

impl BedError {
    /// For `map_err`: names the action and the file.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
