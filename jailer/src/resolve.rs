//! The operator's own paths: links are followed where only root or the operator can have
//! placed them, and nowhere else (openat2(2)).

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2, readlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use thiserror::Error;

/// As many links as the kernel follows in one path.
const MOST_LINKS: u32 = 40;

/// Why a path leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ResolveError {
    /// The kernel's reason.
    #[error("{path}: {source}", path = path.display())]
    Call {
        /// Up to where.
        path: PathBuf,
        /// Why.
        source: Errno,
    },
    /// A link that somebody else may have placed.
    #[error(
        "{path} is a symbolic link in a directory that others may write to, or neither root's \
         nor yours: it is not followed",
        path = path.display()
    )]
    Link {
        /// Which.
        path: PathBuf,
    },
    /// Another than before.
    #[error("{path} was exchanged for something else during the start", path = path.display())]
    Exchanged {
        /// Which.
        path: PathBuf,
    },
    /// Not absolute.
    #[error("{path} is not absolute", path = path.display())]
    Relative {
        /// Which.
        path: PathBuf,
    },
}

impl ResolveError {
    /// Nothing is there.
    pub fn is_absence(&self) -> bool {
        matches!(
            self,
            Self::Call {
                source: Errno::NOENT | Errno::NOTDIR,
                ..
            }
        )
    }
}

/// What an operator's path led to, for a process that cannot tell whose the links on the way
/// are: in a user namespace all strangers look the same, root among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Resolved {
    /// Of an absolute path.
    ///
    /// # Errors
    /// As [`operators_path`].
    pub fn of(path: impl AsRef<Path>) -> Result<Self, ResolveError> {
        let path = path.as_ref();
        let failed = |source| ResolveError::Call {
            path: path.to_owned(),
            source,
        };
        let fd = operators_path(path)?;
        let stat = fstat(&fd).map_err(failed)?;
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let found = readlinkat(CWD, link, Vec::new()).map_err(failed)?;
        Ok(Self {
            path: PathBuf::from(OsString::from_vec(found.into_bytes())),
            device: stat.st_dev,
            inode: stat.st_ino,
        })
    }

    /// Opens (`O_PATH`) the same again, by a path without links.
    ///
    /// # Errors
    /// Where it is not the same any more.
    pub fn open(&self) -> Result<OwnedFd, ResolveError> {
        let failed = |source| ResolveError::Call {
            path: self.path.clone(),
            source,
        };
        let plain = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let fd = openat2(CWD, &self.path, flags, Mode::empty(), plain).map_err(failed)?;
        let stat = fstat(&fd).map_err(failed)?;
        match (stat.st_dev, stat.st_ino) == (self.device, self.inode) {
            true => Ok(fd),
            false => Err(ResolveError::Exchanged {
                path: self.path.clone(),
            }),
        }
    }
}

/// Opens (`O_PATH`) what is at an absolute path of the operator's.
///
/// # Errors
/// Where nothing is there, or a link on the way could be somebody else's.
pub fn operators_path(path: impl AsRef<Path>) -> Result<OwnedFd, ResolveError> {
    let path = path.as_ref();
    if !path.is_absolute() {
        return Err(ResolveError::Relative {
            path: path.to_owned(),
        });
    }
    let plain = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match openat2(CWD, path, flags, Mode::empty(), plain) {
        Ok(fd) => Ok(fd),
        Err(Errno::LOOP) => walk(path),
        Err(source) => Err(ResolveError::Call {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Name by name, with a look at each link and at the directory it is in.
fn walk(path: &Path) -> Result<OwnedFd, ResolveError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ResolveError::Call { path, source }
    };
    let operator = geteuid().as_raw();
    let strange = |owner: u32| owner != 0 && owner != operator;
    let root = || {
        open(
            "/",
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(failed(Path::new("/")))
    };
    // The directories on the way, for `..` in a link's target.
    let mut way = vec![root()?];
    let mut done = PathBuf::from("/");
    let mut left: VecDeque<OsString> = names(path);
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        if name == ".." {
            if way.len() > 1 {
                way.pop();
                done.pop();
            }
            continue;
        }
        let here = way.last().expect("at least the root");
        let there = done.join(&name);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let fd = openat2(here, &name, flags, Mode::empty(), resolve).map_err(failed(&there))?;
        let stat = fstat(&fd).map_err(failed(&there))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            way.push(fd);
            done = there;
            continue;
        }
        let dir = fstat(here).map_err(failed(&done))?;
        links += 1;
        if links > MOST_LINKS {
            return Err(failed(&there)(Errno::LOOP));
        }
        if strange(stat.st_uid) || strange(dir.st_uid) || dir.st_mode & 0o022 != 0 {
            return Err(ResolveError::Link { path: there });
        }
        let target = readlinkat(&fd, "", Vec::new()).map_err(failed(&there))?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            way = vec![root()?];
            done = PathBuf::from("/");
        }
        let mut next = names(&target);
        next.append(&mut left);
        left = next;
    }
    Ok(way.pop().expect("at least the root"))
}

fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsStr::new("..").to_owned()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::statat;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn inode(path: &Path) -> u64 {
        statat(CWD, path, rustix::fs::AtFlags::empty())
            .unwrap()
            .st_ino
    }

    #[test]
    fn links_are_followed_only_where_root_alone_places_them() {
        let folder = tempfile::tempdir_in("/root").unwrap();
        let dir = folder.path();
        fs::create_dir(dir.join("real")).unwrap();
        symlink("real", dir.join("relative")).unwrap();
        symlink(dir.join("real"), dir.join("absolute")).unwrap();
        symlink("../../..", dir.join("real/up")).unwrap();
        symlink("loop", dir.join("loop")).unwrap();
        for name in ["real", "relative", "absolute"] {
            let fd = operators_path(dir.join(name)).unwrap();
            assert_eq!(
                fstat(&fd).unwrap().st_ino,
                inode(&dir.join("real")),
                "{name}"
            );
        }
        let up = operators_path(dir.join("relative/up")).unwrap();
        assert_eq!(fstat(&up).unwrap().st_ino, inode(Path::new("/")));
        assert!(operators_path(dir.join("loop")).is_err());
        assert!(operators_path(dir.join("none")).unwrap_err().is_absence());
        assert!(operators_path("etc").is_err());

        let found = Resolved::of(dir.join("relative")).unwrap();
        let fd = found.open().unwrap();
        assert_eq!(fstat(&fd).unwrap().st_ino, inode(&dir.join("real")));
        fs::rename(dir.join("real"), dir.join("was")).unwrap();
        fs::create_dir(dir.join("real")).unwrap();
        assert!(matches!(found.open(), Err(ResolveError::Exchanged { .. })));

        fs::set_permissions(dir, fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(operators_path(dir.join("real")).is_ok());
        assert!(matches!(
            operators_path(dir.join("relative")),
            Err(ResolveError::Link { .. })
        ));
    }
}
