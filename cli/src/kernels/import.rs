//! From a package, or from `/boot` and `/lib/modules`, to a bundle.

use super::{Store, StoreError, make_folder};
use crate::run::open::{self, OpenError};
use casemate_guest_image::bundle::{Bundle, BundleError, Source};
use casemate_guest_image::deb::{self, DebError};
use std::fs;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a kernel was not imported.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The package cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The package is no use.
    #[error("package {path}: {source}; give a linux-image-*.deb", path = path.display())]
    Deb {
        /// Where.
        path: PathBuf,
        /// Why.
        source: DebError,
    },
    /// No kernel with modules.
    #[error("no kernel in {boot} has its modules in {modules}: give the folders of one installation, as in /boot and /lib/modules", boot = boot.display(), modules = modules.display())]
    NoPair {
        /// `--boot`.
        boot: PathBuf,
        /// `--modules`.
        modules: PathBuf,
    },
    /// More than one.
    #[error("{boot} has {found}: name one with --modules {modules}/RELEASE", boot = boot.display(), modules = modules.display(), found = .releases.join(", "))]
    Many {
        /// `--boot`.
        boot: PathBuf,
        /// `--modules`.
        modules: PathBuf,
        /// The releases there are.
        releases: Vec<String>,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// Imports a Debian kernel package. `name` is the kernel's release where none is given.
pub fn package(
    state_dir: &Path,
    path: &Path,
    name: Option<&str>,
    init: &[u8],
) -> Result<Bundle, ImportError> {
    let (file, _) = open::regular("package", path)?;
    make_folder(state_dir)?;
    let folder = tempfile::Builder::new()
        .prefix(".import-")
        .tempdir_in(state_dir)
        .map_err(|source| StoreError::State {
            path: state_dir.to_owned(),
            source,
        })?;
    let files = deb::extract(file, folder.path()).map_err(|source| ImportError::Deb {
        path: path.to_owned(),
        source,
    })?;
    create(
        state_dir,
        name.unwrap_or(&files.release),
        &files.kernel,
        files.modules.as_deref(),
        init,
    )
}

/// Imports an installed kernel: `boot` is a vmlinuz or a folder of them, `modules`
/// the folder of its modules or the folder of all modules.
pub fn installed(
    state_dir: &Path,
    boot: &Path,
    modules: &Path,
    name: Option<&str>,
    init: &[u8],
) -> Result<Bundle, ImportError> {
    let (release, kernel, modules) = pair(boot, modules)?;
    create(
        state_dir,
        name.unwrap_or(&release),
        &kernel,
        Some(&modules),
        init,
    )
}

fn create(
    state_dir: &Path,
    name: &str,
    kernel: &Path,
    modules: Option<&Path>,
    init: &[u8],
) -> Result<Bundle, ImportError> {
    let folder = Store::new(state_dir).place(name)?;
    let source = Source {
        name,
        kernel,
        modules,
        init,
    };
    Ok(Bundle::create(&folder, source)?)
}

/// The one kernel and its modules: release, kernel, modules.
fn pair(boot: &Path, modules: &Path) -> Result<(String, PathBuf, PathBuf), ImportError> {
    // A package's tree has no modules.dep before it is installed.
    let is_one = ["modules.dep", "modules.builtin"]
        .iter()
        .any(|file| modules.join(file).is_file());
    let mut found = Vec::new();
    for kernel in kernels(boot) {
        let Some(release) = release(&kernel) else {
            continue;
        };
        let own = match is_one {
            true => modules.to_owned(),
            false => modules.join(&release),
        };
        let fits = match is_one {
            true => modules.file_name().is_none_or(|name| *name == *release),
            false => own.is_dir(),
        };
        if fits || (is_one && boot.is_file()) {
            found.push((release, kernel, own));
        }
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(ImportError::NoPair {
            boot: boot.to_owned(),
            modules: modules.to_owned(),
        }),
        _ => Err(ImportError::Many {
            boot: boot.to_owned(),
            modules: modules.to_owned(),
            releases: found.into_iter().map(|one| one.0).collect(),
        }),
    }
}

/// `boot` itself, or every `vmlinuz-RELEASE` in it.
fn kernels(boot: &Path) -> Vec<PathBuf> {
    if !boot.is_dir() {
        return vec![boot.to_owned()];
    }
    let mut all: Vec<PathBuf> = fs::read_dir(boot)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| release(path).is_some() && path.is_file())
        .collect();
    all.sort();
    all
}

/// What follows `vmlinuz-` or `vmlinux-`.
fn release(kernel: &Path) -> Option<String> {
    let name = kernel.file_name()?.to_str()?;
    let release = name
        .strip_prefix("vmlinuz-")
        .or_else(|| name.strip_prefix("vmlinux-"))?;
    Some(release.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_a_kernel_with_its_modules() {
        let root = tempfile::tempdir().unwrap();
        let (boot, modules) = (root.path().join("boot"), root.path().join("modules"));
        fs::create_dir_all(&boot).unwrap();
        for release in ["6.1", "6.12"] {
            fs::write(boot.join(format!("vmlinuz-{release}")), b"x").unwrap();
        }
        assert!(matches!(
            pair(&boot, &modules),
            Err(ImportError::NoPair { .. })
        ));
        fs::create_dir_all(modules.join("6.12")).unwrap();
        assert_eq!(pair(&boot, &modules).unwrap().0, "6.12");
        fs::create_dir_all(modules.join("6.1")).unwrap();
        let many = pair(&boot, &modules).unwrap_err().to_string();
        assert!(many.contains("6.1, 6.12"), "{many}");
        fs::write(modules.join("6.1/modules.dep"), b"").unwrap();
        let (release, kernel, own) = pair(&boot, &modules.join("6.1")).unwrap();
        assert_eq!(release, "6.1");
        assert_eq!(
            (kernel, own),
            (boot.join("vmlinuz-6.1"), modules.join("6.1"))
        );
    }
}
