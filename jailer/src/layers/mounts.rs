//! The policy's mounts, by fds all the way: open_tree(2), mount_setattr(2), move_mount(2).
//!
//! A mount of the host's is that one mount: what else is mounted below it there is not
//! brought along, or where it must be, is covered. All are private, nosuid and nodev; `rw` and `tmpfs` also noexec.

use super::root::{self, Shown};
use super::{StepError, covers, dev, libc_result};
use crate::child::{Jail, Note};
use crate::resolve;
use crate::rights::Rights;
use casemate_policy::{Filesystem, Mount, MountKind, Proc};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, MountAttrFlags, OpenTreeFlags, fsmount, open_tree};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Component, Path, PathBuf};

const REMEDY: &str = "run the jailer with CAP_SYS_ADMIN on Linux 5.12 or later";

/// The mount that is the root itself, by its place in the list.
pub fn whole_root(mounts: &[Mount]) -> Option<usize> {
    mounts
        .iter()
        .position(|mount| mount.jail == "/" && !matches!(mount.kind, MountKind::Tmpfs { .. }))
}

/// Inodes that the root's tmpfs needs for mount points.
pub fn inodes(filesystem: &Filesystem) -> usize {
    let points: usize = filesystem
        .mounts
        .iter()
        .map(|mount| Path::new(&*mount.jail).components().count())
        .sum();
    // Its own root, /proc, and /dev with what is in it.
    points + 2 + dev::INODES
}

/// Mounts everything below `root` but the mount that `root` is (`whole`).
pub fn furnish(
    jail: &mut Jail<'_>,
    root: BorrowedFd<'_>,
    whole: Option<usize>,
) -> Result<(), StepError> {
    let filesystem = &jail.plan.policy.filesystem;
    // Where mount points may be made: file systems of ours.
    let mut ours = BTreeSet::new();
    if whole.is_none() {
        ours.insert(device(root)?);
    }
    for (at, mount) in filesystem.mounts.iter().enumerate() {
        if whole == Some(at) {
            continue;
        }
        let (tree, below) = match mount.kind {
            MountKind::Tmpfs { bytes } => {
                let tree = fresh(jail, bytes)
                    .map_err(|e| failed(format!("making a tmpfs for {}", mount.jail), e))?;
                ours.insert(device(tree.as_fd())?);
                (tree, Vec::new())
            }
            _ => match present(jail, at)? {
                Some(Tree { fd, below }) => (fd, below),
                None => {
                    jail.absent.insert(at);
                    jail.note(Note::Absent(at));
                    continue;
                }
            },
        };
        place(root, tree.as_fd(), mount, &ours)?;
        covers::put(jail, tree.as_fd(), &mount.jail, &below)?;
    }
    if filesystem.dev {
        dev::furnish(root, filesystem, whole.is_some())?;
    }
    if filesystem.proc == Proc::Pids {
        let tree = root::proc().map_err(|e| {
            StepError::new(
                "mounting /proc with hidepid and subset",
                e,
                "run Linux 5.8 or later",
            )
        })?;
        let point = point(root, Path::new(root::PROC), true, &ours)?;
        root::attach(tree.as_fd(), point.as_fd(), "")
            .map_err(|e| failed("mounting /proc".to_owned(), e))?;
    }
    Ok(())
}

fn failed(what: String, e: Errno) -> StepError {
    StepError::new(what, e, REMEDY)
}

fn device(fd: BorrowedFd<'_>) -> Result<u64, StepError> {
    fstat(fd)
        .map(|stat| stat.st_dev)
        .map_err(|e| failed("looking at a mount".to_owned(), e))
}

/// A detached copy of a mount of the host's.
pub struct Tree {
    /// It.
    pub fd: OwnedFd,
    /// What else is mounted below it and had to be brought along: to be covered.
    pub below: Vec<PathBuf>,
}

