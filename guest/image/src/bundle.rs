//! A kernel made ready: a folder with what `run` needs of it.
//!
//! ```text
//! NAME/
//!   vmlinux          ELF, uncompressed
//!   initramfs.cpio   our init, and modules where the kernel has any
//!   bundle.json      what it was made from
//! ```
//! The folder appears whole or not at all.

use crate::bzimage::MAX_FILE;
use crate::initramfs;
use crate::kernel::{self, KernelError};
use crate::modules::{ModuleSet, ModulesError, collect};
use crate::rootfs::RootfsFormat;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Version of `bundle.json`; others are made anew.
const SCHEMA: u32 = 1;
const VMLINUX: &str = "vmlinux";
const INITRAMFS: &str = "initramfs.cpio";
const DESCRIPTION: &str = "bundle.json";

/// Why a bundle could not be made or read.
#[derive(Debug, Error)]
pub enum BundleError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Where.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The kernel is unusable.
    #[error("kernel {path}: {source}")]
    Kernel {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KernelError,
    },
    /// No `Linux version` in it.
    #[error("kernel {path}: no Linux kernel (no version banner in it)")]
    NotLinux {
        /// The file.
        path: PathBuf,
    },
    /// The modules are unusable.
    #[error(transparent)]
    Modules(#[from] ModulesError),
    /// `bundle.json` is of another version or damaged.
    #[error("{path}: {reason}; import the kernel anew")]
    Description {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> BundleError {
    let path = path.to_owned();
    |source| BundleError::File { path, source }
}

/// What a bundle is made from.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Name to show.
    pub name: &'a str,
    /// ELF vmlinux or bzImage.
    pub kernel: &'a Path,
    /// `/lib/modules/RELEASE`; none where everything needed is built in.
    pub modules: Option<&'a Path>,
    /// The bytes of `casemate-init`.
    pub init: &'a [u8],
}

/// `bundle.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// [`SCHEMA`].
    schema: u32,
    /// Name to show.
    pub name: String,
    /// The kernel's release, as `uname -r` says it.
    pub release: String,
    /// BLAKE3 of the kernel file as it was given, in hexadecimal.
    pub source_digest: String,
    /// Whether it was given as `elf` or `bzimage`.
    pub source_format: SourceFormat,
    /// BLAKE3 of the init, in hexadecimal.
    pub init_digest: String,
    /// Modules by group, in load order.
    pub modules: BTreeMap<String, Vec<String>>,
    /// Root formats that it can mount.
    pub rootfs: Vec<RootfsFormat>,
}

/// The form of the kernel file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceFormat {
    /// An uncompressed vmlinux.
    Elf,
    /// A bzImage.
    BzImage,
}

/// A bundle on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    folder: PathBuf,
    /// What it is.
    pub description: Description,
}

impl Bundle {
    /// The uncompressed kernel.
    pub fn vmlinux(&self) -> PathBuf {
        self.folder.join(VMLINUX)
    }

    /// The initramfs.
    pub fn initramfs(&self) -> PathBuf {
        self.folder.join(INITRAMFS)
    }

    /// The bundle's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether its initramfs has this init.
    pub fn has_init(&self, init: &[u8]) -> bool {
        self.description.init_digest == digest(init)
    }

    /// Opens a bundle that [`Self::create`] wrote.
    pub fn open(folder: &Path) -> Result<Self, BundleError> {
        let path = folder.join(DESCRIPTION);
        let text = fs::read(&path).map_err(file_error(&path))?;
        let wrong = |reason| BundleError::Description {
            path: path.clone(),
            reason,
        };
        let description: Description =
            serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
        if description.schema != SCHEMA {
            return Err(wrong(format!(
                "version {} where {SCHEMA} is known",
                description.schema
            )));
        }
        let bundle = Self {
            folder: folder.to_owned(),
            description,
        };
        for path in [bundle.vmlinux(), bundle.initramfs()] {
            fs::metadata(&path).map_err(file_error(&path))?;
        }
        Ok(bundle)
    }

    /// Makes a bundle in `folder`, replacing one that is there.
    pub fn create(folder: &Path, source: Source) -> Result<Self, BundleError> {
        let file = read_kernel(source.kernel).map_err(file_error(source.kernel))?;
        let vmlinux = kernel::vmlinux(&file).map_err(|e| BundleError::Kernel {
            path: source.kernel.to_owned(),
            source: e,
        })?;
        let release = release(&vmlinux).ok_or_else(|| BundleError::NotLinux {
            path: source.kernel.to_owned(),
        })?;
        let modules = match source.modules {
            Some(tree) => collect(tree, &release)?,
            None => ModuleSet::none(),
        };
        let description = Description {
            schema: SCHEMA,
            name: source.name.to_owned(),
            release,
            source_digest: digest(&file),
            source_format: if kernel::is_elf(&file) {
                SourceFormat::Elf
            } else {
                SourceFormat::BzImage
            },
            init_digest: digest(source.init),
            modules: modules.groups.iter().cloned().collect(),
            rootfs: modules.formats.clone(),
        };
        let parent = folder.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(file_error(parent))?;
        let staging = tempfile::Builder::new()
            .prefix(".bundle-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in(parent)
            .map_err(file_error(parent))?;
        let text =
            serde_json::to_vec_pretty(&description).map_err(|e| BundleError::Description {
                path: folder.join(DESCRIPTION),
                reason: e.to_string(),
            })?;
        let initramfs = initramfs::build(source.init, &modules);
        for (name, content) in [
            (VMLINUX, &*vmlinux),
            (INITRAMFS, &initramfs),
            (DESCRIPTION, &text),
        ] {
            let path = staging.path().join(name);
            write_synced(&path, content).map_err(file_error(&path))?;
        }
        install(staging, folder).map_err(file_error(folder))?;
        Self::open(folder)
    }
}

/// Reads a kernel file. What is longer than any kernel is refused, and not held in memory.
fn read_kernel(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_FILE {
        true => Err(io::Error::other(format!(
            "longer than {MAX_FILE} bytes, which no kernel is"
        ))),
        false => Ok(bytes),
    }
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Puts the staged folder at its place; what was there goes.
fn install(staging: tempfile::TempDir, folder: &Path) -> io::Result<()> {
    let rename = |flags| renameat2(AT_FDCWD, staging.path(), AT_FDCWD, folder, flags);
    match rename(RenameFlags::RENAME_NOREPLACE) {
        Ok(()) => {
            // Its name is gone; there is nothing to remove.
            let _ = staging.keep();
            Ok(())
        }
        // The old one comes to stand in the staging folder, and is removed with it.
        Err(Errno::EEXIST) => Ok(rename(RenameFlags::RENAME_EXCHANGE)?),
        Err(errno) => Err(errno.into()),
    }
}

/// BLAKE3 in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// The release in a kernel's banner: `Linux version RELEASE (`.
fn release(vmlinux: &[u8]) -> Option<String> {
    const BANNER: &[u8] = b"Linux version ";
    memchr::memmem::find_iter(vmlinux, BANNER).find_map(|at| {
        let rest = &vmlinux[at + BANNER.len()..];
        let len = rest.iter().take(65).position(|b| !b.is_ascii_graphic())?;
        // Another string may begin alike; a release begins with a digit.
        (rest[0].is_ascii_digit() && rest[len] == b' ')
            .then(|| String::from_utf8_lossy(&rest[..len]).into_owned())
    })
}

#[cfg(test)]
#[path = "bundle_test.rs"]
mod tests;
