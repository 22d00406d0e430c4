//! One open folder.

use crate::DirError;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, open, openat2, statat,
};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Nothing below a folder of ours is reached through a link or a `..`.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// An open directory of ours: the user's whom we run as, root or not, mode 0700, no link.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
    owner: u32,
}

impl Dir {
    /// Opens a folder by its path, making it if need be. Its parents are the operator's
    /// own and may be links (`/var/run`); itself may not.
    ///
    /// # Errors
    /// Where the path is relative, something else stands there, or it is not ours alone.
    pub fn top(path: &Path) -> Result<Self, DirError> {
        let bad = || DirError::BadPath {
            path: path.to_owned(),
        };
        let name = path
            .file_name()
            .filter(|_| path.is_absolute())
            .ok_or_else(bad)?;
        let parent = path.parent().ok_or_else(bad)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = open(parent, flags, Mode::empty()).map_err(|source| DirError::Call {
            what: "open",
            path: parent.to_owned(),
            source,
        })?;
        let parent = Self {
            fd,
            path: parent.to_owned(),
            owner: geteuid().as_raw(),
        };
        parent.subdir(name)
    }

    /// As [`Self::top`], but makes nothing: `None` where there is no such folder.
    ///
    /// # Errors
    /// As [`Self::top`].
    pub fn existing(path: &Path) -> Result<Option<Self>, DirError> {
        match open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT) => Ok(None),
            _ => Self::top(path).map(Some),
        }
    }

    /// Makes (if need be) and opens a directory below this one.
    ///
    /// # Errors
    /// [`DirError::Foreign`] where something else stands there or it is not ours alone;
    /// `ENOENT` in [`DirError::Call`] where it was removed in between.
    pub fn subdir(&self, name: impl AsRef<OsStr>) -> Result<Self, DirError> {
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
    pub fn open_subdir(&self, name: impl AsRef<OsStr>) -> Result<Self, DirError> {
        let name = name.as_ref();
        let path = self.path.join(name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match openat2(&self.fd, name, flags, Mode::empty(), RESOLVE) {
            Ok(fd) => fd,
            Err(Errno::LOOP | Errno::NOTDIR) => {
                let found = self.what_stands_at(name);
                return Err(DirError::Foreign { path, found });
            }
            Err(source) => return Err(self.failed("open", name, source)),
        };
        let stat = fstat(&fd).map_err(|source| self.failed("stat", name, source))?;
        let mode = Mode::from_raw_mode(stat.st_mode);
        if stat.st_uid != self.owner || mode.intersects(Mode::RWXG | Mode::RWXO) {
            return Err(DirError::Foreign {
                path,
                found: format!(
                    "owned by uid {} with mode {:o}, not {} with mode 700",
                    stat.st_uid,
                    mode.bits(),
                    self.owners()
                ),
            });
        }
        Ok(Self {
            fd,
            path,
            owner: self.owner,
        })
    }

    /// Opens (with `O_CREAT` in `flags`: makes, mode 0600) a regular file in this directory.
    ///
    /// # Errors
    /// The call's own; [`DirError::Foreign`] where it is no regular file of ours.
    pub fn file(&self, name: &str, flags: OFlags) -> Result<OwnedFd, DirError> {
        // Without O_NONBLOCK, opening a FIFO somebody placed here would wait for ever.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let mode = match flags.contains(OFlags::CREATE) {
            true => Mode::RUSR | Mode::WUSR,
            false => Mode::empty(),
        };
        let foreign = || DirError::Foreign {
            path: self.path.join(name),
            found: self.what_stands_at(OsStr::new(name)),
        };
        let fd = match openat2(&self.fd, name, flags, mode, RESOLVE) {
            Ok(fd) => fd,
            Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => return Err(foreign()),
            Err(source) => return Err(self.failed("open", OsStr::new(name), source)),
        };
        let stat = fstat(&fd).map_err(|source| self.failed("stat", OsStr::new(name), source))?;
        // More than one link: somebody could have linked a file of ours to this name.
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile
            || stat.st_uid != self.owner
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
    pub fn names(&self) -> Result<Vec<String>, DirError> {
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
    pub fn remove_file(&self, name: &str) -> Result<(), DirError> {
        self.remove(name, AtFlags::empty())
    }

    /// Removes an empty directory; one that is not there, or in which somebody else has
    /// started something, is well.
    ///
    /// # Errors
    /// The call's own.
    pub fn remove_dir(&self, name: &str) -> Result<(), DirError> {
        self.remove(name, AtFlags::REMOVEDIR)
    }

    fn remove(&self, name: &str, flags: AtFlags) -> Result<(), DirError> {
        match rustix::fs::unlinkat(&self.fd, name, flags) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY) => Ok(()),
            Err(source) => Err(self.failed("remove", OsStr::new(name), source)),
        }
    }

    /// Where it stands, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The error of a call on `name` in this folder.
    pub fn failed(&self, what: &'static str, name: &OsStr, source: Errno) -> DirError {
        DirError::Call {
            what,
            path: self.path.join(name),
            source,
        }
    }

    /// The owner, in words.
    fn owners(&self) -> String {
        match self.owner {
            0 => "root's".to_owned(),
            uid => format!("uid {uid}'s"),
        }
    }

    fn what_stands_at(&self, name: &OsStr) -> String {
        let kind = statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .map(|stat| FileType::from_raw_mode(stat.st_mode));
        let kind = match kind {
            Ok(FileType::Symlink) => "a symbolic link",
            Ok(FileType::Directory) => "a directory",
            Ok(FileType::RegularFile) => {
                return format!("a file that is not {} alone", self.owners());
            }
            Ok(FileType::Fifo) => "a FIFO",
            Ok(FileType::Socket) => "a socket",
            Ok(FileType::BlockDevice | FileType::CharacterDevice) => "a device",
            _ => "not a file of ours",
        };
        kind.to_owned()
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn folder() -> (tempfile::TempDir, Dir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::top(&temp.path().join("ours")).unwrap();
        (temp, dir)
    }

    #[test]
    fn what_others_placed_at_a_files_name_is_refused() {
        let (temp, dir) = folder();
        let precious = temp.path().join("precious");
        std::fs::write(&precious, "precious").unwrap();
        let at = dir.path().join("file");
        let fifo = |path: &Path| {
            rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap();
        };
        let place: [&dyn Fn(); 5] = [
            &|| symlink(&precious, &at).unwrap(),
            &|| std::fs::hard_link(&precious, &at).unwrap(),
            &|| fifo(&at),
            &|| std::fs::create_dir(&at).unwrap(),
            &|| drop(std::os::unix::net::UnixListener::bind(&at).unwrap()),
        ];
        for place in place {
            place();
            for flags in [OFlags::CREATE | OFlags::RDWR, OFlags::RDONLY] {
                let error = dir.file("file", flags).unwrap_err();
                assert!(matches!(error, DirError::Foreign { .. }), "{error}");
            }
            std::fs::remove_file(&at)
                .or_else(|_| std::fs::remove_dir(&at))
                .unwrap();
        }
        assert_eq!(std::fs::read_to_string(precious).unwrap(), "precious");
        dir.file("file", OFlags::CREATE | OFlags::RDWR).unwrap();
    }

    #[test]
    fn a_folder_that_is_not_ours_alone_is_refused() {
        let (temp, dir) = folder();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let error = Dir::top(dir.path()).unwrap_err();
        assert!(error.to_string().contains("755"), "{error}");
        if geteuid().is_root() {
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
            std::os::unix::fs::chown(dir.path(), Some(4242), None).unwrap();
            let error = Dir::top(dir.path()).unwrap_err();
            assert!(error.to_string().contains("4242"), "{error}");
        }
        symlink("ours", temp.path().join("link")).unwrap();
        assert!(Dir::top(&temp.path().join("link")).is_err());
        assert!(Dir::top(Path::new("relative")).is_err());
        assert!(Dir::existing(&temp.path().join("none")).unwrap().is_none());
    }

    #[test]
    fn what_is_missing_is_told_from_what_fails() {
        let (_temp, dir) = folder();
        assert!(dir.file("none", OFlags::RDONLY).unwrap_err().is_missing());
        assert!(dir.open_subdir("none").unwrap_err().is_missing());
        dir.remove_file("none").unwrap();
    }
}
