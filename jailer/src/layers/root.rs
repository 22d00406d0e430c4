//! Root: a fresh tmpfs that holds what the policy mounts and nothing else, read-only once it
//! is furnished.
//!
//! All of it is built under the host's root, by fds, and only then made the root: so the
//! host's paths are there as long as they are needed, and not a moment longer.

use super::{FIRST, Observation, Step, StepError, covers, dev, mounts, user_namespace};
use crate::child::Jail;
use crate::readback::Seen;
use casemate_policy::Proc;
use casemate_proto::cell::Layer;
use rustix::fs::{CWD, Mode};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_reconfigure, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, chroot, fchdir, pivot_root};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Cuts the mounts off from the host's: nothing mounted on either side reaches the other.
pub const PROPAGATION: Step = Step {
    name: "mount-propagation",
    who: FIRST,
    layer: Some(Layer::MountNs),
    apply: cut,
};

/// The new root.
pub const STEP: Step = Step {
    name: "root",
    who: FIRST,
    layer: Some(Layer::Root),
    apply,
};

/// Where `/proc` is.
pub const PROC: &str = "/proc";

/// What no mount of a jail is without.
pub const CLOSED: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

const REMEDY: &str = "run the jailer with CAP_SYS_ADMIN on Linux 5.12 or later";

fn cut(jail: &mut Jail<'_>) -> Result<(), StepError> {
    if jail.missing.contains(&Layer::MountNs) {
        // Without the namespace, this would cut the host's own mounts.
        return Ok(());
    }
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .map_err(|e| {
        let remedy = match e {
            Errno::INVAL => {
                "the jailer runs in a chroot, from where it cannot cut the host's mounts \
                 off: start it outside, or make the chroot's root a mount"
            }
            _ => REMEDY,
        };
        StepError::new("making all mounts private", e, remedy)
    })
}

pub(super) fn failed(what: &'static str) -> impl Fn(Errno) -> StepError {
    move |e| StepError::new(what, e, REMEDY)
}

fn apply(jail: &mut Jail<'_>) -> Result<(), StepError> {
    // For a step to come: its own, of the host's.
    jail.proc_self = user_namespace::proc_self().ok();
    if jail.plan.program().is_some() {
        let made = detached().map_err(failed("making a directory to try Landlock with"))?;
        jail.forbidden = Some(made);
    }
    let root = build(jail)?;
    fchdir(&root).map_err(failed("entering the new root"))?;
    match pivot_root(".", ".") {
        Ok(()) => {}
        // The host's root is its initramfs, which has no mount above it to be moved to.
        Err(Errno::INVAL) => {
            unmount(".", UnmountFlags::DETACH).map_err(failed("unmounting the new root"))?;
            onto_a_mount().map_err(failed("putting a mount over the initramfs"))?;
            let root = build(jail)?;
            fchdir(&root).map_err(failed("entering the new root"))?;
            pivot_root(".", ".").map_err(failed("pivot_root to the new root"))?;
        }
        Err(e) => return Err(failed("pivot_root to the new root")(e)),
    }
    // The old root was stacked on the new one; "." is still below both.
    unmount(".", UnmountFlags::DETACH).map_err(failed("unmounting the old root"))?;
    chdir("/").map_err(failed("entering the new root"))
}

/// Makes the new root with all that is in it, over the old one.
fn build(jail: &mut Jail<'_>) -> Result<OwnedFd, StepError> {
    let filesystem = &jail.plan.policy.filesystem;
    // Whatever the launcher's is: directories on the way to a mount are for all to pass.
    rustix::process::umask(Mode::empty());
    if let Some(whole) = mounts::whole_root(&filesystem.mounts) {
        // A tree of the host's at "/": there is nothing of ours to furnish.
        let mounts::Tree { fd: root, below } = mounts::open_host(jail, whole)?;
        attach(root.as_fd(), CWD, "/").map_err(failed("mounting the root"))?;
        covers::put(jail, root.as_fd(), "/", &below)?;
        mounts::furnish(jail, root.as_fd(), Some(whole))?;
        return Ok(root);
    }
    let inodes = mounts::inodes(filesystem);
    let fs = tmpfs(&[
        ("size", "64k"),
        ("nr_inodes", &inodes.to_string()),
        ("mode", "0755"),
    ])
    .map_err(failed("making an empty tmpfs"))?;
    let root = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, CLOSED)
        .map_err(failed("mounting an empty tmpfs"))?;
    attach(root.as_fd(), CWD, "/").map_err(failed("mounting the root"))?;
    mounts::furnish(jail, root.as_fd(), None)?;
    // Read-only as a file system and as a mount.
    fsconfig_set_flag(&fs, "ro")
        .and_then(|()| fsconfig_reconfigure(&fs))
        .map_err(failed("making the root read-only"))?;
    mounts::set_attributes(
        root.as_fd(),
        CLOSED | MountAttrFlags::MOUNT_ATTR_RDONLY,
        None,
    )
    .map_err(failed("making the root's mount read-only"))?;
    Ok(root)
}

