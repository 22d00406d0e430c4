//! Reading the log to know what happened. Nothing is verified here.

use crate::line::Entry;
use crate::{MAX_LINE, log_name, log_number};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What to show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only lines of this tenant's.
    pub tenant: Option<String>,
    /// Only lines of cells of this name.
    pub id: Option<String>,
    /// Only lines from this time on, as the log writes it: RFC 3339 with microseconds.
    pub since: Option<String>,
}

impl Filter {
    /// Whether a line is one of those asked for.
    pub fn takes(&self, entry: &Entry) -> bool {
        let is = |asked: &Option<String>, found: &Option<String>| asked.is_none() || asked == found;
        is(&self.tenant, &entry.tenant)
            && is(&self.id, &entry.id)
            // Both are of one length and in UTC: their order is that of time.
            && self.since.as_ref().is_none_or(|since| entry.time >= *since)
    }
}

/// Reads a log from its first file on, and goes on where it stopped when there is more.
#[derive(Debug)]
pub struct Follow {
    folder: PathBuf,
    number: u64,
    file: Option<File>,
    at: u64,
    rest: Vec<u8>,
    /// The line that is being read is longer than any line of ours.
    skip: bool,
}

impl Follow {
    /// Begins with the first file that is there.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn of(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            folder: folder.to_owned(),
            number: first_from(folder, 0)?.unwrap_or(1),
            file: None,
            at: 0,
            rest: Vec::new(),
            skip: false,
        })
    }

    /// Hands over each whole line that is there and was not yet. Returns how many bytes
    /// were read.
    ///
    /// # Errors
    /// Where a file cannot be read, and `take`'s own.
    pub fn more(&mut self, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
        let mut total = 0;
        let mut part = vec![0; 64 << 10];
        loop {
            if self.file.is_none() {
                self.file = open(&self.folder.join(log_name(self.number)))?;
            }
            let read = match &self.file {
                Some(file) => file.read_at(&mut part, self.at)?,
                None => 0,
            };
            if read == 0 {
                // The last lines of a file are there before the next file is.
                match first_from(&self.folder, self.number + 1)? {
                    Some(next) if self.is_at_end()? => self.begin(next),
                    Some(_) => {}
                    None => return Ok(total),
                }
                continue;
            }
            self.at += read as u64;
            total += read as u64;
            self.split(&part[..read], &mut take)?;
        }
    }

    fn split(
        &mut self,
        mut part: &[u8],
        take: &mut impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        while let Some(end) = part.iter().position(|&byte| byte == b'\n') {
            self.rest.extend_from_slice(&part[..end]);
            part = &part[end + 1..];
            if !self.skip {
                take(&self.rest)?;
            }
            self.rest.clear();
            self.skip = false;
        }
        self.rest.extend_from_slice(part);
        if self.rest.len() > MAX_LINE {
            self.rest.clear();
            self.skip = true;
        }
        Ok(())
    }

    fn begin(&mut self, number: u64) {
        self.number = number;
        self.file = None;
        self.at = 0;
        self.rest.clear();
        self.skip = false;
    }

    fn is_at_end(&self) -> io::Result<bool> {
        match &self.file {
            Some(file) => Ok(file.metadata()?.len() <= self.at),
            None => Ok(true),
        }
    }
}

/// The least number of a file that is there, from `least` on.
fn first_from(folder: &Path, least: u64) -> io::Result<Option<u64>> {
    let mut first = None;
    for entry in folder.read_dir()? {
        let number = log_number(&entry?.file_name().to_string_lossy());
        let number = number.filter(|&number| number >= least);
        first = match (first, number) {
            (Some(a), Some(b)) => Some(u64::min(a, b)),
            (a, b) => a.or(b),
        };
    }
    Ok(first)
}

fn open(path: &Path) -> io::Result<Option<File>> {
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(nonblock)
        .open(path);
    match opened {
        Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
        Ok(_) => Err(io::Error::other("it is no regular file")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
