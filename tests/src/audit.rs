//! An audit log of a test's own.

use casemate_audit::verify::{Evidence, Options, Verdict, verify};
use casemate_audit::{PUBLIC, key_folder};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A log, and its key, in a folder that goes when this is dropped.
#[derive(Debug)]
pub struct AuditLog(TempDir);

impl Default for AuditLog {
    fn default() -> Self {
        Self::new()
    }
}

impl AuditLog {
    /// Nothing yet.
    ///
    /// # Panics
    /// Where no folder can be made.
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    /// For `--audit-dir`.
    pub fn folder(&self) -> PathBuf {
        self.0.path().join("audit")
    }

    /// What the verifier says.
    ///
    /// # Panics
    /// Where there is no log.
    pub fn verdict(&self) -> Verdict {
        let key = fs::read_to_string(key_folder(&self.folder()).join(PUBLIC)).expect("a key");
        let evidence = Evidence::of_folder(&self.folder()).expect("a log");
        let key = key.parse().expect("a key");
        verify(evidence, &key, &Options::default()).expect("readable")
    }

    /// Every line, as JSON.
    ///
    /// # Panics
    /// Where there is no log, or a line of it is no JSON.
    pub fn lines(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.folder().join(casemate_audit::log_name(1)));
        let text = text.expect("the first file");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    /// The names of its events, in order.
    ///
    /// # Panics
    /// As [`Self::lines`].
    pub fn events(&self) -> Vec<String> {
        let name = |line: &serde_json::Value| line["event"].as_str().unwrap_or("").to_owned();
        self.lines().iter().map(name).collect()
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        unlock(self.0.path());
    }
}

/// Takes the append-only attribute off everything below a folder, so that it can be removed.
pub fn unlock(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => unlock(&entry.path()),
            Ok(kind) if kind.is_file() => {
                if let Ok(file) = File::open(entry.path())
                    && let Ok(flags) = ioctl_getflags(&file)
                    && flags.contains(IFlags::APPEND)
                {
                    let _ = ioctl_setflags(&file, flags - IFlags::APPEND);
                }
            }
            // Neither through a link nor into a FIFO.
            _ => {}
        }
    }
}
