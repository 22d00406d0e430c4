//! The run directory itself, and the one way to open anything below it.

use super::StateError;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, open, openat2, statat,
};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Nothing below the run directory is reached through a link or a `..`.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// An open directory of ours: root's, mode 0700, no link.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

/// The run directory.
pub type RunDir = Dir;

impl Dir {
    /// Opens the run directory, making it if need be. Its parents may be links (`/var/run`);
    /// itself may not.
    ///
    /// # Errors
    /// Where the path is relative, something else stands there, or it is not root's alone.
    pub fn run_dir(path: &Path) -> Result<Self, StateError> {
        let bad = || StateError::BadPath {
            path: path.to_owned(),
        };
        let name = path
            .file_name()
            .filter(|_| path.is_absolute())
            .ok_or_else(bad)?;
        let parent = path.parent().ok_or_else(bad)?;
        let fd = rustix::fs::openat(
            CWD,
            parent,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|source| StateError::Call {
            what: "open",
            path: parent.to_owned(),
            source,
        })?;
        let parent = Self {
            fd,
            path: parent.to_owned(),
        };
        parent.subdir(name)
    }

    /// Opens the run directory if there is one.
    ///
    /// # Errors
    /// As [`Self::run_dir`].
    pub fn existing(path: &Path) -> Result<Option<Self>, StateError> {
        match open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT) => Ok(None),
            _ => Self::run_dir(path).map(Some),
        }
    }

    /// Makes (if need be) and opens a directory below this one.
    ///
    /// # Errors
    /// [`StateError::Foreign`] where something else stands there or it is not root's alone;
    /// `ENOENT` in [`StateError::Call`] where it was removed in between.
    pub fn subdir(&self, name: impl AsRef<OsStr>) -> Result<Self, StateError> {
        let name = name.as_ref();
        match mkdirat(&self.fd, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => self.open_subdir(name),
            Err(source) => Err(self.failed("create", name, source)),
        }
    }

    /// Opens a directory that is there.
    ///
    /// # Errors
    /// As [`Self::subdir`].
    pub fn open_subdir(&self, name: impl AsRef<OsStr>) -> Result<Self, StateError> {
        let name = name.as_ref();
        let path = self.path.join(name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match openat2(&self.fd, name, flags, Mode::empty(), RESOLVE) {
            Ok(fd) => fd,
            Err(Errno::LOOP | Errno::NOTDIR) => {
                let found = self.what_stands_at(name);
                return Err(StateError::Foreign { path, found });
            }
            Err(source) => return Err(self.failed("open", name, source)),
        };
        let stat = fstat(&fd).map_err(|source| self.failed("stat", name, source))?;
        let mode = Mode::from_raw_mode(stat.st_mode);
        if stat.st_uid != 0 || mode.intersects(Mode::RWXG | Mode::RWXO) {
            return Err(StateError::Foreign {
                path,
                found: format!(
                    "owned by uid {} with mode {:o}, not root's with mode 700",
                    stat.st_uid,
                    mode.bits()
                ),
            });
        }
        Ok(Self { fd, path })
    }

    /// Opens (with `O_CREAT` in `flags`: makes, mode 0600) a regular file in this directory.
    ///
    /// # Errors
    /// The call's own; [`StateError::Foreign`] where it is no regular file of root's.
    pub fn file(&self, name: &str, flags: OFlags) -> Result<OwnedFd, StateError> {
        // Without O_NONBLOCK, opening a FIFO somebody placed here would wait for ever.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let mode = match flags.contains(OFlags::CREATE) {
            true => Mode::RUSR | Mode::WUSR,
            false => Mode::empty(),
        };
        let foreign = || StateError::Foreign {
            path: self.path.join(name),
            found: self.what_stands_at(OsStr::new(name)),
        };
        let fd = match openat2(&self.fd, name, flags, mode, RESOLVE) {
            Ok(fd) => fd,
            Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => return Err(foreign()),
            Err(source) => return Err(self.failed("open", OsStr::new(name), source)),
        };
        let stat = fstat(&fd).map_err(|source| self.failed("stat", OsStr::new(name), source))?;
        // More than one link: somebody could have linked a file of root's to this name.
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile
            || stat.st_uid != 0
            || stat.st_nlink > 1
        {
            return Err(foreign());
        }
        Ok(fd)
    }

    /// Names in this directory, `.` and `..` left out.
    ///
    /// # Errors
    /// The call's own.
    pub fn names(&self) -> Result<Vec<String>, StateError> {
        let failed = |source| self.failed("list", OsStr::new(""), source);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Removes a file; one that is not there is well.
    ///
    /// # Errors
    /// The call's own.
    pub fn remove_file(&self, name: &str) -> Result<(), StateError> {
        self.remove(name, AtFlags::empty())
    }

    /// Removes an empty directory; one that is not there, or in which somebody else has
    /// started something, is well.
    ///
    /// # Errors
    /// The call's own.
    pub fn remove_dir(&self, name: &str) -> Result<(), StateError> {
        self.remove(name, AtFlags::REMOVEDIR)
    }

    fn remove(&self, name: &str, flags: AtFlags) -> Result<(), StateError> {
        match rustix::fs::unlinkat(&self.fd, name, flags) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY) => Ok(()),
            Err(source) => Err(self.failed("remove", OsStr::new(name), source)),
        }
    }

    /// Where it stands, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn failed(&self, what: &'static str, name: &OsStr, source: Errno) -> StateError {
        StateError::Call {
            what,
            path: self.path.join(name),
            source,
        }
    }

    fn what_stands_at(&self, name: &OsStr) -> String {
        let kind = statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .map(|stat| FileType::from_raw_mode(stat.st_mode));
        match kind {
            Ok(FileType::Symlink) => "a symbolic link",
            Ok(FileType::Directory) => "a directory",
            Ok(FileType::RegularFile) => "a file that is not root's alone",
            Ok(FileType::Fifo) => "a FIFO",
            Ok(FileType::Socket) => "a socket",
            Ok(FileType::BlockDevice | FileType::CharacterDevice) => "a device",
            _ => "not a file of ours",
        }
        .to_owned()
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
