//! User and group of the cell's own, no supplementary groups (credentials(7)).

use super::{Observation, Step, StepError};
use crate::child::Jail;
use crate::readback::Seen;
use casemate_proto::cell::Layer;
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// The step.
pub const STEP: Step = Step {
    name: "user",
    layer: Some(Layer::User),
    apply,
};

fn apply(jail: &mut Jail<'_>) -> Result<(), StepError> {
    let identity = jail.plan.identity;
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    // Groups first: after the user is dropped, the right to is gone.
    set_thread_groups(&[])
        .and_then(|()| set_thread_res_gid(gid, gid, gid))
        .and_then(|()| set_thread_res_uid(uid, uid, uid))
        .map_err(|e| {
            StepError::new(
                format!("becoming uid {uid:?}"),
                e,
                "run the jailer with CAP_SETUID and CAP_SETGID, in a user namespace that \
                 maps this uid",
            )
        })
}

/// All four uids and gids and the groups of every thread.
pub fn read_back(seen: &Seen<'_>) -> Observation {
    let identity = seen.plan.identity;
    let declared = format!("uid {}, gid {}, no groups", identity.uid, identity.gid);
    let observed = seen.of_threads(|thread| {
        let good = thread.uids == [identity.uid; 4]
            && thread.gids == [identity.gid; 4]
            && thread.groups.is_empty();
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
