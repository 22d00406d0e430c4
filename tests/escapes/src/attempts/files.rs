//! Files of the host's that were not shared, or not to be written.

use super::attempt;
use crate::sys::{any, open, reached, read, read_token, text, token, writable};
use crate::{Attempt, Bait, Failure, Tried, call};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

pub const ALL: &[Attempt] = &[
    attempt("shadow-by-path", "read the host's /etc/shadow", |bait| {
        let bytes = read(&open("/etc/shadow", libc::O_RDONLY)?)?;
        match hash(&bytes) == bait.shadow {
            true => Ok("it was read".to_owned()),
            false => Err(Failure::Nothing("another /etc/shadow".to_owned())),
        }
    }),
    attempt(
        "marker-by-path",
        "read a file of the host's by its path",
        |bait| read_token(bait, &bait.marker),
    ),
    attempt(
        "marker-by-symlink",
        "the same, by a symbolic link",
        by_symlink,
    ),
    attempt(
        "marker-by-hardlink",
        "the same, by a hard link to it",
        by_hardlink,
    ),
    attempt(
        "marker-by-dotdot",
        "the same, upwards from the working directory",
        |bait| read_token(bait, upwards(&bait.marker)),
    ),
    attempt(
        "marker-by-proc-self",
        "the same, by /proc/self/root and cwd",
        |bait| by_proc(bait, ["self".to_owned(), "thread-self".to_owned()]),
    ),
    attempt(
        "marker-by-proc-1",
        "the same, by /proc/1/root and cwd",
        |bait| by_proc(bait, ["1".to_owned()]),
    ),
    attempt(
        "marker-by-proc-others",
        "the same, by the root of any process there is",
        |bait| {
            let here = std::process::id().to_string();
            let numbers = std::fs::read_dir("/proc")?.flatten().filter_map(|entry| {
                let name = entry.file_name().to_str()?.to_owned();
                (name.parse::<u32>().is_ok() && name != "1" && name != here).then_some(name)
            });
            by_proc(
                bait,
                numbers
                    .take(64)
                    .chain([bait.pid.to_string(), bait.launcher.to_string()]),
            )
        },
    ),
    attempt(
        "marker-by-handle",
        "the same, by its file handle",
        by_handle,
    ),
    attempt(
        "private-file-of-share",
        "read root's own file in a shared folder",
        |bait| read_token(bait, bait.ro.join("private")),
    ),
    attempt(
        "write-to-read-only",
        "write to a file that is shared read-only",
        |bait| {
            let file = open(bait.ro.join("open"), libc::O_WRONLY)?;
            reached(call!(libc::SYS_write, file.as_raw_fd(), &b"x"[..], 1), &[])
        },
    ),
    attempt("truncate-read-only", "the same, by truncate", |bait| {
        let path = text(bait.ro.join("open"));
        reached(call!(libc::SYS_truncate, path.as_c_str(), 1), &[])
    }),
    attempt(
        "create-in-read-only",
        "make a file in a folder that is shared read-only",
        |bait| {
            let file = bait.ro.join(format!("made-{}", std::process::id()));
            open(&file, libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY)?;
            let _ = std::fs::remove_file(&file);
            Ok("it was made".to_owned())
        },
    ),
    attempt("write-to-root", "make a file in the root directory", |_| {
        let file = format!("/escape-{}", std::process::id());
        open(&file, libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY)?;
        let _ = std::fs::remove_file(&file);
        Ok("it was made".to_owned())
    }),
    attempt(
        "run-from-writable",
        "execute a program that it wrote itself",
        run_written,
    ),
];

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// Hash of the host's `/etc/shadow`, for the bait.
pub fn shadow() -> u64 {
    std::fs::read("/etc/shadow").map_or(0, |bytes| hash(&bytes))
}

/// From anywhere up to the root of everything, and down again.
fn upwards(path: &Path) -> PathBuf {
    let down = path.strip_prefix("/").unwrap_or(path);
    PathBuf::from("../".repeat(32)).join(down)
}

fn by_symlink(bait: &Bait) -> Tried {
    let planted = read_token(bait, bait.ro.join("link"));
    if planted.is_ok() {
        return planted;
    }
    let link = writable(bait)?.join(format!("link-{}", std::process::id()));
    std::os::unix::fs::symlink(&bait.marker, &link)?;
    let tried = read_token(bait, &link);
    let _ = std::fs::remove_file(&link);
    tried
}

fn by_hardlink(bait: &Bait) -> Tried {
    let link = writable(bait)?.join(format!("hard-{}", std::process::id()));
    let made = std::fs::hard_link(&bait.marker, &link).or_else(|_| {
        let to = text(&link);
        call!(
            libc::SYS_linkat,
            bait.leaked.path_file,
            c"",
            libc::AT_FDCWD,
            to.as_c_str(),
            libc::AT_EMPTY_PATH
        )
        .map(drop)
    });
    made?;
    let tried = read_token(bait, &link);
    let _ = std::fs::remove_file(&link);
    tried
}

fn by_proc(bait: &Bait, of: impl IntoIterator<Item = String>) -> Tried {
    let down = bait
        .marker
        .strip_prefix("/")
        .unwrap_or(&bait.marker)
        .to_path_buf();
    any(of.into_iter().flat_map(|process| {
        let root = Path::new("/proc").join(&process).join("root").join(&down);
        let cwd = Path::new("/proc")
            .join(&process)
            .join("cwd")
            .join(upwards(&bait.marker));
        [read_token(bait, root), read_token(bait, cwd)]
    }))
}

/// open_by_handle_at(2), from any fd of the same file system: what is shared is one.
fn by_handle(bait: &Bait) -> Tried {
    let (kind, bytes) = &bait.handle;
    if bytes.is_empty() {
        return Err(Failure::Absent("the file system has no handles".to_owned()));
    }
    let mut handle = (bytes.len() as u32).to_ne_bytes().to_vec();
    handle.extend(kind.to_ne_bytes());
    handle.extend(bytes);
    let folder = open(&bait.ro, libc::O_RDONLY | libc::O_DIRECTORY)?;
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    let opened = call!(
        libc::SYS_open_by_handle_at,
        folder.as_raw_fd(),
        &handle[..],
        flags
    )?;
    token(bait, &read(&crate::sys::owned(opened))?)
}

fn run_written(bait: &Bait) -> Tried {
    let own = std::fs::read(bait.ro.join("escape"))?;
    let file = writable(bait)?.join(format!("run-{}", std::process::id()));
    let tried = (|| {
        std::fs::write(&file, own)?;
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let status = std::process::Command::new(&file)
            .arg("list")
            .stdout(std::process::Stdio::null())
            .status()?;
        match status.success() {
            true => Ok("it ran".to_owned()),
            false => Err(Failure::Nothing(status.to_string())),
        }
    })();
    let _ = std::fs::remove_file(&file);
    tried
}
