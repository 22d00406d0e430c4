//! Folders of our user's own, root's or another's, and the one way to open anything below
//! them.
//!
//! Whatever somebody else placed at a name of ours (a link, a FIFO, a hard link to a file
//! of ours) is refused, never followed: openat2(2) with `RESOLVE_BENEATH`,
//! `RESOLVE_NO_SYMLINKS` and `RESOLVE_NO_MAGICLINKS`, then a look at what was opened.

mod dir;

pub use dir::Dir;

use rustix::io::Errno;
use std::path::PathBuf;
use thiserror::Error;

/// What can be wrong with a folder of ours.
#[derive(Debug, Error)]
pub enum DirError {
    /// A call failed.
    #[error("cannot {what} {path}: {source}; see that it is your own and that there is space", path = path.display())]
    Call {
        /// What was tried: "create", "open", ….
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: Errno,
    },
    /// Something else stands where a directory or file of ours should.
    #[error("{path} is {found}: remove it, or choose another folder", path = path.display())]
    Foreign {
        /// Where.
        path: PathBuf,
        /// What stands there.
        found: String,
    },
    /// The path names no folder that can be made.
    #[error("{path} cannot be a folder of ours: give an absolute path such as /run/casemate", path = path.display())]
    BadPath {
        /// The path.
        path: PathBuf,
    },
}

impl DirError {
    /// What was to be opened is not there.
    pub fn is_missing(&self) -> bool {
        self.errno() == Some(Errno::NOENT)
    }

    /// The call's own error.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Call { source, .. } => Some(*source),
            Self::Foreign { .. } | Self::BadPath { .. } => None,
        }
    }
}
