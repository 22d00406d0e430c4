//! umask: what is made inside is its maker's alone.

use super::{AT_START, FIRST, Observation, Step, StepError};
use crate::child::Jail;
use crate::readback::{Moment, Seen};
use casemate_proto::cell::Layer;
use rustix::fs::Mode;

/// The step.
pub const STEP: Step = Step {
    name: "umask",
    who: FIRST,
    layer: Some(Layer::Umask),
    apply,
};

const MASK: Mode = Mode::RWXG.union(Mode::RWXO);

fn apply(_: &mut Jail<'_>) -> Result<(), StepError> {
    rustix::process::umask(MASK);
    Ok(())
}

/// Every thread's.
pub fn read_back(seen: &Seen<'_>) -> Observation {
    let declared = format!("{:03o}", MASK.bits());
    if seen.moment == Moment::Running {
        // Anybody may change their own.
        return Observation::of(declared, Ok(AT_START.to_owned()));
    }
    let observed = seen.of_threads(|thread| match thread.umask == MASK.bits() {
        true => Ok(()),
        false => Err(format!("{:03o}", thread.umask)),
    });
    Observation::of(&declared, observed.map(|()| declared.clone()))
}
