//! Files that a run writes, as root, at paths where others may have been before.
//!
//! In a folder that others can write to, whoever knows the name of a report or console
//! file could place a link there and have root overwrite a file of its choice
//! (CVE-2026-1386's shape). So a link is followed only in a folder that is ours alone;
//! the kernel's own protection (`fs.protected_symlinks`) is off by default and does not
//! cover programs that resolve links by themselves.

use nix::unistd::geteuid;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a file is not written.
#[derive(Debug, Error)]
pub enum WrittenError {
    /// A link that anybody could have placed.
    #[error("{what} {path} is a symbolic link in a folder that others can write to: name the file itself", path = path.display())]
    Link {
        /// "report" or "console file".
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// A file with another name, or of another owner.
    #[error("{what} {path} is in a folder that others can write to, and is not root's alone: remove it, or give another path", path = path.display())]
    Foreign {
        /// "console file".
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// The call failed.
    #[error("{what} {path}: {source}; name a file that can be written", path = path.display())]
    Call {
        /// "report" or "console file".
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The folder that a path names a file in.
pub fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Whether nobody but us and root can place a name in the folder of `path`.
fn ours_alone(path: &Path) -> io::Result<bool> {
    let meta = folder(path).metadata()?;
    let owner = meta.uid();
    Ok((owner == 0 || owner == geteuid().as_raw()) && meta.mode() & 0o022 == 0)
}

/// Where to write what is meant for `path`: the path itself, or what the link there points
/// to. The answer stays true: where others could put a link in the meantime, none is followed
/// here, and none may be by who opens it.
///
/// # Errors
/// [`WrittenError::Link`].
pub fn target(what: &'static str, path: &Path) -> Result<PathBuf, WrittenError> {
    let call = |source| WrittenError::Call {
        what,
        path: path.to_owned(),
        source,
    };
    if !path.is_symlink() {
        return Ok(path.to_owned());
    }
    match ours_alone(path).map_err(call)? {
        true => path.canonicalize().map_err(call),
        false => Err(WrittenError::Link {
            what,
            path: path.to_owned(),
        }),
    }
}

/// Opens the console file, empty. A device or a FIFO will do; nothing waits for its reader.
///
/// # Errors
/// Where it cannot be opened, or may be somebody else's.
pub fn console(path: &Path) -> Result<File, WrittenError> {
    let what = "console file";
    let call = |source| WrittenError::Call {
        what,
        path: path.to_owned(),
        source,
    };
    let open = |flags: i32, path: &Path| {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(flags | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
    };
    let ours = ours_alone(path).map_err(call)?;
    let file = match ours {
        // Links of the operator's own, and of the system's: /dev/stderr.
        true => open(0, path).map_err(call)?,
        false => open(libc::O_NOFOLLOW, path).map_err(|e| match e.raw_os_error() {
            Some(libc::ELOOP) => WrittenError::Link {
                what,
                path: path.to_owned(),
            },
            _ => call(e),
        })?,
    };
    let meta = file.metadata().map_err(call)?;
    if !meta.is_file() {
        return Ok(file);
    }
    // A second name may be a hard link to any file of ours.
    if !ours && (meta.nlink() > 1 || meta.uid() != geteuid().as_raw()) {
        return Err(WrittenError::Foreign {
            what,
            path: path.to_owned(),
        });
    }
    file.set_len(0).map_err(call)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// A folder of this mode with the file `victim`, and beside it the links `soft` and `hard`.
    fn bed(mode: u32) -> tempfile::TempDir {
        let bed = tempfile::tempdir().unwrap();
        let at = |name| bed.path().join(name);
        fs::write(at("victim"), b"precious").unwrap();
        symlink(at("victim"), at("soft")).unwrap();
        fs::hard_link(at("victim"), at("hard")).unwrap();
        fs::set_permissions(bed.path(), Permissions::from_mode(mode)).unwrap();
        bed
    }

    #[test]
    fn nobodys_links_lead_us_to_another_file() {
        let bed = bed(0o1777);
        let at = |name| bed.path().join(name);
        assert!(matches!(
            target("report", &at("soft")),
            Err(WrittenError::Link { .. })
        ));
        assert!(matches!(
            console(&at("soft")),
            Err(WrittenError::Link { .. })
        ));
        assert!(matches!(
            console(&at("hard")),
            Err(WrittenError::Foreign { .. })
        ));
        assert_eq!(fs::read(at("victim")).unwrap(), b"precious");
        fs::write(at("old"), b"old").unwrap();
        assert_eq!(console(&at("old")).unwrap().metadata().unwrap().len(), 0);
        console(&at("new")).unwrap();
        assert_eq!(target("report", &at("new")).unwrap(), at("new"));
    }

    #[test]
    fn our_own_links_are_followed() {
        let bed = bed(0o755);
        let at = |name| bed.path().join(name);
        let victim = at("victim").canonicalize().unwrap();
        assert_eq!(target("report", &at("soft")).unwrap(), victim);
        console(&at("soft")).unwrap();
        assert_eq!(fs::read(victim).unwrap(), b"");
        assert!(console(Path::new("/dev/null")).is_ok());
    }
}
