//! The kernels that are kept: imported bundles, and which one is the default.
//!
//! ```text
//! STATE/kernels/NAME/      a bundle (casemate_guest_image::bundle)
//! STATE/kernels/default    a link to the default's NAME
//! ```

pub mod apt;
pub mod command;
pub mod import;
pub mod stock;

use casemate_guest_image::bundle::{Bundle, BundleError};
use nix::unistd::geteuid;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use thiserror::Error;

const DEFAULT: &str = "default";
const LONGEST: usize = 100;

/// What can go wrong with the kept kernels.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A name that is none.
    #[error(
        "kernel name {0:?} is not taken: give 1 to {LONGEST} characters of a-z, A-Z, 0-9, '.', '_', \
         '+' and '-', not '.' or '-' first, and not `default`"
    )]
    Name(String),
    /// There is none of this name.
    #[error("no kernel is called {0:?}, and there is no such file; see `casemate kernel list`")]
    Unknown(String),
    /// A folder or file of the store.
    #[error("{path}: {source}; check the state folder (--state-dir)", path = path.display())]
    State {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could have put anything there.
    #[error("the state folder {path} can be written to by others than root: chown root and chmod go-w it, or give another --state-dir", path = path.display())]
    NotOurs {
        /// Which.
        path: PathBuf,
    },
    /// A bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// One of them, which may be damaged.
#[derive(Debug)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// What it is.
    pub bundle: Result<Bundle, BundleError>,
}

/// The kept kernels.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Those of a state folder. Nothing is made yet.
    pub fn new(state_dir: &Path) -> Self {
        Self {
            folder: state_dir.join("kernels"),
        }
    }

    /// Where a bundle of this name is or would be. Its folder is made.
    pub fn place(&self, name: &str) -> Result<PathBuf, StoreError> {
        check(name)?;
        make_folder(&self.folder)?;
        Ok(self.folder.join(name))
    }

    /// Opens one by its name.
    pub fn open(&self, name: &OsStr) -> Result<Bundle, StoreError> {
        let unknown = || StoreError::Unknown(name.to_string_lossy().into_owned());
        let name = name.to_str().ok_or_else(unknown)?;
        check(name).map_err(|_| unknown())?;
        let folder = self.folder.join(name);
        if !folder.is_dir() {
            return Err(unknown());
        }
        Ok(Bundle::open(&folder)?)
    }

    /// The default's name, if one was chosen and is there.
    pub fn default_name(&self) -> Option<String> {
        let name = fs::read_link(self.folder.join(DEFAULT)).ok()?;
        let name = name.to_str()?;
        (check(name).is_ok() && self.folder.join(name).is_dir()).then(|| name.to_owned())
    }

    /// Makes `name` the default.
    pub fn set_default(&self, name: &str) -> Result<(), StoreError> {
        check(name)?;
        let link = self.folder.join(DEFAULT);
        let new = self.folder.join(format!(".default-{}", std::process::id()));
        symlink(name, &new)
            .and_then(|()| fs::rename(&new, &link))
            .map_err(|source| StoreError::State { path: link, source })
    }

    /// All of them, by name.
    pub fn list(&self) -> Result<Vec<Kept>, StoreError> {
        let failed = |source| StoreError::State {
            path: self.folder.clone(),
            source,
        };
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(failed(e)),
        };
        let mut all = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().map_err(failed)?.is_dir() && check(&name).is_ok() {
                let bundle = Bundle::open(&entry.path());
                all.push(Kept { name, bundle });
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Removes one. A default that is removed is no default any more.
    pub fn remove(&self, name: &OsStr) -> Result<(), StoreError> {
        let unknown = || StoreError::Unknown(name.to_string_lossy().into_owned());
        let name = name.to_str().ok_or_else(unknown)?;
        check(name)?;
        let folder = self.folder.join(name);
        if !folder.is_dir() {
            return Err(unknown());
        }
        let failed = |source| StoreError::State {
            path: folder.clone(),
            source,
        };
        if self.default_name().as_deref() == Some(name) {
            fs::remove_file(self.folder.join(DEFAULT)).map_err(failed)?;
        }
        fs::remove_dir_all(&folder).map_err(failed)
    }
}

/// A folder of the state, made if need be: ours or root's, and writable by nobody else.
/// What is in it is run as root (busybox) and booted.
pub fn make_folder(path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::State {
        path: path.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed)?;
    let meta = path.metadata().map_err(failed)?;
    let ours = meta.uid() == 0 || meta.uid() == geteuid().as_raw();
    match ours && meta.mode() & 0o022 == 0 {
        true => Ok(()),
        false => Err(StoreError::NotOurs {
            path: path.to_owned(),
        }),
    }
}

fn check(name: &str) -> Result<(), StoreError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
    let good = (1..=LONGEST).contains(&name.len())
        && name.bytes().all(plain)
        && !name.starts_with(['.', '-'])
        && name != DEFAULT;
    if good {
        Ok(())
    } else {
        Err(StoreError::Name(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_safe_path_component() {
        for good in [
            "6.1.0-56-cloud-amd64",
            "lean",
            "a_b",
            "6.12.117+deb12-cloud-amd64",
        ] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "-x", ".x", "default", "é", "a b"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(check(&"x".repeat(101)).is_err());
    }

    #[test]
    fn a_folder_of_others_is_no_state() {
        use std::os::unix::fs::PermissionsExt;
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("images");
        make_folder(&folder).unwrap();
        for mode in [0o1777, 0o770] {
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
            let error = make_folder(&folder).unwrap_err();
            assert!(matches!(error, StoreError::NotOurs { .. }), "{error}");
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        make_folder(&folder).unwrap();
    }

    #[test]
    fn the_default_is_a_name_that_is_there() {
        let state = tempfile::tempdir().unwrap();
        let store = Store::new(state.path());
        assert_eq!(store.default_name(), None);
        assert!(store.list().unwrap().is_empty());
        fs::create_dir(store.place("a").unwrap()).unwrap();
        store.set_default("a").unwrap();
        assert_eq!(store.default_name().as_deref(), Some("a"));
        fs::create_dir(store.place("b").unwrap()).unwrap();
        store.set_default("b").unwrap();
        assert_eq!(store.default_name().as_deref(), Some("b"));
        assert_eq!(store.list().unwrap().len(), 2);
        store.remove(OsStr::new("b")).unwrap();
        assert_eq!(store.default_name(), None);
        for wrong in ["b", "c"] {
            assert!(store.remove(OsStr::new(wrong)).is_err());
        }
        assert!(matches!(
            store.open(OsStr::new("../a")),
            Err(StoreError::Unknown(_))
        ));
    }
}