/// The tree of a mount of the host's; `None` where it is optional and not there.
fn present(jail: &Jail<'_>, at: usize) -> Result<Option<Tree>, StepError> {
    let mount = &jail.plan.policy.filesystem.mounts[at];
    let found = match (&jail.plan.rights, jail.resolved.get(at)) {
        (Rights::Root, _) => resolve::operators_path(&*mount.host),
        (Rights::User(_), Some(Some(found))) => found.open(),
        // The supervisor has looked.
        (Rights::User(_), _) => return Ok(None),
    };
    match found {
        Ok(found) => tree(jail, at, found.as_fd()).map(Some),
        Err(e) if e.is_absence() && mount.optional => Ok(None),
        Err(e) => Err(StepError::new(
            format!("mounting {}", mount.host),
            e,
            "name another path, or leave it out",
        )),
    }
}

/// The same, of one that must be there.
pub fn open_host(jail: &Jail<'_>, at: usize) -> Result<Tree, StepError> {
    match present(jail, at)? {
        Some(tree) => Ok(tree),
        None => Err(StepError::new(
            "mounting the root",
            "it is not there",
            REMEDY,
        )),
    }
}

/// A detached copy of the mount at `found`, with the attributes of mount number `at`.
fn tree(jail: &Jail<'_>, at: usize, found: BorrowedFd<'_>) -> Result<Tree, StepError> {
    let mount = &jail.plan.policy.filesystem.mounts[at];
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let opened = |e| failed(format!("opening the tree of {}", mount.host), e);
    let (tree, below) = match (open_tree(found, "", flags), &jail.plan.rights) {
        // What an ordinary user has a copy of must hide what is hidden from it (MNT_LOCKED), so
        // it comes with all that is mounted below.
        (Err(Errno::INVAL), Rights::User(_)) => {
            let below = covers::below(found).map_err(opened)?;
            let flags = flags | OpenTreeFlags::AT_RECURSIVE;
            (open_tree(found, "", flags).map_err(opened)?, below)
        }
        (tree, _) => (tree.map_err(opened)?, Vec::new()),
    };
    let idmap = jail.idmaps.get(at).copied().flatten();
    set_attributes(tree.as_fd(), attributes(mount.kind), idmap).map_err(|e| {
        let remedy = match idmap {
            Some(_) => {
                "share it from a file system that has idmapped mounts (ext4, xfs, btrfs, tmpfs)"
            }
            None => REMEDY,
        };
        StepError::new(
            format!("setting the attributes of {}", mount.host),
            e,
            remedy,
        )
    })?;
    Ok(Tree { fd: tree, below })
}

/// An empty tmpfs of the cell's user.
fn fresh(jail: &Jail<'_>, bytes: u64) -> Result<OwnedFd, Errno> {
    let identity = jail.plan.identity;
    let fs = root::tmpfs(&[
        ("size", &bytes.to_string()),
        ("nr_inodes", &(bytes / 4096).max(64).to_string()),
        ("mode", "1777"),
        ("uid", &identity.uid.to_string()),
        ("gid", &identity.gid.to_string()),
    ])?;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, root::CLOSED)
}

fn attributes(kind: MountKind) -> MountAttrFlags {
    let nosuid_nodev = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    match kind {
        MountKind::Ro => nosuid_nodev | MountAttrFlags::MOUNT_ATTR_RDONLY,
        MountKind::RwExec => nosuid_nodev,
        MountKind::Rw | MountKind::Tmpfs { .. } => root::CLOSED,
    }
}

