//! The guest's kernel and initramfs: from a file, from an imported bundle, or
//! the default.

pub mod inspect;

use super::open::{self, OpenError};
use crate::kernels::{Store, StoreError, make_folder, stock};
use casemate_guest_image::bundle::{Bundle, digest};
use casemate_guest_image::bzimage::BzImageError;
use casemate_guest_image::decompress::DecompressError;
use casemate_guest_image::modules::ModuleSet;
use casemate_guest_image::{initramfs, kernel as image};
use casemate_proto::report::Artifact;
use inspect::{Format, KernelError};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why there is no kernel.
#[derive(Debug, Error)]
pub enum ResolveError {
    /// The file cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It is no kernel.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// It does not unpack.
    #[error("kernel {path}: {source}; copy it anew, or give an uncompressed vmlinux", path = path.display())]
    Unpack {
        /// Where.
        path: PathBuf,
        /// Why.
        source: image::KernelError,
    },
    /// The imported kernels.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stock kernel.
    #[error(transparent)]
    Stock(#[from] stock::StockError),
    /// A file of ours.
    #[error("{what}: {source}; check that there is room for it")]
    File {
        /// What was being done.
        what: String,
        /// Why.
        source: io::Error,
    },
}

/// A kernel that was chosen and looked at.
#[derive(Debug)]
pub struct Chosen {
    file: File,
    len: u64,
    format: Format,
    bundle: Option<Bundle>,
    /// For the report.
    pub artifact: Artifact,
    path: PathBuf,
}

/// A kernel, ready to be booted.
#[derive(Debug)]
pub struct Kernel {
    /// The image.
    pub file: File,
    /// The initramfs.
    pub initrd: File,
    /// Its length in bytes.
    pub initrd_len: u64,
    /// Guest memory the kernel takes, in bytes.
    pub needs: u64,
    /// Path or name as given.
    pub name: String,
}

/// Finds what was named, a file first and then an imported kernel, and refuses
/// what cannot boot. `None`: nothing was named and nothing was imported yet.
pub fn choose(choice: Option<&OsStr>, state_dir: &Path) -> Result<Option<Chosen>, ResolveError> {
    let store = Store::new(state_dir);
    let Some(name) = choice else {
        return match store.default_name() {
            Some(name) => bundle(&name, store.open(OsStr::new(&name))?).map(Some),
            None => Ok(None),
        };
    };
    let path = Path::new(name);
    let is_path = path.components().count() > 1 || path.is_absolute() || path.exists();
    if is_path {
        return at(path, None, path.display().to_string()).map(Some);
    }
    bundle(&name.to_string_lossy(), store.open(name)?).map(Some)
}

/// The stock kernel, fetched now.
pub fn fetch(state_dir: &Path, init: &[u8]) -> Result<Chosen, ResolveError> {
    let fetched = stock::fetch(state_dir, init)?;
    bundle(&fetched.description.name.clone(), fetched)
}

fn bundle(name: &str, bundle: Bundle) -> Result<Chosen, ResolveError> {
    at(&bundle.vmlinux(), Some(bundle), name.to_owned())
}

fn at(path: &Path, bundle: Option<Bundle>, name: String) -> Result<Chosen, ResolveError> {
    let (file, len) = open::regular("kernel", path)?;
    let format = inspect::inspect(path, &file, len)?;
    Ok(Chosen {
        file,
        len,
        format,
        bundle,
        artifact: Artifact {
            name,
            format: format.name().to_owned(),
        },
        path: path.to_owned(),
    })
}

impl Chosen {
    /// Guest memory the kernel takes, in bytes.
    pub fn needs(&self) -> u64 {
        self.format.needs()
    }

    /// Whether it mounts roots of this format, by its name. A file without
    /// modules is not known to.
    pub fn mounts(&self, format: &str) -> bool {
        self.bundle.as_ref().is_none_or(|bundle| {
            let known = &bundle.description.rootfs;
            known.iter().any(|one| one.name() == format)
        })
    }

