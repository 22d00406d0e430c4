//! The lock and the journal of one jail, in the run directory that all cells share.
//!
//! ```text
//! /run/casemate/_peer/ID-HASH/lock     held while the jail is built or cleared
//! /run/casemate/_peer/ID-HASH/journal  what was made, and the process that lives in it
//! ```
//! No supervisor stays: the process that was started becomes the program. So the lock ends
//! with the exec, and from then on the journal's process, known by its start time, tells
//! whether the jail lives. `HASH` is that of the jail's directory, since an id is unique
//! only within its base and program.

use super::error::PeerError;
use crate::clock;
use crate::process;
use crate::state::{Attempt, ProcessRecord, RunDir, StateError, attempt};
use rustix::fs::{OFlags, renameat};
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Not a tenant's name, so neither the cells' reaper nor a cell ever looks in there.
const TOP: &str = "_peer";
const LOCK: &str = "lock";
const JOURNAL: &str = "journal";
const JOURNAL_NEW: &str = "journal.new";

const ATTEMPTS: u32 = 1000;
const MAX_JOURNAL: u64 = 256 << 10;

/// How long a process that is being killed may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// What was made for one jail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    /// The boot that wrote it.
    boot: String,
    /// The base, as bytes: it need not be UTF-8.
    base: Vec<u8>,
    /// The exec file's name, likewise.
    name: Vec<u8>,
    /// The id.
    pub id: String,
    /// The jail's user.
    pub uid: u32,
    /// The process that builds the jail and then is the program.
    pub process: Option<ProcessRecord>,
    /// Device and inode of the root, once it is there.
    pub root: Option<(u64, u64)>,
    /// Directories of the layout that were not there before, outermost first.
    pub made: Vec<Made>,
    /// cgroups that are about to be made or used.
    pub cgroups: Vec<UsedCgroup>,
}

/// A directory of the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Made {
    /// `BASE/NAME`
    Name,
    /// `BASE/NAME/ID`
    Id,
    /// `BASE/NAME/ID/root`
    Root,
    /// `dev` in it.
    Dev,
    /// `dev/net` in it.
    Net,
    /// `run` in it.
    Run,
}

/// A cgroup of the jail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsedCgroup {
    /// Its directory.
    pub path: PathBuf,
    /// How many directories at the end of `path`, itself included, were not there before.
    pub made: usize,
    /// Its inode, once it is there.
    pub inode: Option<u64>,
}

impl Journal {
    /// Of a jail that has nothing yet.
    pub fn new(base: &Path, name: &OsStr, id: &str, uid: u32) -> Self {
        Self {
            boot: clock::boot_id(),
            base: base.as_os_str().as_bytes().to_vec(),
            name: name.as_bytes().to_vec(),
            id: id.to_owned(),
            uid,
            process: None,
            root: None,
            made: Vec::new(),
            cgroups: Vec::new(),
        }
    }

    /// The base.
    pub fn base(&self) -> PathBuf {
        OsString::from_vec(self.base.clone()).into()
    }

    /// The exec file's name.
    pub fn name(&self) -> OsString {
        OsString::from_vec(self.name.clone())
    }

    /// The jail's directory.
    pub fn jail(&self) -> PathBuf {
        self.base().join(self.name()).join(&self.id)
    }

    /// Whether this boot wrote it.
    pub fn is_of_this_boot(&self) -> bool {
        self.boot == clock::boot_id()
    }

