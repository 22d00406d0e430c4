//! The writer.
//!
//! What is added is kept until [`Recorder::commit`] appends all of it at once, under one
//! lock, with one signature:
//!
//! 1. lock the head, read both slots, see that they are ours and that the log ends there;
//! 2. write the intent: where the log will end;
//! 3. append the lines, in one write(2);
//! 4. write the commitment: the intent again.
//!
//! A kill between any two leaves what the next writer mends (`settle.rs`) and the
//! verifier tells from a change by somebody else.

use crate::digest::hex;
use crate::digests;
use crate::event::Open;
use crate::folder::{Folders, LogFile};
use crate::head::{Head, Place, SLOT, Slot};
use crate::key::{Secret, random};
use crate::line::{Chain, Context, Stamp, Who};
use crate::settle::{Position, settle};
use crate::{AuditError, Digest, Event, FILE_BYTES, HEAD, VERSION, call};
use rustix::fs::{fdatasync, fsync};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Where and how to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Folder of the log.
    pub folder: PathBuf,
    /// Whether a commit waits until the disk has it.
    pub sync: bool,
    /// A file that would grow beyond so many bytes is full, and the next one begins.
    pub file_bytes: u64,
}

impl Settings {
    /// The usual ones, for this folder.
    pub fn of(folder: impl AsRef<Path>) -> Self {
        Self {
            folder: folder.as_ref().to_owned(),
            sync: false,
            file_bytes: FILE_BYTES,
        }
    }
}

/// Records what is decided about one cell or jail.
#[derive(Debug)]
pub struct Recorder {
    folders: Folders,
    settings: Settings,
    who: Who,
    policy: Option<Digest>,
    binaries: Option<Digest>,
    added: Vec<(Stamp, Event)>,
}

impl Recorder {
    /// Opens the log; begins one, with a new key, where none was ever begun. Sets the
    /// append-only attribute, for which this must be called before rights are given up.
    ///
    /// # Errors
    /// Where nothing can be recorded there.
    pub fn open(settings: &Settings, who: Who) -> Result<Self, AuditError> {
        let folders = Folders::open(&settings.folder)?;
        let recorder = Self {
            folders,
            settings: settings.clone(),
            who,
            policy: None,
            binaries: None,
            added: Vec::new(),
        };
        // No lock: a writer may be at work, and what counts is looked at again under it.
        let number = match recorder.folders.log.file(HEAD, rustix::fs::OFlags::RDONLY) {
            Ok(head) => file_number(&File::from(head)),
            Err(e) if e.is_missing() => None,
            Err(e) => return Err(e.into()),
        };
        match number {
            Some(0) | None => {
                let head = recorder.folders.lock_head()?;
                let committed = recorder.heads(&head)?.0;
                if committed.head.to.file == 0 {
                    recorder.folders.append(1, true)?.make_append_only();
                }
            }
            Some(number) => match recorder.folders.append(number, false) {
                Ok(log) => log.make_append_only(),
                Err(AuditError::Dir(e)) if e.is_missing() => {}
                Err(e) => return Err(e),
            },
        }
        Ok(recorder)
    }

    /// The policies in force: every line from now on carries their digest.
    pub fn set_policies(&mut self, policies: &BTreeMap<String, Digest>) {
        self.policy = Some(Digest::of_all(policies));
    }

    /// The binaries and images: every line from now on carries their digest.
    pub fn set_binaries(&mut self, binaries: &BTreeMap<String, Digest>) {
        self.binaries = Some(Digest::of_all(binaries));
    }

