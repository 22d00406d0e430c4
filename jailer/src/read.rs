//! Small files of `/proc` and the like, which say nothing of their size: read with as few
//! calls as can be.

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// As large as most of them are at most.
const PAGE: usize = 4096;

/// The whole text of a file (lossy where it is not UTF-8).
///
/// # Errors
/// The calls' own.
pub fn text(path: impl AsRef<Path>) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = openat(CWD, path.as_ref(), flags, Mode::empty())?;
    Ok(all(&fd)?)
}

/// The rest of an open file.
///
/// # Errors
/// The calls' own.
pub fn all(fd: &OwnedFd) -> Result<String, Errno> {
    let mut text = Vec::with_capacity(PAGE);
    while rustix::io::read(fd.as_fd(), rustix::buffer::spare_capacity(&mut text))? > 0 {
        text.reserve(PAGE);
    }
    Ok(String::from_utf8(text)
        .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_read_whole() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let long = "ü".repeat(9000);
        std::fs::write(file.path(), &long).unwrap();
        assert_eq!(text(file.path()).unwrap(), long);
        assert!(text("/nonexistent").is_err());
    }
}
