//! The folders of a log and of its key, and the files in them.
//!
//! ```text
//! /var/lib/casemate/audit/           0700, root's; an ordinary user's is elsewhere, and its own
//!   audit-00000001.jsonl             lines, append-only; as many files as it took
//!   head                             where the log ends, signed; locked by who writes
//! /var/lib/casemate/audit-key/       0700, likewise
//!   secret, public                   the key that signs heads
//!   digests                          digests of binaries, by inode and times
//! ```

use crate::{AuditError, HEAD, call};
use casemate_beneath::Dir;
use rustix::fs::{FlockOperation, IFlags, OFlags, flock, fstat, ioctl_getflags, ioctl_setflags};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest wait for the lock.
const LOCK_TIME: Duration = Duration::from_secs(10);
/// Between two tries for the lock: a commit holds it for a tenth of a millisecond.
const LOCK_PAUSE: Duration = Duration::from_micros(100);

/// Name of the log's file with this number.
pub fn log_name(number: u64) -> String {
    format!("audit-{number:08}.jsonl")
}

/// The number of a log's file of this name.
pub fn log_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("audit-")?.strip_suffix(".jsonl")?;
    let number = digits.parse().ok()?;
    (log_name(number) == name && number > 0).then_some(number)
}

/// The folder of the key of the log in `folder`: beside it, so that a copy of the log does
/// not take the secret along.
pub fn key_folder(folder: &Path) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push("-key");
    folder.with_file_name(name)
}

/// Both folders, open.
#[derive(Debug)]
pub(crate) struct Folders {
    pub(crate) log: Dir,
    pub(crate) keys: Dir,
}

impl Folders {
    /// Opens them, and makes those that are missing.
    pub(crate) fn open(folder: &Path) -> Result<Self, AuditError> {
        let log = match Dir::top(folder) {
            Err(e) if e.is_missing() => {
                make_parent(folder)?;
                Dir::top(folder)?
            }
            opened => opened?,
        };
        let keys = Dir::top(&key_folder(folder))?;
        Ok(Self { log, keys })
    }

    /// Opens a file of the log to append to it; `make`: a new one.
    pub(crate) fn append(&self, number: u64, make: bool) -> Result<LogFile, AuditError> {
        let name = log_name(number);
        let mut flags = OFlags::WRONLY | OFlags::APPEND;
        flags.set(OFlags::CREATE, make);
        let file = File::from(self.log.file(&name, flags)?);
        Ok(LogFile { name, file })
    }

    /// Size of a file of the log; `None` where there is none.
    pub(crate) fn size(&self, number: u64) -> Result<Option<u64>, AuditError> {
        let name = log_name(number);
        match self.log.file(&name, OFlags::RDONLY) {
            Ok(file) => {
                let stat =
                    fstat(&file).map_err(|e| self.log.failed("stat", OsStr::new(&name), e))?;
                Ok(Some(stat.st_size as u64))
            }
            Err(e) if e.is_missing() => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Bytes `from..to` of a file of the log.
    pub(crate) fn bytes(&self, number: u64, from: u64, to: u64) -> Result<Vec<u8>, AuditError> {
        let name = log_name(number);
        let file = File::from(self.log.file(&name, OFlags::RDONLY)?);
        let mut bytes = vec![0; to.saturating_sub(from) as usize];
        file.read_exact_at(&mut bytes, from)
            .map_err(|e| call("read", &self.log, &name, &e))?;
        Ok(bytes)
    }

    /// The numbers of the log's files that are there.
    pub(crate) fn numbers(&self) -> Result<Vec<u64>, AuditError> {
        let names = self.log.names()?;
        Ok(names.iter().filter_map(|name| log_number(name)).collect())
    }

    /// Opens the head, making an empty one if need be, and waits for its lock, which goes
    /// with the file returned. The file is opened anew each time: a lock is one of the open
    /// file, and a child that was cloned earlier must have no part in it.
    pub(crate) fn lock_head(&self) -> Result<File, AuditError> {
        let head = self.log.file(HEAD, OFlags::RDWR | OFlags::CREATE)?;
        let begun = Instant::now();
        loop {
            match flock(&head, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(head.into()),
                Err(Errno::WOULDBLOCK) if begun.elapsed() < LOCK_TIME => {
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(Errno::WOULDBLOCK) => {
                    return Err(AuditError::Locked {
                        path: self.log.path().join(HEAD),
                        seconds: LOCK_TIME.as_secs(),
                    });
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(self.log.failed("lock", OsStr::new(HEAD), e).into()),
            }
        }
    }
}

/// An open file of the log.
#[derive(Debug)]
pub(crate) struct LogFile {
    pub(crate) name: String,
    pub(crate) file: File,
}

impl LogFile {
    pub(crate) fn size(&self) -> Result<u64, Errno> {
        Ok(fstat(&self.file)?.st_size as u64)
    }

    /// Sets the append-only attribute (ioctl_iflags(2)), if this file system has it and we
    /// may: that takes CAP_LINUX_IMMUTABLE. Without it the chain alone tells of changes.
    pub(crate) fn make_append_only(&self) {
        if let Ok(flags) = ioctl_getflags(&self.file)
            && !flags.contains(IFlags::APPEND)
        {
            let _ = ioctl_setflags(&self.file, flags | IFlags::APPEND);
        }
    }
}

/// Makes the folders above, which are the operator's and not secret.
fn make_parent(folder: &Path) -> Result<(), AuditError> {
    let parent = folder.parent().unwrap_or(Path::new("/"));
    // An ordinary user's are in its own folder, of which nobody else need see anything.
    let mode = match geteuid().is_root() {
        true => 0o755,
        false => 0o700,
    };
    let made = DirBuilder::new().recursive(true).mode(mode).create(parent);
    made.map_err(|e| {
        casemate_beneath::DirError::Call {
            what: "create",
            path: parent.to_owned(),
            source: Errno::from_io_error(&e).unwrap_or(Errno::IO),
        }
        .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        for number in [1, 99_999_999, 100_000_000, u64::MAX] {
            assert_eq!(log_number(&log_name(number)), Some(number));
        }
        for name in [
            "head",
            "audit-1.jsonl",
            "audit-00000000.jsonl",
            "audit-+0000001.jsonl",
            "audit-00000001.jsonl.gz",
        ] {
            assert_eq!(log_number(name), None, "{name}");
        }
        let keys = key_folder(Path::new("/var/lib/casemate/audit"));
        assert_eq!(keys, Path::new("/var/lib/casemate/audit-key"));
    }
}
