//! Not dumpable: nobody of the same user can attach to the half-built jail, and its
//! `/proc` files are root's (PR_SET_DUMPABLE(2const)).
//!
//! The exec sets it anew; the VMM clears it again for itself, and an init never executes. That no core is written even
//! so is the rlimits' work.

use super::{FIRST, Step, StepError};
use crate::child::Jail;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// The step.
pub const STEP: Step = Step {
    name: "dumpable",
    who: FIRST,
    layer: None,
    apply,
};

fn apply(_: &mut Jail<'_>) -> Result<(), StepError> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|e| StepError::new("prctl(PR_SET_DUMPABLE)", e, "report this"))
}
