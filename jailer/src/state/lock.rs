//! A lock file that can be removed without a race (flock(2)).

use casemate_beneath::{Dir, DirError};
use rustix::fs::{AtFlags, FlockOperation, OFlags, flock, fstat, statat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;

/// What came of one attempt.
pub enum Attempt {
    /// It is ours until the fd is closed.
    Locked(OwnedFd),
    /// Somebody alive has it.
    Held,
    /// It was removed between opening and locking: try again.
    Gone,
}

/// Tries once to lock `name` in `dir`, making the file if need be.
///
/// Whoever removes a lock file does so while holding its lock. So if the file locked is
/// still the one that stands at the name, nobody else can hold the lock of that name.
///
/// # Errors
/// A call's own, and [`DirError::Foreign`].
pub fn attempt(dir: &Dir, name: &str) -> Result<Attempt, DirError> {
    let file = match dir.file(name, OFlags::CREATE | OFlags::RDWR) {
        Ok(file) => file,
        // The directory itself was removed (no file can be made in it), or the file
        // was, just as we looked at it.
        Err(e) if e.is_missing() => return Ok(Attempt::Gone),
        Err(e) => return Err(e),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(Attempt::Held),
        Err(source) => return Err(dir.failed("lock", OsStr::new(name), source)),
    }
    let failed = |source| dir.failed("stat", OsStr::new(name), source);
    let ours = fstat(&file).map_err(failed)?;
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino) => {
            Ok(Attempt::Locked(file))
        }
        Ok(_) | Err(Errno::NOENT) => Ok(Attempt::Gone),
        Err(source) => Err(failed(source)),
    }
}
