//! A user namespace (user_namespaces(7)) with one user and one group, neither of them the
//! host's 0: what the host gives to its root (writing sysctls, owning files, being exempt
//! from limits) is out of reach even for a process that becomes 0 inside.
//!
//! It is made last of all namespaces. So the others, the mounts among them, are owned by the
//! host's, and no capability in this one is of any use on them. Its maker is the cell's user
//! already, who may map that one user, itself, without anybody's help.

use super::{FIRST, Observation, Step, StepError, namespaces};
use crate::child::Jail;
use crate::readback::Seen;
use casemate_proto::cell::Layer;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The step.
pub const STEP: Step = Step {
    name: "user-namespace",
    who: FIRST,
    layer: Some(Layer::UserNs),
    apply,
};

fn apply(jail: &mut Jail<'_>) -> Result<(), StepError> {
    let (inside, outside) = (jail.plan.inside(true), jail.plan.identity);
    // SAFETY: only CLONE_FILES could make fds of this process invalid, and it is not given.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER) }
        .map_err(|e| namespaces::failed(Layer::UserNs, e))?;
    let proc_self = match jail.proc_self.take() {
        Some(dir) => Ok(dir),
        // The root was let be missing: it is the host's still.
        None => proc_self(),
    }
    .map_err(|e| StepError::new("opening /proc/self", e, "mount the host's /proc"))?;
    // The files are root's while the process is not dumpable, which the change of user made
    // it. Nobody else has this user, and it is undone at once.
    set_dumpable_behavior(DumpableBehavior::Dumpable)
        .and_then(|()| {
            write_maps(
                proc_self.as_fd(),
                &format!("{} {} 1\n", inside.uid, outside.uid),
                &format!("{} {} 1\n", inside.gid, outside.gid),
            )
        })
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable))
        .map_err(|e| StepError::new("writing the maps", e, "mount the host's /proc writable"))
}

/// This process' directory in the host's `/proc`, for when that is out of sight.
///
/// # Errors
/// The call's own.
pub(crate) fn proc_self() -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, "/proc/self", flags, Mode::empty())
}

/// Writes both maps of a process' user namespace, in which setgroups(2) stays forbidden, by
/// its directory in `/proc`.
pub(crate) fn write_maps(dir: BorrowedFd<'_>, uids: &str, gids: &str) -> Result<(), Errno> {
    let write = |file: &str, text: &str| {
        let fd = openat(dir, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(&fd, text.as_bytes()).map(drop)
    };
    write("setgroups", "deny")?;
    write("gid_map", gids)?;
    write("uid_map", uids)
}

/// The namespace is another than the supervisor's, and has the one user and group.
pub fn read_back(seen: &Seen<'_>) -> Observation {
    let (inside, outside) = (seen.plan.inside(true), seen.plan.identity);
    let declared = format!(
        "its own user namespace; uid {} is {}, gid {} is {}, no other",
        inside.uid, outside.uid, inside.gid, outside.gid
    );
    let link = namespaces::read_back(Layer::UserNs, seen);
    if !link.holds {
        return Observation::of(declared, Err(link.observed));
    }
    let observed = (|| {
        for (file, inside, outside) in [
            ("uid_map", inside.uid, outside.uid),
            ("gid_map", inside.gid, outside.gid),
        ] {
            let text = seen.read(file).map_err(|e| format!("{file}: {e}"))?;
            let found: Vec<&str> = text.split_ascii_whitespace().collect();
            if found != [inside.to_string(), outside.to_string(), "1".to_owned()] {
                return Err(format!("{file} {}", found.join(" ")));
            }
        }
        let setgroups = seen
            .read("setgroups")
            .map_err(|e| format!("setgroups: {e}"))?;
        match setgroups.trim() {
            "deny" => Ok(link.observed),
            other => Err(format!("setgroups {other}")),
        }
    })();
    Observation::of(declared, observed)
}
