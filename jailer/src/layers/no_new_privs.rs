//! no_new_privs: no exec gives more rights (PR_SET_NO_NEW_PRIVS(2const)).

use super::{FIRST, Observation, Step, StepError};
use crate::child::Jail;
use crate::readback::{Moment, Seen};
use casemate_proto::cell::Layer;
use rustix::thread::set_no_new_privs;

/// The step.
pub const STEP: Step = Step {
    name: "no-new-privs",
    who: FIRST,
    layer: Some(Layer::NoNewPrivs),
    apply,
};

fn apply(_: &mut Jail<'_>) -> Result<(), StepError> {
    set_no_new_privs(true)
        .map_err(|e| StepError::new("prctl(PR_SET_NO_NEW_PRIVS)", e, "run Linux 3.5 or later"))
}

/// Set on every thread, and set already before the exec: a VMM that sets it itself, as
/// installing a filter makes it do, cannot stand in for the jailer.
pub fn read_back(seen: &Seen<'_>) -> Observation {
    let before = match seen.plan.program() {
        // Looked at before its exec as it is.
        Some(_) => Some(true),
        None if seen.moment == Moment::Running => Some(true),
        None => seen.notes.no_new_privs,
    };
    let observed = match before {
        Some(true) => seen
            .of_threads(|thread| match thread.no_new_privs {
                true => Ok(()),
                false => Err("0".to_owned()),
            })
            .map(|()| "1".to_owned()),
        Some(false) => Err("0 before the exec".to_owned()),
        None => Err("not read before the exec".to_owned()),
    };
    Observation::of("1", observed)
}
