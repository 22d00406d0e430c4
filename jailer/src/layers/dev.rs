//! `/dev`: five nodes of the host's, bind-mounted one by one, and nothing else.

use super::root::{self, Shown};
use super::{StepError, mounts};
use casemate_policy::{Filesystem, Proc};
use rustix::fs::{FileType, Mode, OFlags, fstat, major, minor, mkdirat, open, openat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, MountAttrFlags, OpenTreeFlags, fsmount, open_tree};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Where it is.
pub const PATH: &str = "/dev";

/// What closes a file off.
pub const NULL: &str = "/dev/null";

/// Names and numbers (Linux' devices.txt).
const NODES: [(&str, (u32, u32)); 5] = [
    ("null", (1, 3)),
    ("zero", (1, 5)),
    ("full", (1, 7)),
    ("random", (1, 8)),
    ("urandom", (1, 9)),
];

/// What programs expect, where there is a `/proc`.
const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Inodes that it takes in the root's tmpfs.
pub const INODES: usize = 1 + NODES.len() + LINKS.len();

/// Makes it below `root`; `foreign`: the root is a tree of the host's, where a tmpfs must be
/// put over the `/dev` that is there.
pub fn furnish(
    root: BorrowedFd<'_>,
    filesystem: &Filesystem,
    foreign: bool,
) -> Result<(), StepError> {
    let dir = match foreign {
        true => over(root).map_err(root::failed("putting a tmpfs over /dev"))?,
        false => make(root).map_err(root::failed("making /dev"))?,
    };
    for (name, number) in NODES {
        bind(dir.as_fd(), name, number)?;
    }
    if filesystem.proc == Proc::Pids {
        for (name, target) in LINKS {
            symlinkat(target, &dir, name).map_err(root::failed("making links in /dev"))?;
        }
    }
    if foreign {
        mounts::set_attributes(
            dir.as_fd(),
            root::CLOSED | MountAttrFlags::MOUNT_ATTR_RDONLY,
            None,
        )
        .map_err(root::failed("making /dev read-only"))?;
    }
    Ok(())
}

fn make(root: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    match mkdirat(root, "dev", Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e),
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(root, "dev", flags, Mode::empty())
}

fn over(root: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let inodes = (INODES + 1).to_string();
    let fs = root::tmpfs(&[("size", "4096"), ("nr_inodes", &inodes), ("mode", "0755")])?;
    let tree = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, root::CLOSED)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let point = openat(root, "dev", flags, Mode::empty())?;
    root::attach(tree.as_fd(), point.as_fd(), "")?;
    Ok(tree)
}

fn bind(dir: BorrowedFd<'_>, name: &str, number: (u32, u32)) -> Result<(), StepError> {
    let path = format!("{PATH}/{name}");
    let failed = |e: Errno| {
        StepError::new(
            format!("binding {path}"),
            e,
            "see that the host's /dev has it, and run the jailer with CAP_SYS_ADMIN",
        )
    };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = open(&path, flags, Mode::empty()).map_err(failed)?;
    let stat = fstat(&node).map_err(failed)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind != FileType::CharacterDevice || (major(stat.st_rdev), minor(stat.st_rdev)) != number {
        return Err(StepError::new(
            format!("binding {path}"),
            format!("it is not character device {}:{}", number.0, number.1),
            "mend the host's /dev",
        ));
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(&node, "", flags).map_err(failed)?;
    mounts::set_attributes(tree.as_fd(), ATTRIBUTES, None).map_err(failed)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let point = openat(dir, name, flags, Mode::from_raw_mode(0o444)).map_err(failed)?;
    root::attach(tree.as_fd(), point.as_fd(), "").map_err(failed)
}

/// Devices are what these mounts are for.
const ATTRIBUTES: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Its mounts.
pub fn declared(filesystem: &Filesystem) -> Vec<Shown> {
    if !filesystem.dev {
        return Vec::new();
    }
    let mut all: Vec<Shown> = NODES
        .iter()
        .map(|(name, _)| Shown {
            point: format!("{PATH}/{name}"),
            options: vec!["nosuid", "noexec"],
            kind: None,
        })
        .collect();
    if mounts::whole_root(&filesystem.mounts).is_some() {
        all.push(Shown {
            point: PATH.to_owned(),
            options: vec!["ro", "nosuid", "nodev", "noexec"],
            kind: Some("tmpfs"),
        });
    }
    all
}
