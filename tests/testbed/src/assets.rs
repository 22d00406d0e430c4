//! What every job finds at `/casemate` in the bed: guest kernels and userlands.
//!
//! ```text
//! /casemate/kernels/lean/{vmlinux,bzImage}
//! /casemate/kernels/debian-6.1/{package.deb,boot/…,lib/modules/…}
//! /casemate/kernels/debian-6.12/{package.deb,boot/…,lib/modules/…}
//! /casemate/userlands/debian-python.erofs
//! /casemate/userlands/debian-python/
//! ```

use crate::bed::ASSETS_DISK;
use crate::cache::{Cache, Key};
use crate::debian_kernel::{DebianKernel, Series};
use crate::debootstrap;
use crate::error::{BedError, Result};
use crate::lean::LeanKernel;
use crate::tool;
use crate::userland::Userland;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Everything a job may want to boot, on this host and as one image for the bed.
#[derive(Clone, Debug)]
pub struct Assets {
    /// The lean kernel.
    pub lean: LeanKernel,
    /// Stock Debian kernels, 6.1 and 6.12.
    pub debian: [DebianKernel; 2],
    /// Debian with Python.
    pub userland: Userland,
    /// ext4 image of it all, laid out as above.
    pub image: PathBuf,
}

impl Assets {
    /// Builds what is not in the cache.
    pub fn get(cache: &Cache) -> Result<Self> {
        let lean = LeanKernel::get(cache)?;
        let debian = [
            DebianKernel::get(cache, Series::V6_1)?,
            DebianKernel::get(cache, Series::V6_12)?,
        ];
        let userland = Userland::debian_python(cache)?;
        let mut key = Key::new("assets", 1).with(ASSETS_DISK.to_le_bytes());
        for path in [
            &lean.vmlinux,
            &debian[0].deb,
            &debian[1].deb,
            &userland.erofs,
        ] {
            key = key.with_entry(path.parent().unwrap_or(path));
        }
        let built = cache.entry(&format!("assets-{}", key.hex()), |half| {
            tool::step("making the image of guest kernels and userlands", || {
                build(half, &lean, &debian, &userland)
            })
        })?;
        Ok(Self {
            image: built.join("assets.ext4"),
            lean,
            debian,
            userland,
        })
    }
}

fn build(
    half: &Path,
    lean: &LeanKernel,
    debian: &[DebianKernel; 2],
    userland: &Userland,
) -> Result<()> {
    let tree = half.join("tree");
    copy(&lean.vmlinux, &tree.join("kernels/lean/vmlinux"))?;
    copy(&lean.bzimage, &tree.join("kernels/lean/bzImage"))?;
    for (kernel, series) in debian.iter().zip([Series::V6_1, Series::V6_12]) {
        let dir = tree.join(format!("kernels/debian-{}", series.name()));
        copy(&kernel.root.join("boot"), &dir.join("boot"))?;
        copy(&kernel.root.join("lib"), &dir.join("lib"))?;
        copy(&kernel.deb, &dir.join("package.deb"))?;
    }
    copy(&userland.erofs, &tree.join("userlands/debian-python.erofs"))?;
    copy(&userland.dir, &tree.join("userlands/debian-python"))?;
    let size = format!("{}M", ASSETS_DISK >> 20);
    debootstrap::ext4(Some(&tree), &half.join("assets.ext4"), &size)?;
    fs::remove_dir_all(&tree).map_err(BedError::io("remove", &tree))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let parent = to.parent().unwrap_or(to);
    fs::create_dir_all(parent).map_err(BedError::io("create", parent))?;
    tool::run("cp", Command::new("cp").arg("-a").arg(from).arg(to))
}
