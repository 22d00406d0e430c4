//! Whether an ordinary user can make a jail here: tried, in a process of its own, since what
//! forbids it (a sysctl, AppArmor, a container's filter) shows in different calls.

use super::obstacle;
use crate::child::fork;
use crate::layers::root;
use crate::layers::user_namespace::{proc_self, write_maps};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, MountAttrFlags, fsmount};
use rustix::process::{
    DumpableBehavior, Gid, Uid, WaitId, WaitIdOptions, getegid, geteuid, set_dumpable_behavior,
    waitid,
};
use rustix::thread::{
    UnshareFlags, set_thread_groups, set_thread_res_gid, set_thread_res_uid, unshare_unsafe,
};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

/// Who is tried where root asks: nobody.
const NOBODY: u32 = 65534;

/// What is tried, in this order.
const STEPS: [&str; 4] = [
    "making a user namespace",
    "mapping its ids",
    "making the other namespaces in it",
    "making a mount in them",
];

/// Tries it. Nothing of it stays.
///
/// # Errors
/// What cannot be done, why, and what to do.
pub fn probe() -> Result<(), String> {
    let failed = |e: io::Error| format!("it could not be tried: {e}; report this");
    let root = geteuid().is_root();
    let (uid, gid) = match root {
        true => (NOBODY, NOBODY),
        false => (geteuid().as_raw(), getegid().as_raw()),
    };
    // All that takes memory is made before the fork.
    let maps = [uid, gid].map(|id| format!("{id} {id} 1\n"));
    let (mut reader, mut writer) = io::pipe().map_err(failed)?;
    let Some(child) = fork(0, None).map_err(failed)? else {
        let became = match root {
            true => become_nobody(),
            false => Ok(()),
        };
        let tried = became.map_err(|e| (0, e)).and_then(|()| steps(&maps));
        if let Err((step, e)) = tried {
            let [a, b, c, d] = e.raw_os_error().to_ne_bytes();
            let _ = writer.write_all(&[step, a, b, c, d]);
        }
        // SAFETY: ends this process without running its parent's exit handlers.
        unsafe { libc::_exit(0) }
    };
    drop(writer);
    let mut told = Vec::new();
    let read = reader.read_to_end(&mut told);
    let _ = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
    read.map_err(failed)?;
    match told[..] {
        [] => Ok(()),
        [step, a, b, c, d] => {
            let e = io::Error::from_raw_os_error(i32::from_ne_bytes([a, b, c, d]));
            let step = STEPS[usize::from(step).min(STEPS.len() - 1)];
            Err(match obstacle() {
                Some(why) => format!("{step} fails ({e}): {why}"),
                None => format!(
                    "{step} fails ({e}): look at what confines this process, a container's \
                     filter or a security module"
                ),
            })
        }
        _ => Err(failed(io::ErrorKind::InvalidData.into())),
    }
}

fn become_nobody() -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    set_dumpable_behavior(DumpableBehavior::Dumpable)
}

/// Takes the steps; the number of the one that fails.
fn steps(maps: &[String; 2]) -> Result<(), (u8, Errno)> {
    let unshare = |flags| {
        // SAFETY: only CLONE_FILES could make fds of this process invalid, and it is not given.
        unsafe { unshare_unsafe(flags) }
    };
    unshare(UnshareFlags::NEWUSER).map_err(|e| (0, e))?;
    proc_self()
        .and_then(|dir| write_maps(dir.as_fd(), &maps[0], &maps[1]))
        .map_err(|e| (1, e))?;
    let others = UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWCGROUP;
    unshare(others).map_err(|e| (2, e))?;
    root::tmpfs(&[("size", "4096")])
        .and_then(|fs| fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()))
        .map(drop)
        .map_err(|e| (3, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the tests of jails without root run, this must say that they can.
    #[test]
    fn it_works_here() {
        assert_eq!(probe(), Ok(()));
    }
}
