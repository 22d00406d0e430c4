//! Where our other binaries are: beside this one, else in the libexec folder.

use std::path::{Path, PathBuf};
use thiserror::Error;

const LIBEXEC: &str = "/usr/libexec/casemate";

/// A binary that is nowhere.
#[derive(Debug, Error)]
#[error("{name} is neither in {beside} nor in {LIBEXEC}: install it there, or build it with cargo build --release", beside = beside.display())]
pub struct Missing {
    /// Its name.
    pub name: &'static str,
    /// Folder of this program.
    pub beside: PathBuf,
}

/// The binaries of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// `casemate-jailer`.
    pub jailer: PathBuf,
    /// `casemate-vmm`.
    pub vmm: PathBuf,
    /// `casemate-init`, the guest's first process.
    pub init: PathBuf,
}

impl Binaries {
    /// Finds all of them.
    pub fn find() -> Result<Self, Missing> {
        Ok(Self {
            jailer: find("casemate-jailer")?,
            vmm: find("casemate-vmm")?,
            init: find("casemate-init")?,
        })
    }
}

/// Finds one.
pub fn find(name: &'static str) -> Result<PathBuf, Missing> {
    let own = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    let beside = own.parent().unwrap_or(Path::new("/")).to_owned();
    let found = [&beside, Path::new(LIBEXEC)]
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    found.ok_or(Missing { name, beside })
}
