//! Root: an empty tmpfs that nothing can be written to, and nothing else mounted.

use super::{Observation, Step, StepError};
use crate::child::Jail;
use crate::readback::Seen;
use casemate_proto::cell::Layer;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount,
    fsopen, mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, chroot, fchdir, pivot_root};
use std::os::fd::OwnedFd;

/// Cuts the mounts off from the host's: nothing mounted on either side reaches the other.
pub const PROPAGATION: Step = Step {
    name: "mount-propagation",
    layer: Some(Layer::MountNs),
    apply: cut,
};

/// The new root.
pub const STEP: Step = Step {
    name: "root",
    layer: Some(Layer::Root),
    apply,
};

const REMEDY: &str = "run the jailer with CAP_SYS_ADMIN on Linux 5.2 or later";

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

fn apply(_: &mut Jail<'_>) -> Result<(), StepError> {
    let step = |what: &'static str| move |e: Errno| StepError::new(what, e, REMEDY);
    let tmpfs = empty_tmpfs().map_err(step("making an empty tmpfs"))?;
    move_mount(
        &tmpfs,
        "",
        CWD,
        "/",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .map_err(step("mounting the empty tmpfs"))?;
    fchdir(&tmpfs).map_err(step("entering the empty tmpfs"))?;
    match pivot_root(".", ".") {
        Ok(()) => {}
        // The host's root is its initramfs, which has no mount above it to be moved to.
        Err(Errno::INVAL) => {
            unmount(".", UnmountFlags::DETACH).map_err(step("unmounting the empty tmpfs"))?;
            onto_a_mount().map_err(step("putting a mount over the initramfs"))?;
            let tmpfs = empty_tmpfs().map_err(step("making an empty tmpfs"))?;
            move_mount(
                &tmpfs,
                "",
                CWD,
                "/",
                MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
            )
            .map_err(step("mounting the empty tmpfs"))?;
            fchdir(&tmpfs).map_err(step("entering the empty tmpfs"))?;
            pivot_root(".", ".").map_err(step("pivot_root to the empty tmpfs"))?;
        }
        Err(e) => return Err(step("pivot_root to the empty tmpfs")(e)),
    }
    // The old root was stacked on the new one; "." is still below both.
    unmount(".", UnmountFlags::DETACH).map_err(step("unmounting the old root"))?;
    chdir("/").map_err(step("entering the new root"))
}

/// A detached mount: 4 KiB at most, one inode, read-only in itself and as a mount.
fn empty_tmpfs() -> Result<OwnedFd, Errno> {
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&fs, "source", "casemate")?;
    fsconfig_set_string(&fs, "size", "4096")?;
    fsconfig_set_string(&fs, "nr_inodes", "1")?;
    fsconfig_set_string(&fs, "mode", "0555")?;
    fsconfig_set_flag(&fs, "ro")?;
    fsconfig_create(&fs)?;
    fsmount(
        &fs,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    )
}

/// Makes a bind mount of "/" this process' root. pivot_root(2) can replace that one, and it
/// is detached with all that is in it like any other old root.
fn onto_a_mount() -> Result<(), Errno> {
    let tree = open_tree(
        CWD,
        "/",
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )?;
    move_mount(&tree, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    fchdir(&tree)?;
    chroot(".")
}

/// What `/proc/PID/root` holds and which mounts the VMM sees.
pub fn read_back(seen: &Seen<'_>) -> Observation {
    let declared = "empty; one mount: tmpfs at / (ro,nosuid,nodev,noexec)";
    let observed = (|| {
        if let Some(name) = seen.list("root").map_err(|e| format!("root: {e}"))?.first() {
            return Err(format!("the root holds {name}"));
        }
        let cwd = seen.read_link("cwd").map_err(|e| format!("cwd: {e}"))?;
        if cwd != "/" {
            return Err(format!("the working directory is {cwd}"));
        }
        let mounts = seen
            .read("mountinfo")
            .map_err(|e| format!("mountinfo: {e}"))?;
        one_mount(&mounts)?;
        Ok(declared.to_owned())
    })();
    Observation::of(declared, observed)
}

/// Whether a mountinfo has exactly the one mount that is wanted.
fn one_mount(mountinfo: &str) -> Result<(), String> {
    let lines: Vec<&str> = mountinfo.lines().collect();
    let [line] = lines[..] else {
        return Err(format!("{} mounts", lines.len()));
    };
    let (left, right) = line.split_once(" - ").ok_or("mountinfo is malformed")?;
    let left: Vec<&str> = left.split(' ').collect();
    let kind = right.split(' ').next().unwrap_or_default();
    let (point, options) = (
        left.get(4).copied().unwrap_or_default(),
        left.get(5).copied().unwrap_or_default(),
    );
    let has = |wanted: &str| options.split(',').any(|option| option == wanted);
    let closed = ["ro", "nosuid", "nodev", "noexec"].into_iter().all(has);
    // Optional fields stand from the seventh on: `shared:N`, `master:N`.
    let propagates = left.len() > 6;
    match kind == "tmpfs" && point == "/" && closed && !propagates {
        true => Ok(()),
        false => Err(format!("{kind} at {point} ({options})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_closed_mount_will_do() {
        let good = "9 1 0:5 / / ro,nosuid,nodev,noexec,relatime - tmpfs casemate ro,size=4k";
        assert_eq!(one_mount(good), Ok(()));
        for bad in [
            "",
            &format!("{good}\n{good}"),
            &good.replace("noexec,", ""),
            &good.replace("ro,nosuid", "rw,nosuid"),
            &good.replace(" - tmpfs", " shared:4 - tmpfs"),
            &good.replace("tmpfs", "ext4"),
            &good.replace("/ / ", "/ /x "),
        ] {
            assert!(one_mount(bad).is_err(), "{bad}");
        }
    }
}
