//! Directories of the jail, and the one way to reach or make anything in them.
//!
//! Whoever has the jail's uid may have placed anything below the root, and may be renaming
//! it at this moment. So nothing is reached through more than one name, from an open
//! directory, with openat2(2) refusing links of every kind; what is made is made with
//! `O_EXCL` or its like and looked at through its own fd; what stands in the way at a name
//! of ours is unlinked, never opened.

use super::error::PeerError;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, chownat, fchmod, fchown,
    fstat, mkdirat, mknodat, openat, openat2, statat, unlinkat,
};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// Tries at a name that somebody else fills as often as we empty it.
const ATTEMPTS: u32 = 64;

const REMEDY: &str = "see that the folder is root's and that there is space";

/// An open directory.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    path: PathBuf,
    /// Whose directories below are taken besides root's; `None`: anybody's.
    owners: Option<Vec<u32>>,
}

impl Folder {
    /// Opens a directory that the operator names: it may be reached through links.
    ///
    /// # Errors
    /// The call's own.
    pub fn operators(path: &Path, owners: &[u32]) -> Result<Self, PeerError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, path, flags, Mode::empty()).map_err(|e| {
            PeerError::path(
                "open",
                path,
                e,
                "give a folder that is there (mkdir -p -m 755)",
            )
        })?;
        Ok(Self {
            fd,
            path: path.to_owned(),
            owners: Some(owners.to_vec()),
        })
    }

    /// Opens a directory of a cgroup hierarchy, in which an operator may have handed
    /// sub-trees to other users.
    ///
    /// # Errors
    /// The call's own.
    pub fn anyones(path: &Path) -> Result<Self, PeerError> {
        Ok(Self {
            owners: None,
            ..Self::operators(path, &[])?
        })
    }

    /// The same directory by another fd, such as one of a mount of it.
    pub fn again(&self, fd: OwnedFd) -> Self {
        Self {
            fd,
            path: self.path.clone(),
            owners: self.owners.clone(),
        }
    }

    /// Opens a directory that is there.
    ///
    /// # Errors
    /// [`PeerError::Foreign`] where something else is, or somebody else's; the call's own.
    pub fn open(&self, name: impl AsRef<OsStr>) -> Result<Self, PeerError> {
        let name = name.as_ref();
        match self.open_or_errno(name)? {
            Ok(folder) => Ok(folder),
            Err(e) => Err(PeerError::path("open", &self.path.join(name), e, REMEDY)),
        }
    }

    /// Opens a directory if it is there.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn existing(&self, name: impl AsRef<OsStr>) -> Result<Option<Self>, PeerError> {
        let name = name.as_ref();
        match self.open_or_errno(name)? {
            Ok(folder) => Ok(Some(folder)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(PeerError::path("open", &self.path.join(name), e, REMEDY)),
        }
    }

    fn open_or_errno(&self, name: &OsStr) -> Result<Result<Self, Errno>, PeerError> {
        let path = self.path.join(name);
        let foreign = |found: String| PeerError::Foreign {
            path: path.clone(),
            found,
            wanted: "a directory of root's or the jail's user's",
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match openat2(&self.fd, name, flags, Mode::empty(), RESOLVE) {
            Ok(fd) => fd,
            Err(Errno::LOOP | Errno::NOTDIR | Errno::XDEV) => {
                return Err(foreign(self.what_stands_at(name)));
            }
            Err(e) => return Ok(Err(e)),
        };
        let stat = fstat(&fd).map_err(|e| PeerError::path("stat", &path, e, REMEDY))?;
        let others = |owners: &Vec<u32>| stat.st_uid != 0 && !owners.contains(&stat.st_uid);
        if self.owners.as_ref().is_some_and(others) {
            return Err(foreign(format!("a directory of uid {}", stat.st_uid)));
        }
        Ok(Ok(Self {
            fd,
            path,
            owners: self.owners.clone(),
        }))
    }

    /// Makes a directory if need be, and opens it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn make(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<Self, PeerError> {
        let name = name.as_ref();
        match mkdirat(&self.fd, name, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(Errno::EXIST) => self.open(name),
            Err(e) => Err(PeerError::path("create", &self.path.join(name), e, REMEDY)),
        }
    }

    /// As [`Self::make`], but what stands at the name and is no directory is unlinked.
    ///
    /// # Errors
    /// As [`Self::make`].
    pub fn make_afresh(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<Self, PeerError> {
        let name = name.as_ref();
        if self.stat(name).is_some() && !self.has_folder(name) {
            self.remove(name)?;
        }
        self.make(name, mode)
    }

    /// Whether a directory stands at a name, whoever's it is.
    pub fn has_folder(&self, name: impl AsRef<OsStr>) -> bool {
        self.stat(name)
            .is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }

    /// Gives the directory an owner and a mode.
    ///
    /// # Errors
    /// The calls' own.
    pub fn own(&self, uid: u32, gid: u32, mode: u32) -> Result<(), PeerError> {
        fchown(&self.fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .and_then(|()| fchmod(&self.fd, Mode::from_raw_mode(mode)))
            .map_err(|e| PeerError::path("change the owner of", &self.path, e, REMEDY))
    }

    /// Makes a new file; what stood at the name is unlinked.
    ///
    /// # Errors
    /// [`PeerError::Foreign`] where a directory stands there; the calls' own.
    pub fn file(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<File, PeerError> {
        let name = name.as_ref();
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self.afresh(name, || {
            openat2(&self.fd, name, flags, Mode::from_raw_mode(mode), RESOLVE)
        })?;
        self.check(name, &fd, FileType::RegularFile, 0)?;
        Ok(File::from(fd))
    }

    /// Makes a character device, readable and writable by its owner; what stood at the name
    /// is unlinked.
    ///
    /// # Errors
    /// As [`Self::file`].
    pub fn device(
        &self,
        name: impl AsRef<OsStr>,
        device: u64,
        uid: u32,
        gid: u32,
    ) -> Result<(), PeerError> {
        let name = name.as_ref();
        let mode = Mode::RUSR | Mode::WUSR;
        self.afresh(name, || {
            mknodat(&self.fd, name, FileType::CharacterDevice, mode, device)
        })?;
        let fd = self.handle(name)?;
        self.check(name, &fd, FileType::CharacterDevice, device)?;
        chownat(
            &fd,
            "",
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
            AtFlags::EMPTY_PATH,
        )
        .map_err(|e| PeerError::path("change the owner of", &self.path.join(name), e, REMEDY))
    }

    /// An `O_PATH` fd of what stands at a name, itself and not what it may point to.
    ///
    /// # Errors
    /// The call's own.
    pub fn handle(&self, name: impl AsRef<OsStr>) -> Result<OwnedFd, PeerError> {
        let name = name.as_ref();
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat2(&self.fd, name, flags, Mode::empty(), RESOLVE)
            .map_err(|e| PeerError::path("open", &self.path.join(name), e, REMEDY))
    }

    /// Opens a file that is there, for reading or writing.
    ///
    /// # Errors
    /// The call's own.
    pub fn existing_file(&self, name: &str, flags: OFlags) -> Result<File, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        openat2(&self.fd, name, flags, Mode::empty(), RESOLVE).map(File::from)
    }

    /// Calls `make` at a name that was emptied before.
    fn afresh<T>(&self, name: &OsStr, make: impl Fn() -> Result<T, Errno>) -> Result<T, PeerError> {
        for _ in 0..ATTEMPTS {
            match make() {
                Ok(made) => return Ok(made),
                Err(Errno::EXIST) => self.remove(name)?,
                Err(e) => {
                    let path = self.path.join(name);
                    return Err(PeerError::path("create", &path, e, REMEDY));
                }
            }
        }
        Err(PeerError::Foreign {
            path: self.path.join(name),
            found: "made again as often as it is removed".to_owned(),
            wanted: "free",
        })
    }

    /// Looks at what was just made: it is root's, has one name and is of its kind. Whatever
    /// somebody may have moved here meanwhile is not.
    fn check(
        &self,
        name: &OsStr,
        fd: &OwnedFd,
        kind: FileType,
        rdev: u64,
    ) -> Result<(), PeerError> {
        let path = self.path.join(name);
        let stat = fstat(fd).map_err(|e| PeerError::path("stat", &path, e, REMEDY))?;
        let good = FileType::from_raw_mode(stat.st_mode) == kind
            && stat.st_rdev == rdev
            && stat.st_uid == 0
            && stat.st_nlink == 1;
        match good {
            true => Ok(()),
            false => Err(PeerError::Foreign {
                path,
                found: self.what_stands_at(name),
                wanted: "what was made there a moment ago",
            }),
        }
    }

    /// Removes a name that is no directory's; one that is not there is well.
    ///
    /// # Errors
    /// [`PeerError::Foreign`] where it is a directory's; the call's own.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> Result<(), PeerError> {
        let name = name.as_ref();
        let path = self.path.join(name);
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => Err(PeerError::Foreign {
                path,
                found: self.what_stands_at(name),
                wanted: "something that can be replaced",
            }),
            Err(e) => Err(PeerError::path("remove", &path, e, REMEDY)),
        }
    }

    /// Removes a directory if it is there and empty.
    pub fn remove_folder(&self, name: impl AsRef<OsStr>) {
        let _ = unlinkat(&self.fd, name.as_ref(), AtFlags::REMOVEDIR);
    }

    /// What stands at a name, itself.
    pub fn stat(&self, name: impl AsRef<OsStr>) -> Option<Stat> {
        statat(&self.fd, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW).ok()
    }

    /// Device and inode.
    ///
    /// # Errors
    /// The call's own.
    pub fn inode(&self) -> Result<(u64, u64), PeerError> {
        fstat(&self.fd)
            .map(|stat| (stat.st_dev, stat.st_ino))
            .map_err(|e| PeerError::path("stat", &self.path, e, REMEDY))
    }

    /// Names in it, without `.` and `..`.
    ///
    /// # Errors
    /// The call's own.
    pub fn names(&self) -> Result<Vec<OsString>, PeerError> {
        let failed = |e| PeerError::path("list", &self.path, e, REMEDY);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Where it was found, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn what_stands_at(&self, name: &OsStr) -> String {
        let Some(stat) = self.stat(name) else {
            return "gone".to_owned();
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => "a symbolic link",
            FileType::Directory => "a directory",
            FileType::RegularFile => "a file",
            FileType::Fifo => "a FIFO",
            FileType::Socket => "a socket",
            _ => "a device",
        };
        match stat.st_nlink {
            links if links > 1 && kind != "a directory" => format!("{kind} with {links} names"),
            _ => kind.to_owned(),
        }
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_is_reached_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("f"), "precious").unwrap();
        symlink(outside.path(), dir.path().join("d")).unwrap();
        symlink(outside.path().join("f"), dir.path().join("f")).unwrap();
        let folder = Folder::operators(dir.path(), &[]).unwrap();
        assert!(matches!(folder.open("d"), Err(PeerError::Foreign { .. })));
        assert!(matches!(
            folder.make("d", 0o755),
            Err(PeerError::Foreign { .. })
        ));
        assert!(matches!(folder.open(".."), Err(PeerError::Foreign { .. })));
        folder.file("f", 0o600).unwrap();
        assert!(dir.path().join("f").symlink_metadata().unwrap().is_file());
        let kept = std::fs::read(outside.path().join("f")).unwrap();
        assert_eq!(kept, b"precious");
    }

    #[test]
    fn a_directory_at_a_files_name_is_told() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("f")).unwrap();
        let folder = Folder::operators(dir.path(), &[]).unwrap();
        let line = folder.file("f", 0o600).unwrap_err().to_string();
        assert!(line.contains("is a directory"), "{line}");
    }
}
