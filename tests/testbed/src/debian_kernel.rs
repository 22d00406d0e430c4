//! Stock Debian kernels: the bed's own, and those that guests boot in tests.

use crate::apt;
use crate::cache::{Cache, Key};
use crate::error::{BedError, Result};
use crate::tool;
use std::fs;
use std::path::PathBuf;

/// A kernel series that Debian 12 has a cloud kernel of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Series {
    /// The release's own kernel (Landlock ABI 2).
    V6_1,
    /// The kernel of the next release, rebuilt for this one (Landlock ABI 6).
    V6_12,
}

impl Series {
    /// "6.1" or "6.12".
    pub fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        }
    }

    fn pattern(self) -> &'static str {
        match self {
            Self::V6_1 => r"^linux-image-6\.1\.0-[0-9]+-cloud-amd64-unsigned$",
            Self::V6_12 => r"^linux-image-6\.12\.[0-9]+.*-cloud-amd64-unsigned$",
        }
    }
}

/// A downloaded and unpacked kernel package.
#[derive(Clone, Debug)]
pub struct DebianKernel {
    /// The package file as downloaded.
    pub deb: PathBuf,
    /// Root of the unpacked package: holds `boot/` and `lib/modules/`.
    pub root: PathBuf,
    /// Kernel release, as in `uname -r`.
    pub release: String,
}

impl DebianKernel {
    /// The newest package of the series at the time the cache was filled.
    pub fn get(cache: &Cache, series: Series) -> Result<Self> {
        let name = format!(
            "debian-kernels/{}-{}",
            series.name(),
            Key::new("debian-kernel", 1).with(series.pattern()).hex()
        );
        let dir = cache.entry(&name, |half| {
            tool::step(
                &format!("fetching Debian's {} kernel", series.name()),
                || {
                    let package = apt::newest(series.pattern())?;
                    let deb = apt::download(&package, half)?;
                    let root = half.join("root");
                    apt::unpack(&deb, &root)?;
                    let fixed = half.join("package.deb");
                    fs::rename(&deb, &fixed).map_err(BedError::io("rename to", &fixed))
                },
            )
        })?;
        let root = dir.join("root");
        let modules = root.join("lib/modules");
        let release = fs::read_dir(&modules)
            .map_err(BedError::io("list", &modules))?
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .next()
            .ok_or_else(|| {
                BedError::NoPackage(format!("{} (no modules in it)", series.pattern()))
            })?;
        Ok(Self {
            deb: dir.join("package.deb"),
            root,
            release,
        })
    }

    /// The compressed kernel image.
    pub fn vmlinuz(&self) -> PathBuf {
        self.root.join(format!("boot/vmlinuz-{}", self.release))
    }
}
