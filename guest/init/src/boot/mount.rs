//! mount(2) with errors that say what was mounted where.

use nix::errno::Errno;
use nix::mount::MsFlags;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a mount failed.
#[derive(Debug, Error)]
pub enum MountError {
    /// The mount point is not there and cannot be made.
    #[error("mount point {at}: {source}", at = .at.display())]
    Point {
        /// The mount point.
        at: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// mount(2) failed.
    #[error("mount {kind} of {device} on {at}: {errno}{}", remedy(*.errno))]
    Mount {
        /// File system type.
        kind: String,
        /// What was mounted.
        device: String,
        /// Where.
        at: String,
        /// The kernel's reason.
        errno: Errno,
    },
}

fn remedy(errno: Errno) -> &'static str {
    match errno {
        Errno::ENODEV => {
            " (this kernel has no such file system: import it with its modules, or use another image format)"
        }
        Errno::EINVAL | Errno::EUCLEAN => {
            " (the image is damaged, or its features are newer than this kernel)"
        }
        _ => "",
    }
}

/// One mount.
#[derive(Debug, Clone, Copy)]
pub struct Mounted<'a> {
    /// Device, or any word for file systems without one.
    pub source: &'a str,
    /// Mount point; made (0755) where missing.
    pub at: &'a str,
    /// File system type; empty for binds and moves.
    pub kind: &'a str,
    /// `MS_*`.
    pub flags: MsFlags,
    /// The file system's own options.
    pub data: &'a str,
}

/// Mounts it.
pub fn mount(m: Mounted) -> Result<(), MountError> {
    make_dir(m.at)?;
    let kind = (!m.kind.is_empty()).then_some(m.kind);
    let data = (!m.data.is_empty()).then_some(m.data);
    nix::mount::mount(Some(m.source), m.at, kind, m.flags, data).map_err(|errno| {
        MountError::Mount {
            kind: if m.kind.is_empty() { "bind" } else { m.kind }.to_owned(),
            device: m.source.to_owned(),
            at: m.at.to_owned(),
            errno,
        }
    })
}

/// Makes a directory (0755) where there is none.
pub fn make_dir(at: &str) -> Result<(), MountError> {
    std::fs::create_dir_all(at).map_err(|source| MountError::Point {
        at: at.into(),
        source,
    })
}
