//! User and group of the cell's own, no supplementary groups (credentials(7)).

use super::{FIRST, Observation, Step, StepError};
use crate::child::Jail;
use crate::readback::Seen;
use crate::rights::Launcher;
use crate::state::Identity;
use casemate_proto::cell::Layer;
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitiesSecureBits, set_capabilities_secure_bits, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

/// Supplementary groups: dropped while that is still allowed; in the user namespace,
/// setgroups(2) is not.
pub const GROUPS: Step = Step {
    name: "groups",
    who: FIRST,
    layer: Some(Layer::User),
    apply: groups,
};

/// User and group of the host's. What a process may do then, only capabilities say, which
/// are kept for the steps to come.
pub const STEP: Step = Step {
    name: "user",
    who: FIRST,
    layer: Some(Layer::User),
    apply,
};

/// The same as they are called in the user namespace.
pub const INSIDE: Step = Step {
    name: "user-inside",
    who: FIRST,
    layer: Some(Layer::User),
    apply: inside,
};

const REMEDY: &str = "run the jailer with CAP_SETUID and CAP_SETGID, in a user namespace that \
                      maps this uid";

fn groups(jail: &mut Jail<'_>) -> Result<(), StepError> {
    let kept = jail.plan.rights.launcher().map(Launcher::has_own_user);
    if kept == Some(false) {
        // Not an ordinary user's to drop: it is denied in a namespace of its own ids alone.
        return Ok(());
    }
    set_thread_groups(&[]).map_err(|e| StepError::new("dropping all groups", e, REMEDY))
}

fn apply(jail: &mut Jail<'_>) -> Result<(), StepError> {
    set_capabilities_secure_bits(CapabilitiesSecureBits::NO_SETUID_FIXUP)
        .map_err(|e| StepError::new("setting the securebits", e, "run with CAP_SETPCAP"))?;
    become_user(jail.plan.identity)
}

fn inside(jail: &mut Jail<'_>) -> Result<(), StepError> {
    match jail.plan.declares(Layer::UserNs) && !jail.missing.contains(&Layer::UserNs) {
        true => become_user(jail.plan.inside(true)),
        false => Ok(()),
    }
}

fn become_user(identity: Identity) -> Result<(), StepError> {
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    set_thread_res_gid(gid, gid, gid)
        .and_then(|()| set_thread_res_uid(uid, uid, uid))
        .map_err(|e| StepError::new(format!("becoming uid {}", identity.uid), e, REMEDY))
}

/// All four uids and gids and the groups of every thread.
pub fn read_back(seen: &Seen<'_>) -> Observation {
    let identity = seen.plan.identity;
    let kept = seen
        .plan
        .rights
        .launcher()
        .map_or(&[][..], Launcher::kept_groups);
    let words = match kept {
        [] => "no groups".to_owned(),
        kept => {
            let kept: Vec<String> = kept.iter().map(u32::to_string).collect();
            format!("the launcher's groups {}", kept.join(" "))
        }
    };
    let declared = format!("uid {}, gid {}, {words}", identity.uid, identity.gid);
    let observed = seen.of_threads(|thread| {
        let good = thread.uids == [identity.uid; 4]
            && thread.gids == [identity.gid; 4]
            && thread.groups == kept;
        match good {
            true => Ok(()),
            false => Err(format!(
                "uids {:?}, gids {:?}, groups {:?}",
                thread.uids, thread.gids, thread.groups
            )),
        }
    });
    Observation::of(&declared, observed.map(|()| declared.clone()))
}
