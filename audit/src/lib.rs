//! The audit log: one line of JSON for each decision of the privileged side.
//!
//! `docs/audit.md` tells the format, what the verifier proves and what it cannot. Writers
//! are supervisors, as root or as the ordinary user whose jail it is:
//!
//! ```no_run
//! use casemate_audit::{Event, Recorder, Settings, Who};
//! # fn record(who: Who, refused: casemate_audit::event::Refused) -> Result<(), casemate_audit::AuditError> {
//! let mut recorder = Recorder::open(&Settings::of("/var/lib/casemate/audit"), who)?;
//! recorder.add(Event::Refused(refused));
//! recorder.commit()?; // all that was added, in one append
//! # Ok(())
//! # }
//! ```
//! Readers ([`verify`], [`read`]) need no privilege and no writer.

pub mod clock;
mod digest;
mod digests;
pub mod event;
mod folder;
mod head;
mod key;
mod line;
pub mod read;
mod recorder;
mod settle;
pub mod verify;

pub use digest::{Digest, NoDigest};
pub use event::Event;
pub use folder::{key_folder, log_name, log_number};
pub use head::{Head, Place, SLOT, Slot, SlotError};
pub use key::{NoKey, PUBLIC, PublicKey, SECRET};
pub use line::{Entry, MAX_LINE, Who};
pub use recorder::{Recorder, Settings};

use casemate_beneath::{Dir, DirError};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::path::PathBuf;
use thiserror::Error;

/// Version of the format of lines and heads.
pub const VERSION: u32 = 1;
/// The head's name in the folder of the log.
pub const HEAD: &str = "head";
/// Where root's log is kept unless told otherwise.
pub const FOLDER: &str = "/var/lib/casemate/audit";
/// The size, in bytes, at which a file is full unless told otherwise.
pub const FILE_BYTES: u64 = 64 << 20;

/// Why nothing can be recorded. Whoever was to be recorded must not start.
#[derive(Debug, Error)]
pub enum AuditError {
    /// A folder or file.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// Another writer does not let go of it.
    #[error("the audit log {path} has been locked for {seconds} s: see who holds it (lslocks), and end that process", path = path.display())]
    Locked {
        /// The head.
        path: PathBuf,
        /// How long it was waited for.
        seconds: u64,
    },
    /// What is there is not what was signed.
    #[error("{path} is not as it was signed: {what}; look at it with `casemate audit verify`, then move the folder and its key's aside: the next start begins a new log", path = path.display())]
    Changed {
        /// Head or file.
        path: PathBuf,
        /// How it differs.
        what: String,
    },
    /// There is a log, and no key.
    #[error("{path} is gone, and the audit log needs it: put it back, or move the log and the rest of the key's folder aside, and the next start begins a new log", path = path.display())]
    KeyLost {
        /// The key.
        path: PathBuf,
    },
    /// There is a key, and no log.
    #[error("{keys} has signed an audit log that is gone from {log}: put it back, or move {keys} aside too, and the next start begins a new log", log = log.display(), keys = keys.display())]
    LogLost {
        /// Folder of the log.
        log: PathBuf,
        /// Folder of the key.
        keys: PathBuf,
    },
    /// A key's file that cannot be used.
    #[error("{path} is {found}", path = path.display())]
    BadKey {
        /// Which.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// No random bytes.
    #[error("the kernel gives no random bytes: {0}; run Linux 3.17 or later")]
    Random(Errno),
    /// A line that does not encode.
    #[error("a line of the audit log does not encode: {0}; report this")]
    Encode(#[from] serde_json::Error),
}

/// The error of a call through the standard library.
fn call(what: &'static str, dir: &Dir, name: &str, e: &std::io::Error) -> AuditError {
    let source = Errno::from_io_error(e).unwrap_or(Errno::IO);
    dir.failed(what, OsStr::new(name), source).into()
}