/// A tmpfs' context with these options, created.
pub fn tmpfs(options: &[(&str, &str)]) -> Result<OwnedFd, Errno> {
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&fs, "source", "casemate")?;
    for &(name, value) in options {
        fsconfig_set_string(&fs, name, value)?;
    }
    fsconfig_create(&fs)?;
    Ok(fs)
}

/// An empty directory that is mounted nowhere and that everybody may read.
fn detached() -> Result<OwnedFd, Errno> {
    let fs = tmpfs(&[("size", "4096"), ("nr_inodes", "1"), ("mode", "0755")])?;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, CLOSED)
}

/// Mounts a detached tree at `path` below `dir`; an empty path is `dir` itself.
pub fn attach(tree: BorrowedFd<'_>, dir: BorrowedFd<'_>, path: &str) -> Result<(), Errno> {
    let mut flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    if path.is_empty() {
        flags |= MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    }
    move_mount(tree, "", dir, path, flags)
}

/// `/proc` of this pid namespace: its processes and nothing else (proc(5)).
pub(super) fn proc() -> Result<OwnedFd, Errno> {
    let fs = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&fs, "hidepid", "invisible")?;
    fsconfig_set_string(&fs, "subset", "pid")?;
    fsconfig_create(&fs)?;
    fsmount(
        &fs,
        FsMountFlags::FSMOUNT_CLOEXEC,
        CLOSED | MountAttrFlags::MOUNT_ATTR_RDONLY,
    )
}

/// Makes a bind mount of "/" this process' root. pivot_root(2) can replace that one, and it
/// is detached with all that is in it like any other old root.
fn onto_a_mount() -> Result<(), Errno> {
    let tree = open_tree(
        CWD,
        "/",
        // All of it, which is what an ordinary user can have a copy of.
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE,
    )?;
    attach(tree.as_fd(), CWD, "/")?;
    fchdir(&tree)?;
    chroot(".")
}

/// The options that a declaration is about.
const CLOSED_OPTIONS: [&str; 4] = ["ro", "nosuid", "nodev", "noexec"];

/// One line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The mount's number.
    pub id: u32,
    /// That of the mount that it is on.
    pub on: u32,
    /// The mount.
    pub shown: Shown,
}

/// One mount, as far as a jail declares it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shown {
    /// Where.
    pub point: String,
    /// Of `ro`, `nosuid`, `nodev` and `noexec`, those that it has.
    pub options: Vec<&'static str>,
    /// `tmpfs` or `proc`, where it is neither the host's.
    pub kind: Option<&'static str>,
}

impl Shown {
    /// Whether it is what was declared. A mount of the host's may be stricter: it was so there.
    fn is_as(&self, declared: &Self) -> bool {
        let strict = |option| self.options.contains(option);
        self.point == declared.point
            && self.kind == declared.kind
            && match declared.kind {
                None => declared.options.iter().all(strict),
                Some(_) => self.options == declared.options,
            }
    }

    /// Whether it can be neither written to nor executed from.
    pub fn is_closed(&self) -> bool {
        self.options == CLOSED_OPTIONS
    }

    fn words(&self) -> String {
        let kind = self.kind.map(|kind| format!("{kind},")).unwrap_or_default();
        format!("{} ({kind}{})", self.point, self.options.join(","))
    }
}

/// All mounts that the jail is to have, sorted.
fn declared(seen: &Seen<'_>) -> Vec<Shown> {
    let filesystem = &seen.plan.policy.filesystem;
    let mut all = Vec::new();
    let closed = |point: &str, kind| Shown {
        point: point.to_owned(),
        options: CLOSED_OPTIONS.to_vec(),
        kind,
    };
    if mounts::whole_root(&filesystem.mounts).is_none() {
        all.push(closed("/", Some("tmpfs")));
    }
    all.extend(mounts::declared(filesystem, &seen.notes.absent));
    all.extend(dev::declared(filesystem));
    if filesystem.proc == Proc::Pids {
        all.push(closed(PROC, Some("proc")));
    }
    all.sort();
    all
}