    /// The jail's process, if it lives. One that is being killed is waited for: who killed a
    /// daemon cannot wait for its end.
    pub fn alive(&self) -> Option<i32> {
        let process = self.process.as_ref().filter(|_| self.is_of_this_boot())?;
        let until = Instant::now() + PATIENCE;
        while process::is_alive(process) {
            if !process::is_ending(process.pid) || Instant::now() > until {
                return Some(process.pid);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    }
}

/// The directory of one jail's record, locked by us.
#[derive(Debug)]
pub struct Record {
    key: String,
    top: RunDir,
    dir: RunDir,
    _lock: OwnedFd,
}

/// The directory's name of the jail's record.
fn key(base: &Path, name: &OsStr, id: &str) -> String {
    let mut hash = blake3::Hasher::new();
    hash.update(base.as_os_str().as_bytes())
        .update(&[0])
        .update(name.as_bytes());
    format!("{id}-{}", &hash.finalize().to_hex()[..32])
}

impl Record {
    /// Locks the record of a jail.
    ///
    /// # Errors
    /// [`PeerError::Running`] where somebody holds the lock, and calls' own.
    pub fn lock(run: &RunDir, base: &Path, name: &OsStr, id: &str) -> Result<Self, PeerError> {
        Self::lock_key(run, key(base, name, id))?.ok_or_else(|| PeerError::Running {
            jail: base.join(name).join(id),
            process: None,
        })
    }

    /// `None` where somebody holds it.
    fn lock_key(run: &RunDir, key: String) -> Result<Option<Self>, PeerError> {
        for _ in 0..ATTEMPTS {
            let opened = run.subdir(TOP).and_then(|top| Ok((top.subdir(&key)?, top)));
            let (dir, top) = match opened {
                Ok(dirs) => dirs,
                Err(e) if e.is_missing() => continue,
                Err(e) => return Err(e.into()),
            };
            match attempt(&dir, LOCK)? {
                Attempt::Gone => {}
                Attempt::Held => return Ok(None),
                Attempt::Locked(lock) => {
                    return Ok(Some(Self {
                        key,
                        top,
                        dir,
                        _lock: lock,
                    }));
                }
            }
        }
        Err(StateError::Unsteady {
            path: run.path().join(TOP).join(key),
        }
        .into())
    }

    /// Locks every record that nobody holds, one after the other.
    ///
    /// # Errors
    /// Calls' own.
    pub fn each(run: &RunDir) -> Result<impl Iterator<Item = Result<Self, PeerError>>, PeerError> {
        let names = match run.names()?.iter().any(|name| name == TOP) {
            true => run.open_subdir(TOP)?.names()?,
            false => Vec::new(),
        };
        let records = names
            .into_iter()
            .filter_map(|name| Self::lock_key(run, name).transpose());
        Ok(records)
    }

    /// What was written last.
    ///
    /// # Errors
    /// A call's own, and [`StateError::Journal`].
    pub fn journal(&self) -> Result<Option<Journal>, PeerError> {
        let file = match self.dir.file(JOURNAL, OFlags::RDONLY) {
            Ok(file) => file,
            Err(e) if e.is_missing() => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let mut text = Vec::new();
        File::from(file)
            .take(MAX_JOURNAL)
            .read_to_end(&mut text)
            .map_err(|e| self.failed("read", JOURNAL, e))?;
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| self.broken(source))
    }

    /// Replaces the journal, as a whole or not at all.
    ///
    /// # Errors
    /// A call's own.
    pub fn write(&self, journal: &Journal) -> Result<(), PeerError> {
        let text = serde_json::to_vec(journal).map_err(|source| self.broken(source))?;
        self.dir.remove_file(JOURNAL_NEW)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        File::from(self.dir.file(JOURNAL_NEW, flags)?)
            .write_all(&text)
            .map_err(|e| self.failed("write", JOURNAL_NEW, e))?;
        renameat(&self.dir, JOURNAL_NEW, &self.dir, JOURNAL)
            .map_err(|e| self.failed("rename", JOURNAL_NEW, e))
    }

    /// Removes the record and gives up the lock: nothing is left that it would be about.
    ///
    /// # Errors
    /// A call's own.
    pub fn remove(self, run: &RunDir) -> Result<(), PeerError> {
        for name in [JOURNAL_NEW, JOURNAL, LOCK] {
            self.dir.remove_file(name)?;
        }
        self.top.remove_dir(&self.key)?;
        Ok(run.remove_dir(TOP)?)
    }

    /// As [`Self::remove`], for one who does not have the run directory open.
    ///
    /// # Errors
    /// A call's own.
    pub fn forget(self, run_dir: &Path) -> Result<(), PeerError> {
        let run = RunDir::top(run_dir)?;
        self.remove(&run)
    }

    fn failed(&self, what: &'static str, name: &str, e: impl std::fmt::Display) -> PeerError {
        let path = self.dir.path().join(name);
        PeerError::path(what, &path, e, "see that there is space")
    }

    fn broken(&self, source: serde_json::Error) -> PeerError {
        StateError::Journal {
            path: self.dir.path().join(JOURNAL),
            source,
        }
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_by_base_program_and_id() {
        let of = |base: &str, name: &str, id| key(Path::new(base), OsStr::new(name), id);
        let all = [
            of("/a", "b", "c"),
            of("/a/b", "b", "c"),
            of("/a", "bb", "c"),
            of("/a", "b", "cc"),
        ];
        assert!(
            all.iter()
                .all(|k| all.iter().filter(|o| *o == k).count() == 1)
        );
        assert!(of("/a", "b", &"x".repeat(64)).len() < 128);
    }

    #[test]
    fn a_journal_comes_back_whole_whatever_bytes_it_names() {
        let base = PathBuf::from(OsString::from_vec(b"/srv/\xff\n".to_vec()));
        let journal = Journal::new(&base, OsStr::from_bytes(b"\xfe"), "a", 5);
        let text = serde_json::to_vec(&journal).unwrap();
        let back: Journal = serde_json::from_slice(&text).unwrap();
        assert_eq!(back, journal);
        assert_eq!(back.base(), base);
        assert!(back.is_of_this_boot() && back.alive().is_none());
    }
}