    /// Unpacks it where it needs that, and gives it the initramfs with `init`.
    pub fn ready(self, init: &[u8], state_dir: &Path) -> Result<Kernel, ResolveError> {
        let (initrd, initrd_len) = self.initramfs(init).map_err(|source| ResolveError::File {
            what: "the initramfs".to_owned(),
            source,
        })?;
        let (file, format) = match self.format {
            Format::Elf { .. } => (self.file, self.format),
            Format::BzImage { .. } => unpacked(&self, state_dir)?,
        };
        Ok(Kernel {
            file,
            initrd,
            initrd_len,
            needs: format.needs(),
            name: self.artifact.name,
        })
    }

    /// A bundle's initramfs has the modules, and the init of when it was made:
    /// where ours is another, it is put behind, and the later of two files counts
    /// (Documentation/driver-api/early-userspace/buffer-format.rst).
    fn initramfs(&self, init: &[u8]) -> io::Result<(File, u64)> {
        let mut bytes = Vec::new();
        if let Some(bundle) = &self.bundle {
            let mut file = File::open(bundle.initramfs())?;
            if bundle.has_init(init) {
                let len = file.metadata()?.len();
                return Ok((file, len));
            }
            file.read_to_end(&mut bytes)?;
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes.extend(initramfs::build(init, &ModuleSet::none()));
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let mut file = File::from(memfd_create(c"initramfs", flags)?);
        file.write_all(&bytes)?;
        fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::all()))?;
        // The jailer takes it only read-only, which this fd is not.
        let file = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        Ok((file, bytes.len() as u64))
    }
}

/// The ELF image in a bzImage, kept under the bzImage's digest. A compression
/// that we do not know is left to the kernel's own unpacking in the guest.
fn unpacked(chosen: &Chosen, state_dir: &Path) -> Result<(File, Format), ResolveError> {
    let failed = |what: &Path| {
        let what = what.display().to_string();
        |source| ResolveError::File { what, source }
    };
    let mut packed = Vec::with_capacity(chosen.len as usize);
    (&chosen.file)
        .take(chosen.len)
        .read_to_end(&mut packed)
        .map_err(failed(&chosen.path))?;
    (&chosen.file).rewind().map_err(failed(&chosen.path))?;
    let folder = state_dir.join("unpacked");
    let path = folder.join(format!("{}.vmlinux", digest(&packed)));
    if !path.is_file() {
        let elf = match image::vmlinux(&packed) {
            Ok(elf) => elf,
            Err(image::KernelError::BzImage(BzImageError::Payload(
                DecompressError::Unsupported(_) | DecompressError::Unknown,
            ))) => {
                let file = chosen.file.try_clone().map_err(failed(&chosen.path))?;
                return Ok((file, chosen.format));
            }
            Err(source) => {
                return Err(ResolveError::Unpack {
                    path: chosen.path.clone(),
                    source,
                });
            }
        };
        make_folder(&folder)?;
        let mut new = tempfile::NamedTempFile::new_in(&folder).map_err(failed(&folder))?;
        new.write_all(&elf).map_err(failed(&folder))?;
        new.persist(&path).map_err(|e| failed(&path)(e.error))?;
    }
    let (file, len) = open::regular("unpacked kernel", &path)?;
    match inspect::inspect(&path, &file, len) {
        Ok(format) => Ok((file, format)),
        Err(e) => {
            // Damaged since: the next run makes it anew.
            let _ = fs::remove_file(&path);
            Err(e.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_are_told_apart() {
        let state = tempfile::tempdir().unwrap();
        assert!(choose(None, state.path()).unwrap().is_none());
        for (name, words) in [
            ("no-such-kernel", "no kernel is called"),
            ("./no-such-file", "there is no such file"),
            ("/no/such/file", "there is no such file"),
            ("default", "no kernel is called"),
        ] {
            let error = choose(Some(OsStr::new(name)), state.path()).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
    }
}