/// What `/proc/PID/root` holds and which mounts are seen from it.
pub fn read_back(seen: &Seen<'_>) -> Observation {
    let declared = declared(seen);
    let words = |mounts: &[Shown]| {
        let words: Vec<String> = mounts.iter().map(Shown::words).collect();
        words.join(", ")
    };
    let observed = (|| {
        if seen.plan.vm().is_some() {
            let names = seen.list("root").map_err(|e| format!("root: {e}"))?;
            if let Some(name) = names.first() {
                return Err(format!("the root holds {name}"));
            }
        }
        let workdir = match seen.plan.program() {
            Some(program) => String::from_utf8_lossy(&program.workdir).into_owned(),
            None => "/".to_owned(),
        };
        let cwd = seen.read_link("cwd").map_err(|e| format!("cwd: {e}"))?;
        // Where the program goes later, or by way of a link, is its own affair.
        if cwd != workdir && (seen.plan.vm().is_some() || cwd.starts_with("(unreachable)")) {
            return Err(format!("the working directory is {cwd}"));
        }
        let text = seen
            .read("mountinfo")
            .map_err(|e| format!("mountinfo: {e}"))?;
        let found = text
            .lines()
            .map(|line| parse(line, &declared))
            .collect::<Result<Vec<_>, _>>()?;
        let mut found = covers::uncovered(found, &declared, &seen.notes.covered)?;
        found.sort();
        let agree = |(declared, found): (&Shown, &Shown)| found.is_as(declared);
        match found.len() == declared.len() && declared.iter().zip(&found).all(agree) {
            true => Ok(words(&found)),
            false => Err(difference(&declared, &found)),
        }
    })();
    Observation::of(words(&declared), observed)
}

fn difference(declared: &[Shown], found: &[Shown]) -> String {
    let lacks = declared.iter().find(|mount| !found.contains(mount));
    let has = found.iter().find(|mount| !declared.contains(mount));
    match (lacks, has) {
        (_, Some(mount)) => format!("{} mounts, among them {}", found.len(), mount.words()),
        (Some(mount), None) => format!("no {}", mount.words()),
        (None, None) => format!("{} mounts", found.len()),
    }
}

/// One line of mountinfo (proc_pid_mountinfo(5)).
fn parse(line: &str, declared: &[Shown]) -> Result<Line, String> {
    let malformed = || "mountinfo is malformed".to_owned();
    let (left, right) = line.split_once(" - ").ok_or_else(malformed)?;
    let left: Vec<&str> = left.split(' ').collect();
    let (Some(point), Some(options)) = (left.get(4), left.get(5)) else {
        return Err(malformed());
    };
    let number = |at: usize| left[at].parse().map_err(|_| malformed());
    let point = crate::cgroup::unescape(point)
        .to_string_lossy()
        .into_owned();
    // Optional fields stand from the seventh on: `shared:N`, `master:N`.
    if left.len() > 6 {
        return Err(format!("{point} propagates: {}", left[6..].join(" ")));
    }
    let kind = right.split(' ').next().unwrap_or_default();
    let kind = ["tmpfs", "proc"].into_iter().find(|&known| known == kind);
    // The host's may be of any kind, a tmpfs too.
    let of_host = declared
        .iter()
        .any(|mount| mount.point == point && mount.kind.is_none());
    let shown = Shown {
        point,
        options: CLOSED_OPTIONS
            .into_iter()
            .filter(|&wanted| options.split(',').any(|option| option == wanted))
            .collect(),
        kind: kind.filter(|_| !of_host),
    };
    Ok(Line {
        id: number(0)?,
        on: number(1)?,
        shown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_what_its_line_says() {
        let good = "9 1 0:5 / / ro,nosuid,nodev,noexec,relatime - tmpfs casemate ro,size=4k";
        let closed = Shown {
            point: "/".to_owned(),
            options: vec!["ro", "nosuid", "nodev", "noexec"],
            kind: Some("tmpfs"),
        };
        let parsed = |line: &str| parse(line, &[]).map(|line| line.shown);
        assert_eq!(parsed(good), Ok(closed.clone()));
        for other in [
            &good.replace("noexec,", ""),
            &good.replace("ro,nosuid", "rw,nosuid"),
            &good.replace("tmpfs", "ext4"),
            &good.replace("/ / ", "/ /x "),
        ] {
            assert_ne!(parsed(other).unwrap(), closed, "{other}");
        }
        for bad in [
            "",
            "9 1 - tmpfs",
            &good.replace(" - tmpfs", " shared:4 - tmpfs"),
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }
}
