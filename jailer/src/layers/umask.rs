//! umask: what the VMM might make is its own alone.

use super::{Step, StepError};
use crate::child::Jail;
use rustix::fs::Mode;

/// The step.
pub const STEP: Step = Step {
    name: "umask",
    layer: None,
    apply,
};

fn apply(_: &mut Jail<'_>) -> Result<(), StepError> {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    Ok(())
}
