//! What is verified: the files of a log and its head, from wherever they were copied to.

use crate::event::Open;
use crate::line::{Frame, what};
use crate::verify::lines::Lines;
use crate::{HEAD, SLOT, log_number};
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Take};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// How many lines of a file are looked at to learn its number: before its `open` line there
/// can be torn ones.
const PEEK: usize = 100;

/// Why there is nothing to verify.
#[derive(Debug, Error)]
pub enum EvidenceError {
    /// A file or folder cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is no file.
    #[error("{path} is no regular file: give the files of a log and its head", path = path.display())]
    NoFile {
        /// Which.
        path: PathBuf,
    },
    /// A file does not say which one it is.
    #[error("{path} has no `open` line that tells its number, and no name that does: give files of an audit log", path = path.display())]
    NoNumber {
        /// Which.
        path: PathBuf,
    },
    /// Neither files nor head.
    #[error("{path} holds no audit log: give its folder with --dir", path = path.display())]
    NoLog {
        /// The folder.
        path: PathBuf,
    },
}

/// One file of a log.
#[derive(Debug)]
pub struct LogFile<R> {
    /// Its name, for findings.
    pub name: String,
    /// Its number in the log.
    pub number: u64,
    /// Its size in bytes.
    pub size: u64,
    /// So many bytes.
    pub content: R,
}

/// A log.
#[derive(Debug)]
pub struct Evidence<R> {
    /// Its files, in any order.
    pub files: Vec<LogFile<R>>,
    /// Its head; empty where there is none.
    pub head: Vec<u8>,
}

impl Evidence<Take<File>> {
    /// Of a folder, the log's own or a copy. Of a log that is written to, what was there at
    /// one moment: writers are held up for that long, and not for the verification.
    ///
    /// # Errors
    /// Where it cannot be read or holds no log.
    pub fn of_folder(folder: &Path) -> Result<Self, EvidenceError> {
        let head = match open(&folder.join(HEAD)) {
            Ok((head, _)) => Some(head),
            Err(EvidenceError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                None
            }
            Err(e) => return Err(e),
        };
        if let Some(head) = &head {
            // A copy may lie where nothing can be locked; nobody writes there either.
            let _ = flock(head, FlockOperation::LockShared);
        }
        let failed = |source| EvidenceError::Read {
            path: folder.to_owned(),
            source,
        };
        let mut files = Vec::new();
        for entry in folder.read_dir().map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let name = name.to_string_lossy().into_owned();
            if let Some(number) = log_number(&name) {
                let (file, size) = open(&folder.join(&name))?;
                files.push(LogFile {
                    name,
                    number,
                    size,
                    content: file.take(size),
                });
            }
        }
        let bytes = match &head {
            Some(head) => read_head(head).map_err(failed)?,
            None => Vec::new(),
        };
        match head.is_none() && files.is_empty() {
            true => Err(EvidenceError::NoLog {
                path: folder.to_owned(),
            }),
            false => Ok(Self { files, head: bytes }),
        }
    }

    /// Of single files: `head` is the one of that name, the others tell their numbers
    /// themselves.
    ///
    /// # Errors
    /// Where one cannot be read, or is none of a log.
    pub fn of_files(paths: &[PathBuf]) -> Result<Self, EvidenceError> {
        let mut evidence = Self {
            files: Vec::new(),
            head: Vec::new(),
        };
        for path in paths {
            let failed = |source| EvidenceError::Read {
                path: path.clone(),
                source,
            };
            let (file, size) = open(path)?;
            if path.file_name().is_some_and(|name| name == HEAD) {
                evidence.head = read_head(&file).map_err(failed)?;
                continue;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let told = own_number(&file).map_err(failed)?;
            let number = told
                .or_else(|| log_number(&name))
                .ok_or_else(|| EvidenceError::NoNumber { path: path.clone() })?;
            evidence.files.push(LogFile {
                name: path.display().to_string(),
                number,
                size,
                content: file.take(size),
            });
        }
        Ok(evidence)
    }
}

/// A head that was copied: both slots, or what of them is there.
fn read_head(head: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 2 * SLOT + 1];
    let mut len = 0;
    while len < bytes.len() {
        match head.read_at(&mut bytes[len..], len as u64)? {
            0 => break,
            read => len += read,
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

fn open(path: &Path) -> Result<(File, u64), EvidenceError> {
    let failed = |source| EvidenceError::Read {
        path: path.to_owned(),
        source,
    };
    // A FIFO among the copies is refused, and not waited for.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nonblock)
        .open(path)
        .map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    match meta.is_file() {
        true => Ok((file, meta.len())),
        false => Err(EvidenceError::NoFile {
            path: path.to_owned(),
        }),
    }
}

/// The number that the file's `open` line tells.
fn own_number(file: &File) -> io::Result<Option<u64>> {
    let mut lines = Lines::new(At { file, at: 0 });
    for _ in 0..PEEK {
        let Some(line) = lines.next(u64::MAX)? else {
            break;
        };
        if Frame::parse(line.bytes).is_some_and(|frame| frame.event == "open") {
            return Ok(what::<Open>(line.bytes).map(|open| open.file));
        }
    }
    Ok(None)
}

/// Reads a file without moving its offset.
struct At<'a> {
    file: &'a File,
    at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read_at(buffer, self.at)?;
        self.at += len as u64;
        Ok(len)
    }
}
