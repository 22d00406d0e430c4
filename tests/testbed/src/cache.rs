//! A folder of built things, each named by a hash of what it was built from.

use crate::error::{BedError, Result};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

/// Hash of a recipe: everything that decides what the built thing contains.
#[derive(Clone, Debug)]
pub struct Key(blake3::Hasher);

impl Key {
    /// A key for one kind of thing; `version` changes when the building code does.
    pub fn new(kind: &str, version: u32) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(kind.as_bytes());
        hasher.update(&version.to_le_bytes());
        Self(hasher)
    }

    /// Adds one input. Inputs are length-prefixed, so they cannot run together.
    #[must_use]
    pub fn with(mut self, input: impl AsRef<[u8]>) -> Self {
        let input = input.as_ref();
        self.0.update(&(input.len() as u64).to_le_bytes());
        self.0.update(input);
        self
    }

    /// Adds a built thing by its name in the cache, which has its own hash in it.
    #[must_use]
    pub fn with_entry(self, entry: &Path) -> Self {
        self.with(entry.file_name().unwrap_or_default().as_encoded_bytes())
    }

    /// Sixteen hexadecimal digits.
    pub fn hex(&self) -> String {
        self.0.finalize().to_hex()[..16].to_owned()
    }
}

/// The cache folder: `$CASEMATE_CACHE`, else `$XDG_CACHE_HOME/casemate`, else
/// `~/.cache/casemate`.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Finds the folder and creates it.
    pub fn open() -> Result<Self> {
        let var = |name| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        let root = var("CASEMATE_CACHE")
            .or_else(|| var("XDG_CACHE_HOME").map(|d| d.join("casemate")))
            .or_else(|| var("HOME").map(|d| d.join(".cache/casemate")))
            .unwrap_or_else(|| PathBuf::from("/var/cache/casemate"));
        Self::at(root)
    }

    /// Uses the given folder.
    pub fn at(root: PathBuf) -> Result<Self> {
        for dir in ["tmp", "locks"] {
            let dir = root.join(dir);
            fs::create_dir_all(&dir).map_err(BedError::io("create", &dir))?;
        }
        let root = root
            .canonicalize()
            .map_err(BedError::io("resolve", &root))?;
        Ok(Self { root })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A folder for files that live no longer than a run.
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// The folder `name`, built by `build` into a temporary folder and renamed when
    /// whole. Builders of one name wait for each other; readers never see a half.
    pub fn entry(&self, name: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let whole = self.root.join(name);
        if whole.is_dir() {
            return Ok(whole);
        }
        let _lock = self.lock(name)?;
        if whole.is_dir() {
            return Ok(whole);
        }
        // Under the lock nobody else builds this name: a leftover is from a builder that died.
        let half = self.tmp().join(name.replace('/', "-"));
        if half.exists() {
            fs::remove_dir_all(&half).map_err(BedError::io("remove", &half))?;
        }
        fs::create_dir_all(&half).map_err(BedError::io("create", &half))?;
        if let Err(error) = build(&half) {
            // What is left of it may be gigabytes; the error says what matters.
            let _ = fs::remove_dir_all(&half);
            return Err(error);
        }
        if let Some(parent) = whole.parent() {
            fs::create_dir_all(parent).map_err(BedError::io("create", parent))?;
        }
        fs::rename(&half, &whole).map_err(BedError::io("rename to", &whole))?;
        Ok(whole)
    }

    /// Holds the lock of `name` until dropped.
    fn lock(&self, name: &str) -> Result<Flock<File>> {
        let path = self.root.join("locks").join(name.replace('/', "-"));
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(BedError::io("open", &path))?;
        let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => return Ok(held),
            Err((file, _)) => file,
        };
        eprintln!("testbed: waiting for another process that builds {name} …");
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, e)| BedError::io("lock", &path)(e.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_built_once_and_never_half() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().to_path_buf()).unwrap();
        let broken = cache.entry("thing-1", |half| {
            fs::write(half.join("x"), "half").unwrap();
            Err(BedError::BadJob("stopped".into()))
        });
        assert!(broken.is_err());
        assert!(!dir.path().join("thing-1").exists());
        let built = cache
            .entry("thing-1", |half| {
                assert!(!half.join("x").exists());
                fs::write(half.join("y"), "whole").unwrap();
                Ok(())
            })
            .unwrap();
        assert_eq!(fs::read(built.join("y")).unwrap(), b"whole");
        cache.entry("thing-1", |_| panic!("built twice")).unwrap();
    }

    #[test]
    fn inputs_cannot_run_together() {
        let key = |a: &str, b: &str| Key::new("k", 1).with(a).with(b).hex();
        assert_ne!(key("ab", "c"), key("a", "bc"));
        assert_ne!(Key::new("k", 1).hex(), Key::new("k", 2).hex());
        assert_eq!(key("a", "b").len(), 16);
    }
}
