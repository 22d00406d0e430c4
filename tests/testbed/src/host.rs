//! The Debian packages the host must have.

use crate::error::{BedError, Result};
use crate::tool;
use std::path::Path;
use std::process::Command;

/// A package and a file that shows it is there.
struct Needed {
    package: &'static str,
    proof: &'static str,
}

const fn needed(package: &'static str, proof: &'static str) -> Needed {
    Needed { package, proof }
}

/// What building and running the bed, its images and the lean kernel calls, and what the
/// jailer's tests call on the host itself.
const PACKAGES: &[Needed] = &[
    needed("qemu-system-x86", "/usr/bin/qemu-system-x86_64"),
    needed("debootstrap", "/usr/sbin/debootstrap"),
    needed("busybox-static", "/bin/busybox"),
    needed("erofs-utils", "/usr/bin/mkfs.erofs"),
    needed("squashfs-tools", "/usr/bin/mksquashfs"),
    needed("e2fsprogs", "/sbin/mke2fs"),
    needed("kmod", "/sbin/depmod"),
    needed("xz-utils", "/usr/bin/xz"),
    needed("lz4", "/usr/bin/lz4"),
    needed("zstd", "/usr/bin/zstd"),
    needed("make", "/usr/bin/make"),
    needed("gcc", "/usr/bin/gcc"),
    needed("flex", "/usr/bin/flex"),
    needed("bison", "/usr/bin/bison"),
    needed("bc", "/usr/bin/bc"),
    needed("cpio", "/usr/bin/cpio"),
    needed("libelf-dev", "/usr/include/libelf.h"),
    needed("strace", "/usr/bin/strace"),
    needed("iproute2", "/sbin/ip"),
    needed("uidmap", "/usr/bin/newuidmap"),
];

/// The packages that are not there.
pub fn missing() -> Vec<&'static str> {
    PACKAGES
        .iter()
        .filter(|n| !Path::new(n.proof).exists())
        .map(|n| n.package)
        .collect()
}

/// Whether this process may install packages and build roots.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Installs what is missing when run as root.
///
/// # Errors
/// [`BedError::MissingPackages`] with the exact command when not root, or the
/// package manager's own words.
pub fn install_missing() -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root() {
        return Err(BedError::MissingPackages(missing));
    }
    tool::step(&format!("installing {}", missing.join(", ")), || {
        tool::run(
            "apt-get update",
            Command::new("apt-get").args(["-q", "update"]),
        )?;
        tool::run(
            "apt-get install",
            Command::new("apt-get")
                .env("DEBIAN_FRONTEND", "noninteractive")
                .args(["-q", "-y", "install", "--no-install-recommends"])
                .args(&missing),
        )
    })
}
