//! Environment: none, so that no secret of the launcher's gets in.

use super::{Observation, Step, StepError};
use crate::child::Jail;
use crate::readback::Seen;
use casemate_proto::cell::Layer;
use std::ptr;

/// The step.
pub const STEP: Step = Step {
    name: "environment",
    layer: Some(Layer::Environment),
    apply,
};

fn apply(jail: &mut Jail<'_>) -> Result<(), StepError> {
    jail.environment = ptr::null();
    Ok(())
}

/// `/proc/PID/environ`. Only how much there is goes into the report: it may be secret.
pub fn read_back(seen: &Seen<'_>) -> Observation {
    let observed = match seen.read("environ") {
        Ok(text) if text.is_empty() => Ok("empty".to_owned()),
        Ok(text) => Err(format!("{} bytes", text.len())),
        Err(e) => Err(format!("environ: {e}")),
    };
    Observation::of("empty", observed)
}
