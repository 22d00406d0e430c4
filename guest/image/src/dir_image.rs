//! A directory as a root image, cached by its content.
//!
//! `mkfs.erofs` (erofs-utils) makes it where it is installed, `mke2fs`
//! (e2fsprogs) elsewhere. Neither needs a right, a loop device or a mount. The
//! image appears in the cache whole or not at all.

use crate::rootfs::RootfsFormat;
use crate::tree::{Summary, TreeError, summarize};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use thiserror::Error;

/// Changes whenever the tools' options do, so that old images are not taken for new ones.
const RECIPE: u32 = 1;

/// Why there is no image of a directory.
#[derive(Debug, Error)]
pub enum DirImageError {
    /// No tool.
    #[error(
        "an image of a directory is made by mkfs.erofs or mke2fs, and neither is installed: apt-get install erofs-utils"
    )]
    NoTool,
    /// The directory cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// It changed meanwhile.
    #[error("{path} changed while its image was made: run again when nothing writes to it")]
    Changed {
        /// The directory.
        path: PathBuf,
    },
    /// The tool failed.
    #[error("{tool} on {path}: {reason}")]
    Tool {
        /// Its name.
        tool: &'static str,
        /// The directory.
        path: PathBuf,
        /// Its last line of complaint.
        reason: String,
    },
    /// The cache cannot be used.
    #[error("image cache {path}: {source}")]
    Cache {
        /// Where.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// An image in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirImage {
    /// The file; its length is a multiple of 4096.
    pub path: PathBuf,
    /// What it is.
    pub format: RootfsFormat,
    /// The content's digest ([`Summary::digest`]).
    pub digest: String,
    /// Whether it was there before.
    pub cached: bool,
}

/// A program that makes images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tool {
    MkfsErofs,
    Mke2fs,
}

impl Tool {
    const ALL: [Self; 2] = [Self::MkfsErofs, Self::Mke2fs];

    fn name(self) -> &'static str {
        match self {
            Self::MkfsErofs => "mkfs.erofs",
            Self::Mke2fs => "mke2fs",
        }
    }

    fn format(self) -> RootfsFormat {
        match self {
            Self::MkfsErofs => RootfsFormat::Erofs,
            Self::Mke2fs => RootfsFormat::Ext4,
        }
    }

    /// Its path: along `PATH`, then where administrators' programs are.
    fn find(self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from))
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(self.name()))
            .find(|file| file.is_file())
    }

    fn command(self, program: &Path, from: &Path, to: &Path, tree: &Summary) -> Command {
        let mut command = Command::new(program);
        let uuid = uuid(&tree.digest);
        match self {
            Self::MkfsErofs => {
                command
                    .args(["--quiet", "-T0", "--preserve-mtime", "-U", &uuid])
                    .args([to, from]);
            }
            Self::Mke2fs => {
                // Read-only for good: no journal, no room to grow, no reserve.
                let inodes = tree.entries + 64;
                let kib = (tree.bytes + tree.entries * 4096) / 1024 + inodes / 4;
                let kib = (kib + kib / 8 + 8192).next_multiple_of(4);
                command
                    .args([
                        "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-I", "256",
                    ])
                    .args(["-O", "^has_journal,^resize_inode", "-U", &uuid])
                    .args(["-E", &format!("lazy_itable_init=0,hash_seed={uuid}")])
                    .args(["-N", &inodes.to_string(), "-d"])
                    .args([from, to])
                    .arg(format!("{kib}k"));
            }
        }
        command
            .env_clear()
            .env("LC_ALL", "C")
            .env("E2FSPROGS_FAKE_TIME", "1")
            .stdin(Stdio::null());
        command
    }
}

/// A version 8 UUID (RFC 9562, 5.8) of a digest in hexadecimal.
fn uuid(digest: &str) -> String {
    let d = digest;
    format!(
        "{}-{}-8{}-8{}-{}",
        &d[..8],
        &d[8..12],
        &d[12..15],
        &d[15..18],
        &d[18..30]
    )
}

/// Makes an image of `dir`, or finds the one of the same content in `cache`.
///
/// Owners, modes, times and extended attributes are those of the directory.
pub fn image_from_dir(dir: &Path, cache: &Path) -> Result<DirImage, DirImageError> {
    let (tool, program) = Tool::ALL
        .into_iter()
        .find_map(|tool| tool.find().map(|program| (tool, program)))
        .ok_or(DirImageError::NoTool)?;
    // A name that begins with a dash is no option then.
    let dir = fs::canonicalize(dir).map_err(|source| TreeError::Read {
        path: dir.to_owned(),
        source,
    })?;
    make(tool, &program, &dir, cache)
}

fn make(tool: Tool, program: &Path, dir: &Path, cache: &Path) -> Result<DirImage, DirImageError> {
    let tree = summarize(dir)?;
    let name = format!("{}-{RECIPE}.{}", tree.digest, tool.format());
    let mut image = DirImage {
        path: cache.join(name),
        format: tool.format(),
        digest: tree.digest.clone(),
        cached: true,
    };
    if image.path.is_file() {
        return Ok(image);
    }
    let cache_error = |source| DirImageError::Cache {
        path: cache.to_owned(),
        source,
    };
    fs::create_dir_all(cache).map_err(cache_error)?;
    let _lock = lock(cache).map_err(cache_error)?;
    // Another may have made it while this one waited.
    if image.path.is_file() {
        return Ok(image);
    }
    let staging = tempfile::Builder::new()
        .prefix(".image-")
        .tempdir_in(cache)
        .map_err(cache_error)?;
    let new = staging.path().join("image");
    run(tool, tool.command(program, dir, &new, &tree), dir)?;
    if summarize(dir)? != tree {
        return Err(DirImageError::Changed {
            path: dir.to_owned(),
        });
    }
    publish(&new, &image.path).map_err(cache_error)?;
    image.cached = false;
    Ok(image)
}

fn publish(new: &Path, path: &Path) -> io::Result<()> {
    let file = File::open(new)?;
    file.set_permissions(Permissions::from_mode(0o444))?;
    file.sync_all()?;
    fs::rename(new, path)
}

/// One maker at a time; the lock goes with the process.
fn lock(cache: &Path) -> io::Result<Flock<File>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(cache.join(".lock"))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}

fn run(tool: Tool, mut command: Command, dir: &Path) -> Result<(), DirImageError> {
    let failed = |reason| DirImageError::Tool {
        tool: tool.name(),
        path: dir.to_owned(),
        reason,
    };
    let output = command.output().map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty());
    Err(failed(format!(
        "{} ({})",
        last.unwrap_or("it says nothing"),
        output.status
    )))
}

#[cfg(test)]
#[path = "dir_image_test.rs"]
mod tests;
