//! User namespaces for idmapped mounts (mount_setattr(2)): what the owner of a shared
//! directory owns is the cell's inside, and what the cell makes is the owner's outside.
//!
//! Nothing is ever mapped onto the host's 0: a program in a jail could make a set-user-id
//! program of root's otherwise.

use crate::child::fork;
use crate::layers::user_namespace::write_maps;
use crate::refusal::Refusal;
use crate::resolve::{self, Resolved};
use crate::rights::Rights;
use crate::state::Identity;
use casemate_policy::{Mount, MountKind};
use casemate_proto::cell::Layer;
use rustix::fs::{CWD, Mode, OFlags, fstat, openat};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Makes one for each writable mount of the host's; `None` for the others, and for all where
/// an ordinary user makes the jail.
///
/// # Errors
/// A directory that is root's, and calls' own.
pub fn of_mounts(
    mounts: &[Mount],
    rights: &Rights,
    cell: Identity,
) -> Result<Vec<Option<OwnedFd>>, Refusal> {
    if *rights != Rights::Root {
        return Ok(Vec::new());
    }
    let mut made: Vec<(Identity, OwnedFd)> = Vec::new();
    mounts
        .iter()
        .map(|mount| {
            if !matches!(mount.kind, MountKind::Rw | MountKind::RwExec) {
                return Ok(None);
            }
            let refused = |why: &dyn std::fmt::Display| {
                Refusal::of(Layer::Root, format!("sharing {}: {why}", mount.host))
            };
            let owner = match resolve::operators_path(&*mount.host) {
                Ok(fd) => fstat(&fd).map_err(|e| refused(&e))?,
                Err(e) if e.is_absence() && mount.optional => return Ok(None),
                Err(e) => return Err(refused(&e)),
            };
            if owner.st_uid == 0 {
                return Err(refused(
                    &"it is root's, and so would be all that is made there: chown it to the \
                      user whose files it holds",
                ));
            }
            let owner = Identity {
                uid: owner.st_uid,
                // What is made there must not be of root's group either.
                gid: match owner.st_gid {
                    0 => owner.st_uid,
                    gid => gid,
                },
            };
            if let Some((_, fd)) = made.iter().find(|(of, _)| *of == owner) {
                return fd.try_clone().map(Some).map_err(|e| refused(&e));
            }
            let fd = namespace(owner, cell)
                .map_err(|e| refused(&format!("cannot make a user namespace for it: {e}")))?;
            let copy = fd.try_clone().map_err(|e| refused(&e))?;
            made.push((owner, fd));
            Ok(Some(copy))
        })
        .collect()
}

/// Looks at the host's paths of the mounts where the child, in a user namespace of an ordinary
/// user's, could not tell whose they are; nothing where root makes the jail. Such a user
/// cannot have mounts idmapped: what may be written is what it may write itself.
///
/// # Errors
/// A path that is not there, or is not followed; a writable one under another user.
pub fn resolved(mounts: &[Mount], rights: &Rights) -> Result<Vec<Option<Resolved>>, Refusal> {
    let Some(launcher) = rights.launcher() else {
        return Ok(Vec::new());
    };
    mounts
        .iter()
        .map(|mount| {
            let refused = |why: &dyn std::fmt::Display| {
                Refusal::of(Layer::Root, format!("sharing {}: {why}", mount.host))
            };
            match mount.kind {
                MountKind::Tmpfs { .. } => return Ok(None),
                MountKind::Rw | MountKind::RwExec if launcher.has_own_user() => {
                    return Err(refused(
                        &"only root can have it written by another user than its owner, and \
                          --id-map range makes the program one: leave that out",
                    ));
                }
                _ => {}
            }
            match Resolved::of(&*mount.host) {
                Ok(found) => Ok(Some(found)),
                Err(e) if e.is_absence() && mount.optional => Ok(None),
                Err(e) => Err(refused(&e)),
            }
        })
        .collect()
}

/// A user namespace that maps `owner` to `cell`, held by nothing but its fd.
fn namespace(owner: Identity, cell: Identity) -> io::Result<OwnedFd> {
    let parent = rustix::process::getpid();
    let Some(child) = fork(libc::CLONE_NEWUSER, None)? else {
        // Its namespace is all that is wanted of this process. It dies with its parent.
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        while rustix::process::getppid() == Some(parent) {
            // SAFETY: takes nothing and gives nothing.
            unsafe { libc::pause() };
        }
        // SAFETY: ends this process without running its parent's exit handlers.
        unsafe { libc::_exit(0) }
    };
    let made = (|| {
        let path = format!("/proc/{}", child.pid.as_raw_nonzero());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, path, flags, Mode::empty())?;
        write_maps(
            dir.as_fd(),
            &format!("{} {} 1\n", owner.uid, cell.uid),
            &format!("{} {} 1\n", owner.gid, cell.gid),
        )?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(openat(&dir, "ns/user", flags, Mode::empty())?)
    })();
    let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
    let _ = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
    made
}
