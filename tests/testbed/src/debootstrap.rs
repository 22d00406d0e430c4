//! Debian roots: a folder made by debootstrap, trimmed of what no test reads.

use crate::apt;
use crate::error::{BedError, Result};
use crate::host;
use crate::tool;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What is only there for people to read, or for package clients.
const TRIM: &[&str] = &[
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/bug",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/cache/debconf",
    "var/log/apt",
    "var/log/bootstrap.log",
    "var/log/dpkg.log",
];

/// Makes a minimal Debian with `packages` at `dir`, which must not exist.
pub fn make(what: &'static str, packages: &[&str], dir: &Path) -> Result<()> {
    if !host::is_root() {
        return Err(BedError::NeedsRoot(what));
    }
    let mut command = Command::new("debootstrap");
    command.arg("--variant=minbase");
    if !packages.is_empty() {
        command.arg(format!("--include={}", packages.join(",")));
    }
    command.arg(apt::SUITE).arg(dir).arg(apt::mirror()?);
    tool::step(
        &format!("making {what} with debootstrap, about a minute"),
        || tool::run("debootstrap", &mut command),
    )?;
    for path in TRIM {
        let path = dir.join(path);
        let gone = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else if path.exists() {
            fs::remove_file(&path)
        } else {
            Ok(())
        };
        gone.map_err(BedError::io("remove", &path))?;
    }
    Ok(())
}

/// Makes an ext4 image (no journal) of `size` from a folder, or an empty one.
pub fn ext4(folder: Option<&Path>, image: &Path, size: &str) -> Result<()> {
    let mut command = Command::new("/sbin/mke2fs");
    command.args(["-q", "-F", "-t", "ext4", "-m", "0", "-O", "^has_journal"]);
    command.args(["-E", "lazy_itable_init=1,nodiscard"]);
    if let Some(folder) = folder {
        command.arg("-d").arg(folder);
    }
    tool::run("mke2fs", command.arg(image).arg(size))
}
