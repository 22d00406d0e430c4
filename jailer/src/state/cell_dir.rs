//! The directory of one cell: its lock, and the journal under it.

use super::lock::{Attempt, attempt};
use super::{Journal, StateError};
use casemate_beneath::{Dir, DirError};
use casemate_proto::id::{CellId, TenantId};
use rustix::fs::{OFlags, fstat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

const LOCK: &str = "lock";
const JOURNAL: &str = "journal";

/// Tries after which something must be wrong. Each repeat means that another process
/// finished with the same id at that moment.
const ATTEMPTS: u32 = 1000;

/// Largest journal that is read, in bytes.
const MAX_JOURNAL: u64 = 1 << 20;

/// A cell's directory, locked by us.
#[derive(Debug)]
pub struct CellDir {
    tenant: TenantId,
    id: CellId,
    tenant_dir: Dir,
    dir: Dir,
    left: bool,
    _lock: OwnedFd,
}

impl CellDir {
    /// Makes and locks the cell's directory. What an earlier holder left in it, see
    /// [`Self::journal`], is the caller's to clear.
    ///
    /// # Errors
    /// [`StateError::Running`] at once where the lock is held.
    pub fn lock(run: &Dir, tenant: &TenantId, id: &CellId) -> Result<Self, StateError> {
        for _ in 0..ATTEMPTS {
            let opened = run
                .subdir(tenant.as_str())
                .and_then(|tenant_dir| Ok((tenant_dir.subdir(id.as_str())?, tenant_dir)));
            let (dir, tenant_dir) = match opened {
                Ok(dirs) => dirs,
                Err(e) if e.is_missing() => continue,
                Err(e) => return Err(e.into()),
            };
            match attempt(&dir, LOCK)? {
                Attempt::Gone => {}
                Attempt::Held => {
                    return Err(StateError::Running {
                        tenant: tenant.to_string(),
                        id: id.to_string(),
                    });
                }
                Attempt::Locked(lock) => {
                    let left = is_marked(&lock)
                        .map_err(|source| dir.failed("mark", OsStr::new(LOCK), source))?;
                    return Ok(Self {
                        tenant: tenant.clone(),
                        id: id.clone(),
                        tenant_dir,
                        dir,
                        left,
                        _lock: lock,
                    });
                }
            }
        }
        Err(StateError::Unsteady {
            path: run.path().join(tenant.as_str()).join(id.as_str()),
        })
    }

    /// Tenant.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Cell.
    pub fn id(&self) -> &CellId {
        &self.id
    }

    /// Whether the last holder was killed: one that ends by itself removes the lock's file.
    pub fn was_left(&self) -> bool {
        self.left
    }

    /// What was written last, by us or by a holder that was killed.
    ///
    /// # Errors
    /// A call's own, and [`StateError::Journal`].
    pub fn journal(&self) -> Result<Option<Journal>, StateError> {
        read(&self.dir)
    }

    /// What the holder of a cell, if there is one, wrote last. Takes no lock and makes nothing.
    ///
    /// # Errors
    /// As [`Self::journal`].
    pub fn peek(
        run_dir: &Path,
        tenant: &TenantId,
        id: &CellId,
    ) -> Result<Option<Journal>, StateError> {
        let Some(run) = Dir::existing(run_dir)? else {
            return Ok(None);
        };
        let opened = run
            .open_subdir(tenant.as_str())
            .and_then(|dir| dir.open_subdir(id.as_str()));
        match opened {
            Ok(dir) => read(&dir),
            Err(e) if e.is_missing() => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Adds a line that replaces all before it. One that is not whole, because its writer was
    /// killed, is as if it were not there.
    ///
    /// Not synced to a disk: a host that goes down takes all that the journal speaks of along.
    ///
    /// # Errors
    /// A call's own.
    pub fn write_journal(&self, journal: &Journal) -> Result<(), StateError> {
        let mut line =
            serde_json::to_vec(journal).map_err(|source| malformed(&self.dir, source))?;
        line.push(b'\n');
        let flags = OFlags::CREATE | OFlags::APPEND | OFlags::WRONLY;
        let file = self.dir.file(JOURNAL, flags)?;
        File::from(file)
            .write_all(&line)
            .map_err(|e| self.call("write", JOURNAL, &e))?;
        Ok(())
    }

    /// Removes what an earlier holder wrote, once it is undone.
    ///
    /// # Errors
    /// A call's own.
    pub fn forget(&self) -> Result<(), StateError> {
        Ok(self.dir.remove_file(JOURNAL)?)
    }

    /// Removes the directory and gives up the lock. The files go first, the lock's last,
    /// all under the lock; of the directories only those in which nobody else has begun.
    ///
    /// # Errors
    /// A call's own. The lock is given up in any case.
    pub fn remove(self, run: &Dir) -> Result<(), StateError> {
        self.dir.remove_file(JOURNAL)?;
        self.dir.remove_file(LOCK)?;
        self.tenant_dir.remove_dir(self.id.as_str())?;
        Ok(run.remove_dir(self.tenant.as_str())?)
    }

    fn call(&self, what: &'static str, name: &str, e: &std::io::Error) -> DirError {
        let source = Errno::from_io_error(e).unwrap_or(Errno::IO);
        self.dir.failed(what, OsStr::new(name), source)
    }
}

/// Whether an earlier holder marked the lock's file; marks it where not. Only who holds the
/// lock writes to it.
fn is_marked(lock: &OwnedFd) -> Result<bool, Errno> {
    if fstat(lock)?.st_size > 0 {
        return Ok(true);
    }
    rustix::io::write(lock, b"\n")?;
    Ok(false)
}

fn malformed(dir: &Dir, source: serde_json::Error) -> StateError {
    StateError::Journal {
        path: dir.path().join(JOURNAL),
        source,
    }
}

/// The journal in a cell's directory.
fn read(dir: &Dir) -> Result<Option<Journal>, StateError> {
    let file = match dir.file(JOURNAL, OFlags::RDONLY) {
        Ok(file) => file,
        Err(e) if e.is_missing() => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let mut text = Vec::new();
    File::from(file)
        .take(MAX_JOURNAL)
        .read_to_end(&mut text)
        .map_err(|e| {
            let source = Errno::from_io_error(&e).unwrap_or(Errno::IO);
            dir.failed("read", OsStr::new(JOURNAL), source)
        })?;
    last_line(&text)
        .map(serde_json::from_slice)
        .transpose()
        .map_err(|source| malformed(dir, source))
}

/// The last line that has an end.
fn last_line(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().rposition(|&byte| byte == b'\n')?;
    text[..end].rsplit(|&byte| byte == b'\n').next()
}

#[cfg(test)]
mod tests {
    use super::last_line;

    #[test]
    fn only_whole_lines_count() {
        assert_eq!(last_line(b"a\nbc\nd"), Some(&b"bc"[..]));
        assert_eq!(last_line(b"a\n"), Some(&b"a"[..]));
        assert_eq!(last_line(b"a"), None);
        assert_eq!(last_line(b""), None);
    }
}
