//! New namespaces, by each of the calls that make them, and the host's.

use super::attempt;
use crate::sys::{any, open, reached, words};
use crate::{Attempt, Bait, Failure, Tried, call};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

const TIME: i32 = 0x80;

macro_rules! kinds {
    ($($kind:literal: $flag:expr;)*) => {
        &[
            $(
                attempt(
                    concat!("unshare-", $kind),
                    concat!("make a ", $kind, " namespace by unshare"),
                    |_| reached(call!(libc::SYS_unshare, $flag), &[]),
                ),
                attempt(
                    concat!("clone-", $kind),
                    concat!("make a ", $kind, " namespace by clone"),
                    |_| clone($flag),
                ),
                attempt(
                    concat!("clone3-", $kind),
                    concat!("make a ", $kind, " namespace by clone3"),
                    |_| clone3($flag),
                ),
            )*
            attempt("unshare-time", "make a time namespace by unshare", |_| {
                reached(call!(libc::SYS_unshare, TIME), &[])
            }),
            attempt("clone3-time", "make a time namespace by clone3", |_| clone3(TIME)),
            attempt("user-namespace-root", "become root of a user namespace of its own", become_root),
            attempt("setns-proc", "enter a namespace of the host's by /proc", enter),
            attempt("setns-own", "enter a namespace that it is in", |_| {
                let own = open("/proc/self/ns/uts", libc::O_RDONLY)?;
                reached(call!(libc::SYS_setns, own.as_raw_fd(), 0), &[])
            }),
        ]
    };
}

pub const ALL: &[Attempt] = kinds! {
    "user": libc::CLONE_NEWUSER;
    "mount": libc::CLONE_NEWNS;
    "pid": libc::CLONE_NEWPID;
    "net": libc::CLONE_NEWNET;
    "ipc": libc::CLONE_NEWIPC;
    "uts": libc::CLONE_NEWUTS;
    "cgroup": libc::CLONE_NEWCGROUP;
};

/// clone(2) as fork(2) calls it, with one more flag. (It cannot make a time namespace: that
/// bit is part of the exit signal there.)
fn clone(flag: i32) -> Tried {
    made(call!(libc::SYS_clone, flag | libc::SIGCHLD, 0, 0, 0, 0))
}

/// clone3(2).
fn clone3(flag: i32) -> Tried {
    // struct clone_args: flags first, the exit signal fifth.
    let mut arguments = [0; 11];
    arguments[0] = flag as u64;
    arguments[4] = libc::SIGCHLD as u64;
    let arguments = words(&arguments);
    made(call!(libc::SYS_clone3, &arguments[..], arguments.len()))
}

fn made(result: std::io::Result<i64>) -> Tried {
    match result? {
        // SAFETY: the child ends at once.
        0 => unsafe { libc::_exit(0) },
        pid => {
            crate::sys::wait(pid as i32)?;
            Ok("it was made".to_owned())
        }
    }
}

/// With a user namespace, root of it: then a mount, which only root may make.
fn become_root(_: &Bait) -> Tried {
    let (uid, gid) = (call!(libc::SYS_getuid)?, call!(libc::SYS_getgid)?);
    call!(libc::SYS_unshare, libc::CLONE_NEWUSER | libc::CLONE_NEWNS)?;
    // Whoever forbids setgroups first may map the group too; not needed for the mount.
    let _ = std::fs::write("/proc/self/setgroups", "deny");
    let _ = std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"));
    let _ = std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"));
    reached(call!(libc::SYS_mount, c"none", c"/", c"tmpfs", 0, 0), &[])
}

/// A process that is not ours may show the way into its namespaces.
fn enter(bait: &Bait) -> Tried {
    let kinds = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"];
    let own = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}"));
    any([1, bait.pid, bait.launcher].into_iter().flat_map(|pid| {
        kinds.map(|kind| {
            let path = PathBuf::from(format!("/proc/{pid}/ns/{kind}"));
            let other = open(&path, libc::O_RDONLY)?;
            call!(libc::SYS_setns, other.as_raw_fd(), 0)?;
            match own(kind).ok() == std::fs::read_link(&path).ok() && pid == 1 && kind == "user" {
                true => Err(Failure::Nothing("its own".to_owned())),
                false => Ok(format!("entered {}", path.display())),
            }
        })
    }))
}