    /// The digest of a whole file, from the cache where nothing says that it was changed.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn digest(&self, fd: BorrowedFd<'_>) -> Result<Digest, AuditError> {
        let secret = Secret::load(&self.folders.keys)?;
        digests::of(&self.folders.keys, &secret, fd)
    }

    /// Adds what was decided just now.
    pub fn add(&mut self, event: Event) {
        self.added.push((Stamp::now(), event.bounded()));
    }

    /// Appends all that was added since the last time. Where that fails, it stays added.
    ///
    /// # Errors
    /// Where it could not be recorded; the log is as before, or as the next writer mends it.
    pub fn commit(&mut self) -> Result<(), AuditError> {
        if self.added.is_empty() {
            return Ok(());
        }
        let head = self.folders.lock_head()?;
        let (committed, intent, secret) = self.heads(&head)?;
        let log = committed.head.log.clone();
        let position = settle(&self.folders, &committed.head, &intent.head)?;
        if position.commit_first {
            self.write_slot(&head, 0, &intent)?;
        }
        let (position, chain) = self.compose(position, &secret, &log)?;
        let to = Place {
            file: position.file,
            offset: position.size + chain.bytes.len() as u64,
            seq: chain.seq,
            hash: chain.hash,
        };
        let next = Slot::sign(Head::new(&log, position.from, position.size, to), &secret)?;
        self.write_slot(&head, 1, &next)?;
        if let Err(e) = self.append(&position, &chain.bytes) {
            // Where the file could be cut back, all is as it was before.
            if self.cut_back(&position) {
                self.write_slot(&head, 1, &intent)?;
            }
            return Err(e);
        }
        self.write_slot(&head, 0, &next)?;
        if self.settings.sync {
            fdatasync(&head).map_err(|e| self.folders.log.failed("sync", OsStr::new(HEAD), e))?;
        }
        secret.settle(&self.folders.keys)?;
        self.added.clear();
        Ok(())
    }

    /// Reads the locked head, and begins a log where it is empty.
    fn heads(&self, head: &File) -> Result<(Slot, Slot, Secret), AuditError> {
        let mut bytes = [0; 2 * SLOT];
        let mut len = 0;
        while len < bytes.len() {
            match head.read_at(&mut bytes[len..], len as u64) {
                Ok(0) => break,
                Ok(read) => len += read,
                Err(e) => return Err(call("read", &self.folders.log, HEAD, &e)),
            }
        }
        if len == 0 {
            return self.begin(head);
        }
        let changed = |what: String| AuditError::Changed {
            path: self.folders.log.path().join(HEAD),
            what,
        };
        let secret = Secret::load(&self.folders.keys)?;
        let parse = |slot: &[u8], name: &str| {
            let slot = Slot::parse(slot).map_err(|e| changed(format!("the {name}: {e}")))?;
            match slot.is_sealed(&secret) {
                true => Ok(slot),
                false => Err(changed(format!(
                    "the {name} was not written with the key in {}",
                    self.folders.keys.path().display()
                ))),
            }
        };
        let (first, second) = bytes.split_at(SLOT);
        let slots = (parse(first, "commitment")?, parse(second, "intent")?);
        Ok((slots.0, slots.1, secret))
    }

    fn begin(&self, head: &File) -> Result<(Slot, Slot, Secret), AuditError> {
        if let Some(number) = self.folders.numbers()?.into_iter().min() {
            return Err(AuditError::Changed {
                path: self.folders.log.path().join(HEAD),
                what: format!(
                    "it is gone or empty, and {} is there",
                    crate::log_name(number)
                ),
            });
        }
        let secret = Secret::begin(&self.folders.keys, &self.folders.log)?;
        let mut name = [0; 16];
        random(&mut name)?;
        let start = Head::new(&hex(&name), Place::START, 0, Place::START);
        let slot = Slot::sign(start, &secret)?;
        let both = [slot.bytes(), slot.bytes()].concat();
        head.write_all_at(&both, 0)
            .map_err(|e| call("write", &self.folders.log, HEAD, &e))?;
        Ok((slot.clone(), slot, secret))
    }

    /// Makes the lines, and decides in which file they go.
    fn compose(
        &self,
        position: Position,
        secret: &Secret,
        log: &str,
    ) -> Result<(Position, Chain), AuditError> {
        let chain = self.lines(&position, secret, log)?;
        let grown = position.size + chain.bytes.len() as u64;
        let full = position.size > 0 && grown > self.settings.file_bytes;
        // What must be told of a file is told in that file.
        if !full || position.tell.is_some() || position.unopened {
            return Ok((position, chain));
        }
        let position = Position {
            file: position.file + 1,
            size: 0,
            unopened: true,
            ..position
        };
        let chain = self.lines(&position, secret, log)?;
        Ok((position, chain))
    }

    fn lines(&self, position: &Position, secret: &Secret, log: &str) -> Result<Chain, AuditError> {
        let mut chain = Chain::after(position.from.seq, position.from.hash);
        if position.torn {
            chain.bytes.push(b'\n');
        }
        let now = Stamp::now();
        if let Some(event) = &position.tell {
            chain.add(now, Context::default(), event)?;
        }
        if position.unopened {
            let open = Event::Open(Open {
                version: VERSION,
                log: log.to_owned(),
                file: position.file,
                key: secret.public().to_string(),
                follows: (position.from.file > 0).then_some(position.from),
                casemate: env!("CARGO_PKG_VERSION").to_owned(),
            });
            chain.add(now, Context::default(), &open)?;
        }
        let context = Context {
            who: Some(&self.who),
            policy: self.policy,
            binaries: self.binaries,
        };
        for (stamp, event) in &self.added {
            chain.add(*stamp, context, event)?;
        }
        Ok(chain)
    }

    fn append(&self, position: &Position, bytes: &[u8]) -> Result<(), AuditError> {
        let LogFile { name, mut file } = self.open_at(position)?;
        file.write_all(bytes)
            .map_err(|e| call("append to", &self.folders.log, &name, &e))?;
        if self.settings.sync {
            let failed = |e| self.folders.log.failed("sync", OsStr::new(&name), e);
            fdatasync(&file).map_err(failed)?;
            if position.size == 0 {
                fsync(self.folders.log.as_fd()).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Opens the file to append to, which must still have the size it was found with.
    fn open_at(&self, position: &Position) -> Result<LogFile, AuditError> {
        let log = self.folders.append(position.file, position.size == 0)?;
        let size = log
            .size()
            .map_err(|e| self.folders.log.failed("stat", OsStr::new(&log.name), e))?;
        if size != position.size {
            return Err(AuditError::Changed {
                path: self.folders.log.path().join(&log.name),
                what: "somebody else writes to it at this moment".to_owned(),
            });
        }
        if size == 0 {
            log.make_append_only();
        }
        Ok(log)
    }

    /// Undoes an append that failed midway. An append-only file cannot be cut.
    fn cut_back(&self, position: &Position) -> bool {
        match self.folders.append(position.file, false) {
            Ok(log) => log.size() == Ok(position.size) || log.file.set_len(position.size).is_ok(),
            // It could not even be made.
            Err(AuditError::Dir(e)) => position.size == 0 && e.is_missing(),
            Err(_) => false,
        }
    }

    fn write_slot(&self, head: &File, number: u64, slot: &Slot) -> Result<(), AuditError> {
        head.write_all_at(&slot.bytes(), number * SLOT as u64)
            .map_err(|e| call("write", &self.folders.log, HEAD, &e))
    }
}

/// The number of the file in which the log ends, by a head that is not checked.
fn file_number(head: &File) -> Option<u64> {
    let mut slot = [0; SLOT];
    head.read_exact_at(&mut slot, 0).ok()?;
    Some(Slot::parse(&slot).ok()?.head.to.file)
}

#[cfg(test)]
#[path = "recorder_test.rs"]
mod tests;
