//! The program's file: found, and brought into the root so that it cannot be overwritten.
//!
//! The peer's jailer copies it. Here a read-only mount of the file itself stands over an
//! empty one of that name: nothing is copied, and neither the file nor a copy can be written
//! from inside, whoever owns it. Where the jail's user may not execute the original, or
//! `--without exec-mount` is given, it is copied, and the copy mounted read-only over itself.

use super::Addition;
use super::error::PeerError;
use super::folder::Folder;
use super::mounts::{Attributes, attach, clone_of, set_attributes};
use super::options::Options;
use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, openat};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// Read and execute for everybody.
const FOR_ALL: u32 = 0o005;
const REMEDY: &str = "give the path of a program";

/// The exec file.
#[derive(Debug)]
pub struct Binary {
    path: PathBuf,
    /// Last component of its path, links resolved: it names folder, file and parent cgroup.
    pub name: OsString,
    inode: (u64, u64),
    mode: u32,
}

/// The program in the root.
#[derive(Debug)]
pub struct Placed {
    /// Device and inode of what stands at its name once the root is entered.
    pub inode: (u64, u64),
    /// A mount of the file itself; `None`: it was copied.
    original: Option<OwnedFd>,
}

impl Binary {
    /// Finds it.
    ///
    /// # Errors
    /// Where it is no regular file.
    pub fn find(options: &Options) -> Result<Self, PeerError> {
        let given = &options.exec_file;
        let path = fs::canonicalize(given)
            .map_err(|e| PeerError::path("find the exec file", given, e, REMEDY))?;
        let name = path
            .file_name()
            .map(OsString::from)
            .ok_or_else(|| PeerError::path("execute", given, "it is a directory", REMEDY))?;
        let mut found = Self {
            path,
            name,
            inode: (0, 0),
            mode: 0,
        };
        let stat =
            fstat(&found.open()?).map_err(|e| PeerError::path("stat", &found.path, e, REMEDY))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(PeerError::path(
                "execute",
                &found.path,
                "it is no regular file",
                REMEDY,
            ));
        }
        found.inode = (stat.st_dev, stat.st_ino);
        found.mode = stat.st_mode & 0o777;
        if found.mode & 0o111 == 0 {
            return Err(PeerError::path(
                "execute",
                &found.path,
                "nobody may",
                "make it executable (chmod 755)",
            ));
        }
        Ok(found)
    }

    fn open(&self) -> Result<OwnedFd, PeerError> {
        // O_PATH: a FIFO or a device is looked at and not opened.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(CWD, &self.path, flags, Mode::empty())
            .map_err(|e| PeerError::path("open", &self.path, e, REMEDY))
    }

    /// The same file again, by an fd of the mount namespace that the caller is in now.
    fn reopen(&self) -> Result<OwnedFd, PeerError> {
        let fd = self.open()?;
        let stat = fstat(&fd).map_err(|e| PeerError::path("stat", &self.path, e, REMEDY))?;
        match (stat.st_dev, stat.st_ino) == self.inode {
            true => Ok(fd),
            false => Err(PeerError::path(
                "execute",
                &self.path,
                "it was replaced meanwhile",
                "try again",
            )),
        }
    }

    /// Makes the file in the root that it is to be seen as.
    ///
    /// # Errors
    /// Where a directory stands there; calls' own.
    pub fn place(&self, root: &Folder, options: &Options) -> Result<Placed, PeerError> {
        let file = root.file(&self.name, 0o600)?;
        let failed = |e: &dyn std::fmt::Display| {
            PeerError::path(
                "make",
                &root.path().join(&self.name),
                e,
                "see that there is space",
            )
        };
        let original = self.reopen()?;
        let mounted = options.with(Addition::ExecMount) && self.mode & FOR_ALL == FOR_ALL;
        let tree = match mounted {
            true => clone(&original)?,
            false => None,
        };
        if tree.is_none() {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let readable = openat(CWD, &self.path, flags, Mode::empty()).map_err(|e| failed(&e))?;
            let stat = fstat(&readable).map_err(|e| failed(&e))?;
            if (stat.st_dev, stat.st_ino) != self.inode {
                return Err(failed(&"the exec file was replaced meanwhile"));
            }
            std::io::copy(&mut fs::File::from(readable), &mut &file).map_err(|e| failed(&e))?;
        }
        let (uid, gid) = (Uid::from_raw(options.uid), Gid::from_raw(options.gid));
        fchown(&file, Some(uid), Some(gid))
            .and_then(|()| fchmod(&file, Mode::from_raw_mode(self.mode)))
            .map_err(|e| failed(&e))?;
        let own = fstat(&file).map_err(|e| failed(&e))?;
        Ok(Placed {
            inode: match tree {
                Some(_) => self.inode,
                None => (own.st_dev, own.st_ino),
            },
            original: tree,
        })
    }
}

/// A read-only mount of the file; `None` where its mount cannot be cloned.
fn clone(original: &OwnedFd) -> Result<Option<OwnedFd>, PeerError> {
    match clone_of(original.as_fd(), false) {
        Ok(tree) => Ok(Some(tree)),
        Err(Errno::INVAL) => Ok(None),
        Err(e) => Err(PeerError::layer(
            Addition::ExecMount,
            format!("cannot be made: open_tree of the exec file: {e}"),
            "run Linux 5.12 or later with CAP_SYS_ADMIN",
        )),
    }
}

impl Placed {
    /// Mounts it read-only at its name. `root` is the mount of the root.
    ///
    /// # Errors
    /// The calls' own.
    pub fn mount(&mut self, root: &Folder, name: &OsString) -> Result<(), PeerError> {
        let failed = |e: Errno| {
            PeerError::path(
                "mount the exec file read-only at",
                &root.path().join(name),
                e,
                "run Linux 5.12 or later with CAP_SYS_ADMIN",
            )
        };
        let target = root.handle(name)?;
        let tree = match self.original.take() {
            Some(tree) => tree,
            None => clone_of(target.as_fd(), false).map_err(failed)?,
        };
        set_attributes(
            tree.as_fd(),
            Attributes::READ_ONLY | Attributes::NOSUID,
            false,
        )
        .and_then(|()| attach(tree.as_fd(), target.as_fd()))
        .map_err(failed)
    }
}
