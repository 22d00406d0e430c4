//! The ids of the user namespace in which an ordinary user's jail is made. clone3(2) made it
//! with the child: the child has every capability in it, and none outside.
//!
//! They are called in it as outside, the host's 0 is not among them, and setgroups(2) stays
//! forbidden where they are the launcher's own.

use super::{Step, StepError, Who, user_namespace};
use crate::channel::{Word, hear};
use crate::child::Jail;
use crate::rights::{self, Ids};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use std::os::fd::AsFd;

/// The step; does nothing where root makes the jail.
pub const STEP: Step = Step {
    name: "outer-ids",
    who: &[Who::Init],
    layer: None,
    apply,
};

fn apply(jail: &mut Jail<'_>) -> Result<(), StepError> {
    let Some(launcher) = jail.plan.rights.launcher() else {
        return Ok(());
    };
    let what = "mapping the launcher's ids into its user namespace";
    match launcher.ids {
        Ids::Single => {}
        Ids::Range { .. } => {
            return hear(jail.control(), Word::Mapped)
                .map(drop)
                .map_err(|e| StepError::new(what, e, "see the supervisor's error"));
        }
    }
    let one = |id: u32| format!("{id} {id} 1\n");
    let own = launcher.identity;
    // The files are root's where our binary is one that we may not read.
    set_dumpable_behavior(DumpableBehavior::Dumpable)
        .and_then(|()| user_namespace::proc_self())
        .and_then(|dir| user_namespace::write_maps(dir.as_fd(), &one(own.uid), &one(own.gid)))
        .map_err(|e| match rights::obstacle() {
            Some(why) => StepError::new(what, why, "see `casemate doctor`"),
            None => StepError::new(what, e, "mount the host's /proc writable"),
        })
}
