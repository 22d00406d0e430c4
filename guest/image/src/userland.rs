//! The built-in userland: a static busybox and the names it answers to.

use crate::dir_image::{DirImage, DirImageError, image_from_dir};
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use object::LittleEndian as LE;
use object::elf::{FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader, ProgramHeader};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use thiserror::Error;

/// Where distributions put it.
pub const USUAL_PLACES: [&str; 3] = ["/usr/bin/busybox", "/bin/busybox", "/usr/lib/busybox"];

const FOLDERS: [(&str, u32); 14] = [
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sbin", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr/bin", 0o755),
    ("usr/sbin", 0o755),
    ("var/tmp", 0o1777),
    ("var/log", 0o755),
];
const FILES: [(&str, &str); 4] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    ),
    ("etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
    ("etc/hosts", "127.0.0.1 localhost casemate\n::1 localhost\n"),
    ("etc/hostname", "casemate\n"),
];

/// Why there is no userland.
#[derive(Debug, Error)]
pub enum UserlandError {
    /// No static program.
    #[error("{0} is no static x86-64 busybox: apt-get install busybox-static, or give a --rootfs")]
    NotStatic(PathBuf),
    /// It does not list its names.
    #[error("{path} --list-full: {reason}")]
    List {
        /// The program.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The image of it.
    #[error(transparent)]
    Image(#[from] DirImageError),
}

fn file_error(path: &Path) -> impl Fn(io::Error) -> UserlandError {
    let path = path.to_owned();
    move |source| UserlandError::File {
        path: path.clone(),
        source,
    }
}

/// The image of a userland around `busybox`, from the cache where it is there.
pub fn userland(busybox: &Path, cache: &Path) -> Result<DirImage, UserlandError> {
    fs::create_dir_all(cache).map_err(file_error(cache))?;
    let folder = tempfile::Builder::new()
        .prefix(".userland-")
        .tempdir_in(cache)
        .map_err(file_error(cache))?;
    let root = folder.path().join("root");
    build(busybox, &root)?;
    Ok(image_from_dir(&root, cache)?)
}

/// Builds the tree in `root`, which must not be there. The same busybox gives the same tree.
pub fn build(busybox: &Path, root: &Path) -> Result<(), UserlandError> {
    let program = fs::read(busybox).map_err(file_error(busybox))?;
    if !is_static(&program) {
        return Err(UserlandError::NotStatic(busybox.to_owned()));
    }
    for (name, mode) in FOLDERS {
        let path = root.join(name);
        fs::create_dir_all(&path).map_err(file_error(&path))?;
        fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(file_error(&path))?;
    }
    for (name, text) in FILES {
        write(&root.join(name), text.as_bytes(), 0o644)?;
    }
    write(&root.join("bin/busybox"), &program, 0o755)?;
    for applet in applets(busybox)? {
        let path = root.join(&applet);
        let made = match path.parent() {
            Some(parent) => fs::create_dir_all(parent),
            None => Ok(()),
        };
        made.and_then(|()| symlink("/bin/busybox", &path))
            .map_err(file_error(&path))?;
    }
    date(root)
}

fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), UserlandError> {
    fs::write(path, content)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .map_err(file_error(path))
}

fn is_static(program: &[u8]) -> bool {
    crate::kernel::check(program).is_ok()
        && FileHeader64::<LE>::parse(program)
            .and_then(|header| header.program_headers(LE, program))
            .is_ok_and(|segments| segments.iter().all(|s| s.p_type(LE) != PT_INTERP))
}

/// The names it answers to, as paths without a leading slash.
fn applets(busybox: &Path) -> Result<Vec<PathBuf>, UserlandError> {
    let failed = |reason| UserlandError::List {
        path: busybox.to_owned(),
        reason,
    };
    let output = Command::new(busybox)
        .arg("--list-full")
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    let mut names: Vec<PathBuf> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(PathBuf::from)
        .filter(|path| path.components().all(|c| matches!(c, Component::Normal(_))))
        .filter(|path| path != Path::new("bin/busybox") && !path.as_os_str().is_empty())
        .collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// Gives every entry the same time, contents before their folder.
fn date(path: &Path) -> Result<(), UserlandError> {
    if fs::symlink_metadata(path)
        .map_err(file_error(path))?
        .is_dir()
    {
        for entry in fs::read_dir(path).map_err(file_error(path))? {
            date(&entry.map_err(file_error(path))?.path())?;
        }
    }
    let epoch = TimeSpec::new(0, 0);
    utimensat(
        AT_FDCWD,
        path,
        &epoch,
        &epoch,
        UtimensatFlags::NoFollowSymlink,
    )
    .map_err(|errno| file_error(path)(errno.into()))
}

#[cfg(test)]
#[path = "userland_test.rs"]
mod tests;
