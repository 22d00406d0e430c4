//! Reads Debian packages of kernels (deb(5)): an `ar` archive with `data.tar.*` in it.
//!
//! Only what a guest can need is written out, as plain files in folders made
//! here: no link, owner, mode or absolute path of the package has any effect.

use crate::decompress::{Compression, DecompressError, reader};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use thiserror::Error;

/// Most that is read of a package's content, in bytes.
const MAX_CONTENT: u64 = 4 << 30;
/// Largest file that is written, in bytes.
const MAX_FILE: u64 = 256 << 20;
/// Most files that are written.
const MAX_FILES: usize = 20_000;
/// Longest name of a file, in bytes (`PATH_MAX`).
const MAX_NAME: u64 = 4096;
/// Of `lib/modules/*/kernel/drivers`, what a guest can need; the rest is most of a package.
const DRIVERS: [&str; 3] = ["block", "char", "virtio"];

/// Why a package was refused. The caller names the file.
#[derive(Debug, Error)]
pub enum DebError {
    /// No `ar` archive with `debian-binary` first.
    #[error("not a Debian package")]
    NotDeb,
    /// No `data.tar.*`.
    #[error("a Debian package without content (data.tar)")]
    NoData,
    /// The content's compression.
    #[error("content of the package: {0}")]
    Decompress(#[from] DecompressError),
    /// The archive is damaged or cannot be read.
    #[error("content of the package: {0}")]
    Read(#[source] io::Error),
    /// It has more or larger files than any kernel.
    #[error("the package holds more than a kernel does ({0})")]
    TooLarge(&'static str),
    /// A file cannot be written.
    #[error("{path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// No `boot/vmlinuz-*` in it.
    #[error(
        "no kernel in the package (boot/vmlinuz-*): give the package linux-image-VERSION itself, not the one that depends on it"
    )]
    NoKernel,
    /// More than one kernel.
    #[error("more than one kernel in the package: {0} and {1}")]
    TwoKernels(String, String),
}

/// What a package had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelFiles {
    /// The release: what follows `vmlinuz-`.
    pub release: String,
    /// `boot/vmlinuz-RELEASE`.
    pub kernel: PathBuf,
    /// `boot/config-RELEASE`.
    pub config: Option<PathBuf>,
    /// `lib/modules/RELEASE`.
    pub modules: Option<PathBuf>,
}

/// Writes a package's kernel, configuration and modules below `folder`, which
/// must be empty and the caller's own.
pub fn extract(package: File, folder: &Path) -> Result<KernelFiles, DebError> {
    let mut archive = ar::Archive::new(BufReader::new(package));
    match archive.next_entry() {
        Some(Ok(first)) if first.header().identifier() == b"debian-binary" => {}
        _ => return Err(DebError::NotDeb),
    }
    while let Some(member) = archive.next_entry() {
        let member = member.map_err(DebError::Read)?;
        let name = String::from_utf8_lossy(member.header().identifier()).into_owned();
        let Some(packed) = name.strip_prefix("data.tar") else {
            continue;
        };
        let member = BufReader::with_capacity(1 << 16, member);
        let content: Box<dyn Read> = match packed {
            "" => Box::new(member),
            ".gz" => reader(Compression::Gzip, member)?,
            ".xz" => reader(Compression::Xz, member)?,
            ".zst" => reader(Compression::Zstd, member)?,
            ".bz2" => return Err(DecompressError::Unsupported("bzip2").into()),
            ".lzma" => return Err(DecompressError::Unsupported("lzma").into()),
            _ => return Err(DecompressError::Unknown.into()),
        };
        extract_tar(content, folder)?;
        return find(folder);
    }
    Err(DebError::NoData)
}

fn extract_tar(content: Box<dyn Read + '_>, folder: &Path) -> Result<(), DebError> {
    let mut tar = tar::Archive::new(content.take(MAX_CONTENT));
    let mut files = 0;
    let mut long_name = None;
    // Raw: else a name of gigabytes would be read into memory before we see its size.
    for entry in tar.entries().map_err(DebError::Read)?.raw(true) {
        let mut entry = entry.map_err(DebError::Read)?;
        if entry.header().entry_type().is_gnu_longname() {
            long_name = Some(read_name(&mut entry)?);
            continue;
        }
        if entry.header().entry_type().is_gnu_longlink() {
            continue;
        }
        let long_name = long_name.take();
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = match long_name {
            Some(name) => name,
            None => entry.path().map_err(DebError::Read)?.into_owned(),
        };
        let Some(path) = wanted(&path) else {
            continue;
        };
        files += 1;
        if files > MAX_FILES {
            return Err(DebError::TooLarge("files"));
        }
        if entry.size() > MAX_FILE {
            return Err(DebError::TooLarge("a file's size"));
        }
        write(&mut entry, &folder.join(path))?;
    }
    Ok(())
}

/// The name that a GNU long-name entry gives to the next one: its content, up to a NUL.
fn read_name(entry: &mut impl Read) -> Result<PathBuf, DebError> {
    let mut name = Vec::new();
    entry
        .take(MAX_NAME + 1)
        .read_to_end(&mut name)
        .map_err(DebError::Read)?;
    if name.len() as u64 > MAX_NAME {
        return Err(DebError::TooLarge("a name's length"));
    }
    let len = name.iter().position(|&b| b == 0).unwrap_or(name.len());
    name.truncate(len);
    Ok(OsString::from_vec(name).into())
}

fn write(from: &mut impl Read, path: &Path) -> Result<(), DebError> {
    let error = |source| DebError::Write {
        path: path.to_owned(),
        source,
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(error)?;
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(error)?;
    io::copy(from, &mut file).map_err(error)?;
    Ok(())
}

/// Where a file of the package goes, where it is of use: `boot/…` or `lib/modules/…`.
fn wanted(path: &Path) -> Option<PathBuf> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(part) => parts.push(part.to_str()?),
            _ => return None,
        }
    }
    // Distributions with a merged /usr.
    if parts.first() == Some(&"usr") {
        parts.remove(0);
    }
    let useful = match parts.as_slice() {
        ["boot", file] => file.starts_with("vmlinuz-") || file.starts_with("config-"),
        ["lib", "modules", _, file] => file.starts_with("modules."),
        ["lib", "modules", _, "kernel", "drivers", driver, ..] => DRIVERS.contains(driver),
        ["lib", "modules", _, "kernel", "sound", ..] => false,
        ["lib", "modules", _, "kernel", ..] => true,
        _ => false,
    };
    useful.then(|| parts.iter().collect())
}

/// Finds the one kernel in `folder/boot`, and what belongs to it.
pub fn find(folder: &Path) -> Result<KernelFiles, DebError> {
    let boot = folder.join("boot");
    let mut releases = Vec::new();
    if let Ok(entries) = fs::read_dir(&boot) {
        for entry in entries {
            let name = entry.map_err(DebError::Read)?.file_name();
            let name = name.to_string_lossy();
            releases.extend(name.strip_prefix("vmlinuz-").map(str::to_owned));
        }
    }
    releases.sort();
    let release = match releases.as_slice() {
        [] => return Err(DebError::NoKernel),
        [one] => one.clone(),
        [one, two, ..] => return Err(DebError::TwoKernels(one.clone(), two.clone())),
    };
    let config = boot.join(format!("config-{release}"));
    let modules = folder.join("lib/modules").join(&release);
    Ok(KernelFiles {
        kernel: boot.join(format!("vmlinuz-{release}")),
        config: config.is_file().then_some(config),
        modules: modules.is_dir().then_some(modules),
        release,
    })
}

#[cfg(test)]
#[path = "deb_test.rs"]
mod tests;