/// mount_setattr(2)'s argument.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// Sets attributes of one mount, makes it private, and maps its ids by a user namespace.
///
/// # Errors
/// mount_setattr(2)'s.
pub fn set_attributes(
    tree: BorrowedFd<'_>,
    attributes: MountAttrFlags,
    idmap: Option<RawFd>,
) -> Result<(), Errno> {
    let mut attr = MountAttr {
        set: attributes.bits().into(),
        clear: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    if let Some(fd) = idmap {
        attr.set |= MOUNT_ATTR_IDMAP;
        attr.userns_fd = fd as u64;
    }
    // SAFETY: the path is a C string, and `attr` is laid out as the kernel's struct
    // mount_attr of that size; both outlive the call.
    libc_result(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw mut attr,
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
    .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
}

/// Mounts a tree at its place below `root`.
fn place(
    root: BorrowedFd<'_>,
    tree: BorrowedFd<'_>,
    mount: &Mount,
    ours: &BTreeSet<u64>,
) -> Result<(), StepError> {
    let what = || format!("mounting {} at {}", kind(mount), mount.jail);
    let stat = fstat(tree).map_err(|e| failed(what(), e))?;
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let point = point(root, Path::new(&*mount.jail), directory, ours)?;
    root::attach(tree, point.as_fd(), "").map_err(|e| failed(what(), e))
}

fn kind(mount: &Mount) -> &str {
    match mount.kind {
        MountKind::Tmpfs { .. } => "a tmpfs",
        _ => &mount.host,
    }
}

/// Neither a link nor a `..` leads anywhere here: what is mounted may be full of them.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// Opens a mount point below `root`, and makes it where that is in a file system of ours.
fn point(
    root: BorrowedFd<'_>,
    path: &Path,
    directory: bool,
    ours: &BTreeSet<u64>,
) -> Result<OwnedFd, StepError> {
    let refused = |why: &str| {
        StepError::new(
            format!("the mount point {}", path.display()),
            why,
            "make it where that is mounted from, or name another place",
        )
    };
    let failed = |e: Errno| refused(&e.to_string());
    let names: Vec<_> = path
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect();
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = rustix::io::dup(root).map_err(failed)?;
    for (n, name) in names.iter().enumerate() {
        let last = n + 1 == names.len();
        let next = match openat2(&at, *name, flags, Mode::empty(), RESOLVE) {
            Err(Errno::NOENT) if ours.contains(&device(at.as_fd())?) => {
                if last && !directory {
                    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                    openat(&at, *name, flags, Mode::RUSR)
                        .map(drop)
                        .map_err(failed)?;
                } else {
                    mkdirat(&at, *name, Mode::from_raw_mode(0o755)).map_err(failed)?;
                }
                openat2(&at, *name, flags, Mode::empty(), RESOLVE)
            }
            opened => opened,
        };
        at = next.map_err(failed)?;
        let stat = fstat(&at).map_err(failed)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => return Err(refused("a symbolic link is on the way")),
            FileType::Directory if last && !directory => return Err(refused("is a directory")),
            FileType::Directory => {}
            _ if last && !directory => {}
            _ => return Err(refused("is no directory")),
        }
    }
    Ok(at)
}

/// The policy's mounts as they should show, but those that the host has no path for.
pub fn declared<'a>(
    filesystem: &'a Filesystem,
    absent: &'a BTreeSet<usize>,
) -> impl Iterator<Item = Shown> + 'a {
    let option = |set: MountAttrFlags, flag, name| set.contains(flag).then_some(name);
    filesystem
        .mounts
        .iter()
        .enumerate()
        .filter(|(at, _)| !absent.contains(at))
        .map(move |(_, mount)| {
            let set = attributes(mount.kind);
            Shown {
                point: trimmed(&mount.jail),
                options: [
                    option(set, MountAttrFlags::MOUNT_ATTR_RDONLY, "ro"),
                    option(set, MountAttrFlags::MOUNT_ATTR_NOSUID, "nosuid"),
                    option(set, MountAttrFlags::MOUNT_ATTR_NODEV, "nodev"),
                    option(set, MountAttrFlags::MOUNT_ATTR_NOEXEC, "noexec"),
                ]
                .into_iter()
                .flatten()
                .collect(),
                kind: matches!(mount.kind, MountKind::Tmpfs { .. }).then_some("tmpfs"),
            }
        })
}

/// A path without what says nothing in it.
fn trimmed(path: &str) -> String {
    Path::new(path)
        .components()
        .collect::<std::path::PathBuf>()
        .to_string_lossy()
        .into_owned()
}
