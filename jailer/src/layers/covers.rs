//! What else the host has mounted below a shared path: an ordinary user's copy of the path
//! comes with it, locked to it (mount_namespaces(7)). Nothing of it is to be seen in the jail, so
//! an empty file system is put over each such mount, which no program there can take away.

use super::root::{self, Line, Shown};
use super::{StepError, dev, mounts};
use crate::child::{Jail, Note};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags, fstat, openat2, readlinkat, statx,
};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, MountAttrFlags, OpenTreeFlags, fsmount, open_tree};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// What every cover is.
const ATTRIBUTES: MountAttrFlags = root::CLOSED.union(MountAttrFlags::MOUNT_ATTR_RDONLY);

/// Where other mounts are on the mount that `fd` is in, below `fd`, relative to it.
///
/// # Errors
/// Where `/proc` does not tell.
pub fn below(fd: BorrowedFd<'_>) -> Result<Vec<PathBuf>, Errno> {
    let stat = statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let path = readlinkat(rustix::fs::CWD, link, Vec::new())?;
    let path = PathBuf::from(OsString::from_vec(path.into_bytes()));
    let text = crate::read::text("/proc/self/mountinfo")
        .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    Ok(on(&text, stat.stx_mnt_id, &path))
}

/// The mounts on mount `id` that are below `path`, relative to it.
fn on(mountinfo: &str, id: u64, path: &Path) -> Vec<PathBuf> {
    let found: BTreeSet<PathBuf> = mountinfo
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let point = crate::cgroup::unescape(fields.get(4)?);
            let below = point.strip_prefix(path).ok()?.to_owned();
            let is_on_it = fields.get(1)?.parse() == Ok(id);
            (is_on_it && !below.as_os_str().is_empty()).then_some(below)
        })
        .collect();
    found.into_iter().collect()
}

/// Covers what is mounted at `below` in `tree`, which is mounted at `jail_path`.
///
/// # Errors
/// The calls' own. What is not covered would be to be seen.
pub fn put(
    jail: &mut Jail<'_>,
    tree: BorrowedFd<'_>,
    jail_path: &str,
    below: &[PathBuf],
) -> Result<(), StepError> {
    for path in below {
        let point = Path::new(jail_path).join(path);
        cover(tree, path).map_err(|e| {
            StepError::new(
                format!("covering what the host has mounted at {}", point.display()),
                e,
                "share the parts beside it one by one",
            )
        })?;
        jail.note(Note::Covered(point.to_string_lossy().into_owned()));
    }
    Ok(())
}

fn cover(tree: BorrowedFd<'_>, path: &Path) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let point = openat2(tree, path, flags, Mode::empty(), resolve)?;
    let cover = match FileType::from_raw_mode(fstat(&point)?.st_mode) {
        FileType::Directory => empty_directory()?,
        _ => closed_file()?,
    };
    root::attach(cover.as_fd(), point.as_fd(), "")
}

fn empty_directory() -> Result<OwnedFd, Errno> {
    let fs = root::tmpfs(&[("size", "4096"), ("nr_inodes", "1"), ("mode", "0555")])?;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, ATTRIBUTES)
}

/// Only a file can be put over a file; this one cannot be opened, being a device.
fn closed_file() -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(rustix::fs::CWD, dev::NULL, flags)?;
    mounts::set_attributes(tree.as_fd(), ATTRIBUTES, None)?;
    Ok(tree)
}

/// The mounts that can be reached, of all that a process has, without the covers at `covered`.
///
/// # Errors
/// Where something other than a cover or a declared mount is on top there.
pub fn uncovered(
    all: Vec<Line>,
    declared: &[Shown],
    covered: &BTreeSet<String>,
) -> Result<Vec<Shown>, String> {
    let on: BTreeMap<u32, u32> = all.iter().map(|line| (line.id, line.on)).collect();
    let (mut tops, mut under) = (BTreeSet::new(), BTreeSet::new());
    for point in covered {
        let stack: Vec<&Line> = all
            .iter()
            .filter(|line| line.shown.point == *point)
            .collect();
        for line in &stack {
            let is_top = !stack.iter().any(|other| other.on == line.id);
            let side = if is_top { &mut tops } else { &mut under };
            side.insert(line.id);
        }
    }
    // Down from a mount to those that it is on, whichever comes first.
    let is_hidden = |id: u32| {
        let way = std::iter::successors(Some(id), |id| on.get(id).copied());
        let met = way
            .take(all.len() + 1)
            .find(|id| tops.contains(id) || under.contains(id));
        met.is_some_and(|id| under.contains(&id))
    };
    let mut reached: Vec<Shown> = all
        .iter()
        .filter(|line| !is_hidden(line.id))
        .map(|line| line.shown.clone())
        .collect();
    for point in covered {
        if declared.iter().any(|mount| mount.point == *point) {
            continue;
        }
        match reached.iter().position(|mount| mount.point == *point) {
            Some(at) if reached[at].is_closed() => {
                reached.remove(at);
            }
            _ => return Err(format!("what the host has at {point} is not covered")),
        }
    }
    Ok(reached)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_on_that_one_and_below_are_found() {
        let text = "1 0 8:1 / / rw - ext4 a rw\n2 1 0:5 / /proc rw - proc p rw\n\
                    3 1 0:6 / /a\\040b/c rw - tmpfs t rw\n4 3 0:7 / /a\\040b/c/d rw - tmpfs t rw\n";
        assert_eq!(
            on(text, 1, Path::new("/")),
            ["a b/c", "proc"].map(PathBuf::from)
        );
        assert_eq!(on(text, 1, Path::new("/a b")), [PathBuf::from("c")]);
        assert_eq!(on(text, 3, Path::new("/a b/c")), [PathBuf::from("d")]);
        assert_eq!(on(text, 9, Path::new("/")), Vec::<PathBuf>::new());
    }

    fn line(id: u32, on: u32, point: &str, options: &[&'static str]) -> Line {
        Line {
            id,
            on,
            shown: Shown {
                point: point.to_owned(),
                options: options.to_vec(),
                kind: None,
            },
        }
    }

    #[test]
    fn what_is_under_a_cover_is_not_there_and_what_is_on_it_is() {
        const CLOSED: [&str; 4] = ["ro", "nosuid", "nodev", "noexec"];
        let host = |more: &[Line]| {
            let mut all = vec![
                line(1, 0, "/", &["ro"]),
                line(2, 1, "/sys", &[]),
                line(3, 2, "/sys/fs", &[]),
            ];
            all.extend_from_slice(more);
            let declared = [all[0].shown.clone(), line(0, 0, "/dev", &["ro"]).shown];
            let covered = ["/sys", "/dev"].map(str::to_owned).into();
            uncovered(all, &declared, &covered)
        };
        let dev = [line(5, 1, "/dev", &[]), line(6, 5, "/dev", &["ro"])];
        let sys = line(4, 2, "/sys", &CLOSED);
        let [under, over] = dev;
        let good = host(&[sys.clone(), under.clone(), over.clone()]).unwrap();
        let points: Vec<&str> = good.iter().map(|mount| &*mount.point).collect();
        assert_eq!(points, ["/", "/dev"]);
        assert!(host(&[under.clone(), over.clone()]).is_err(), "no cover");
        let open = line(4, 2, "/sys", &["ro"]);
        assert!(host(&[open, under.clone(), over.clone()]).is_err());
        let on_cover = line(7, 4, "/sys/new", &CLOSED);
        let seen = host(&[sys, under, over, on_cover]).unwrap();
        assert!(seen.iter().any(|mount| mount.point == "/sys/new"));
    }
}
