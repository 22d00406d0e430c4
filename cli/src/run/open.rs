//! Opens what the user names: regular files only, without ever waiting.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a file cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// It is not there.
    #[error("{what} {path}: there is no such file; check the path", path = path.display())]
    Missing {
        /// What it was to be.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// It cannot be opened.
    #[error("{what} {path}: {source}; check its owner and mode", path = path.display())]
    Refused {
        /// What it was to be.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is something else.
    #[error("{what} {path} is {kind}: give a regular file", path = path.display())]
    NotAFile {
        /// What it was to be.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// It has no bytes.
    #[error("{what} {path} is empty: it was not written to its end, make it anew", path = path.display())]
    Empty {
        /// What it was to be.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
}

/// Opens a regular file read-only and gives its length in bytes. `O_NONBLOCK`
/// lets a FIFO open at once, to be refused; it means nothing to a regular file.
pub fn regular(what: &'static str, path: &Path) -> Result<(File, u64), OpenError> {
    let path_buf = || path.to_owned();
    let refused = |source: io::Error| match source.kind() {
        ErrorKind::NotFound => OpenError::Missing {
            what,
            path: path_buf(),
        },
        // A socket cannot be opened at all.
        _ if source.raw_os_error() == Some(libc::ENXIO) => OpenError::NotAFile {
            what,
            path: path_buf(),
            kind: "a socket",
        },
        _ => OpenError::Refused {
            what,
            path: path_buf(),
            source,
        },
    };
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(refused)?;
    let meta = file.metadata().map_err(refused)?;
    let kind = match meta.file_type() {
        t if t.is_file() => None,
        t if t.is_dir() => Some("a directory"),
        t if t.is_fifo() => Some("a FIFO"),
        t if t.is_char_device() => Some("a character device"),
        t if t.is_block_device() => Some("a block device"),
        _ => Some("no file"),
    };
    if let Some(kind) = kind {
        return Err(OpenError::NotAFile {
            what,
            path: path_buf(),
            kind,
        });
    }
    if meta.len() == 0 {
        return Err(OpenError::Empty {
            what,
            path: path_buf(),
        });
    }
    Ok((file, meta.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_regular_files_with_bytes_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("good"), b"x").unwrap();
        std::fs::write(at("empty"), b"").unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        assert_eq!(regular("kernel", &at("good")).unwrap().1, 1);
        for (name, words) in [
            ("empty", "is empty"),
            ("fifo", "is a FIFO"),
            ("socket", "is a socket"),
            (".", "is a directory"),
            ("none", "no such file"),
        ] {
            let error = regular("kernel", &at(name)).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let error = regular("kernel", Path::new("/dev/null")).unwrap_err();
        assert!(error.to_string().contains("a character device"));
    }
}
