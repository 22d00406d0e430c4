//! A Debian userland with Python, for guests.

use crate::cache::{Cache, Key};
use crate::debootstrap;
use crate::error::{BedError, Result};
use crate::tool;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Beyond the minimal system.
const PACKAGES: &[&str] = &["python3"];

/// The userland in the forms that tests and the demo use.
#[derive(Clone, Debug)]
pub struct Userland {
    /// As a folder, owned by root.
    pub dir: PathBuf,
    /// As an EROFS image, uncompressed: reading it costs the guest no decompression.
    pub erofs: PathBuf,
}

impl Userland {
    /// Debian with Python 3, from the cache or made now (about a minute).
    pub fn debian_python(cache: &Cache) -> Result<Self> {
        let key = Key::new("debian-python", 1).with(PACKAGES.join(","));
        let built = cache.entry(&format!("debian-python-{}", key.hex()), |half| {
            let dir = half.join("root");
            debootstrap::make("a Debian userland with Python", PACKAGES, &dir)?;
            // A guest has no network, and its name is its own.
            for (file, text) in [
                ("etc/hostname", "guest\n"),
                ("etc/hosts", "127.0.0.1 localhost\n"),
            ] {
                let path = dir.join(file);
                fs::write(&path, text).map_err(BedError::io("write", &path))?;
            }
            tool::step("making an EROFS image of it", || {
                tool::run(
                    "mkfs.erofs",
                    Command::new("mkfs.erofs")
                        .args(["-T0", "-U", "00000000-0000-0000-0000-000000000000"])
                        .arg(half.join("debian-python.erofs"))
                        .arg(&dir),
                )
            })
        })?;
        Ok(Self {
            dir: built.join("root"),
            erofs: built.join("debian-python.erofs"),
        })
    }
}
