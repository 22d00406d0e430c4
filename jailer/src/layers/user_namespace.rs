//! A user namespace (user_namespaces(7)) with one user and one group, neither of them the
//! host's 0: what the host gives to its root (writing sysctls, owning files, being exempt
//! from limits) is out of reach even for a process that becomes 0 inside.
//!
//! It is made last of all namespaces. So the others, the mounts among them, are owned by the
//! host's, and no capability in this one is of any use on them.

use super::{FIRST, Observation, Step, StepError, namespaces};
use crate::channel::{Word, hear};
use crate::child::{Jail, Note};
use crate::plan::Plan;
use crate::readback::Seen;
use casemate_proto::cell::Layer;
use rustix::process::Pid;
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::fs::OpenOptions;
use std::io::{self, Write};

/// The step.
pub const STEP: Step = Step {
    name: "user-namespace",
    who: FIRST,
    layer: Some(Layer::UserNs),
    apply,
};

fn apply(jail: &mut Jail<'_>) -> Result<(), StepError> {
    // SAFETY: only CLONE_FILES could make fds of this process invalid, and it is not given.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER) }
        .map_err(|e| namespaces::failed(Layer::UserNs, e))?;
    jail.note(&Note::Unmapped);
    hear(jail.control(), Word::Mapped)
        .map(drop)
        .map_err(|e| StepError::new("waiting for the maps", e, "see the supervisor's error"))
}

/// The supervisor's part: writes the maps of the child's new namespace.
///
/// # Errors
/// The calls' own.
pub fn map(pid: Pid, plan: &Plan) -> io::Result<()> {
    let (inside, outside) = (plan.inside(true), plan.identity);
    write_maps(
        pid,
        &format!("{} {} 1\n", inside.uid, outside.uid),
        &format!("{} {} 1\n", inside.gid, outside.gid),
    )
}

/// Writes both maps of a process' user namespace, in which setgroups(2) stays forbidden.
pub(crate) fn write_maps(pid: Pid, uids: &str, gids: &str) -> io::Result<()> {
    let write = |file: &str, text: &str| {
        OpenOptions::new()
            .write(true)
            .open(format!("/proc/{}/{file}", pid.as_raw_nonzero()))?
            .write_all(text.as_bytes())
    };
    write("setgroups", "deny")?;
    write("gid_map", gids)?;
    write("uid_map", uids)
}

/// The namespace is another than the supervisor's, and has the one user and group.
pub fn read_back(seen: &Seen<'_>) -> Observation {
    let (inside, outside) = (seen.plan.inside(true), seen.plan.identity);
    let declared = format!(
        "a user namespace of its own; uid {} is {}, gid {} is {}, no other",
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
