//! The mount namespace and the root in it (mount_namespaces(7), pivot_root(2)).

use super::Addition;
use super::error::PeerError;
use super::folder::Folder;
use crate::layers::libc_result;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_change, move_mount,
    open_tree, unmount,
};
use rustix::process::{chdir, chroot, fchdir, pivot_root};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const REMEDY: &str = "run the jailer with CAP_SYS_ADMIN on Linux 5.12 or later";

/// mount_setattr(2)'s flags.
#[derive(Debug, Clone, Copy)]
pub struct Attributes(u64);

impl Attributes {
    /// Nothing can be written.
    pub const READ_ONLY: Self = Self(libc::MOUNT_ATTR_RDONLY);
    /// No set-user-id bits.
    pub const NOSUID: Self = Self(libc::MOUNT_ATTR_NOSUID);
}

impl std::ops::BitOr for Attributes {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Sets flags of a mount, or of all below it too.
///
/// # Errors
/// mount_setattr(2)'s.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    set: Attributes,
    recursive: bool,
) -> Result<(), Errno> {
    let attributes = libc::mount_attr {
        attr_set: set.0,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is a C string, `attributes` is the kernel's structure of the size
    // told, and both outlive the call.
    libc_result(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            std::mem::size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
    .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
}

/// A detached clone of the mount that an fd is in, from there on.
///
/// # Errors
/// open_tree(2)'s.
pub fn clone_of(at: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(at, "", flags)
}

/// Attaches a detached mount on what an fd stands for.
///
/// # Errors
/// move_mount(2)'s.
pub fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", target, "", flags)
}

/// Leaves the host's mount namespace and, where asked for, those of IPC and host name.
/// Mounts made on the host later still come in, as with the peer: tooling adds disks that
/// way. Nothing mounted here goes out.
///
/// # Errors
/// The calls' own.
pub fn leave(ipc: bool, uts: bool) -> Result<(), PeerError> {
    let mut flags = UnshareFlags::NEWNS;
    flags.set(UnshareFlags::NEWIPC, ipc);
    flags.set(UnshareFlags::NEWUTS, uts);
    // SAFETY: only CLONE_FILES could make fds of this process invalid, and it is not given.
    unsafe { unshare_unsafe(flags) }.map_err(|e| {
        PeerError::step("unshare of mount, IPC and host name namespaces", e, REMEDY)
    })?;
    mount_change(
        "/",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )
    .map_err(|e| {
        let remedy = match e {
            Errno::INVAL => {
                "the jailer runs in a chroot, from where it cannot cut the host's mounts \
                 off: start it outside, or make the chroot's root a mount"
            }
            _ => REMEDY,
        };
        PeerError::step("cutting the host's mounts off", e, remedy)
    })
}

/// Mounts the root over itself, with what the operator mounted in it, and returns the mount.
///
/// # Errors
/// The calls' own.
pub fn mount_root(root: &Folder, nosuid: bool) -> Result<Folder, PeerError> {
    let failed = |e: Errno| PeerError::path("mount", root.path(), e, REMEDY);
    let tree = clone_of(root.as_fd(), true).map_err(failed)?;
    if nosuid {
        set_attributes(tree.as_fd(), Attributes::NOSUID, true).map_err(|e| {
            PeerError::layer(Addition::Nosuid, format!("cannot be applied: {e}"), REMEDY)
        })?;
    }
    attach(tree.as_fd(), root.as_fd()).map_err(failed)?;
    Ok(root.again(tree))
}

/// Makes that mount the root of the process, and detaches all others.
///
/// # Errors
/// The calls' own.
pub fn enter(root: &Folder) -> Result<(), PeerError> {
    let step = |what: &'static str| move |e: Errno| PeerError::step(what, e, REMEDY);
    fchdir(root).map_err(step("entering the root"))?;
    match pivot_root(".", ".") {
        Ok(()) => {}
        // The host's root is its initramfs, which has no mount above it to be moved to: it
        // gets one, and the root is mounted again below that.
        Err(Errno::INVAL) => {
            onto_a_mount(root).map_err(step("putting a mount over the initramfs"))?;
            pivot_root(".", ".").map_err(step("pivot_root"))?;
        }
        Err(e) => return Err(step("pivot_root")(e)),
    }
    // The old root was stacked on the new one; "." is still below both.
    unmount(".", UnmountFlags::DETACH).map_err(step("unmounting the old root"))?;
    chdir("/").map_err(step("entering the new root"))
}

/// Bind-mounts "/" on itself and makes that the process' root; the jail's mount moves along.
fn onto_a_mount(root: &Folder) -> Result<(), Errno> {
    let host = open_tree(
        CWD,
        "/",
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )?;
    move_mount(&host, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    fchdir(&host)?;
    chroot(".")?;
    move_mount(root, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    fchdir(root)
}
