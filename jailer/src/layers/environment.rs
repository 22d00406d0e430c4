//! Environment: what the policy declares, so that no secret of the launcher's gets in.
//!
//! What the exec will be given is set up beforehand; the supervisor looks at it in the
//! child's memory before the exec (a program) or in `/proc` after it (a VMM).

use super::{AT_START, FIRST, Observation, Step, StepError};
use crate::child::Jail;
use crate::readback::{Moment, Seen};
use casemate_proto::cell::Layer;

/// The step.
pub const STEP: Step = Step {
    name: "environment",
    who: FIRST,
    layer: Some(Layer::Environment),
    apply,
};

fn apply(jail: &mut Jail<'_>) -> Result<(), StepError> {
    jail.environment = jail.exec.environment.as_ptr();
    Ok(())
}

/// The variables, by name. Their values do not go into the report: they may be secret.
pub fn read_back(seen: &Seen<'_>) -> Observation {
    match seen.plan.program() {
        None => {
            let observed = match seen.read("environ") {
                Ok(text) if text.is_empty() => Ok("empty".to_owned()),
                Ok(text) => Err(format!("{} bytes", text.len())),
                Err(e) => Err(format!("environ: {e}")),
            };
            Observation::of("empty", observed)
        }
        Some(program) if seen.moment == Moment::Running => {
            Observation::of(program.variables.join(" "), Ok(AT_START.to_owned()))
        }
        Some(program) => {
            let observed = match &seen.environment {
                Ok(text) => names(text),
                Err(e) => return Observation::of(program.variables.join(" "), Err(e.clone())),
            };
            let mut declared = program.variables.clone();
            declared.sort_unstable();
            Observation::compare(declared.join(" "), observed.join(" "))
        }
    }
}

/// Names in a block of null-terminated variables, sorted.
fn names(block: &[u8]) -> Vec<String> {
    let mut names: Vec<String> = block
        .split(|&byte| byte == 0)
        .filter(|variable| !variable.is_empty())
        .map(|variable| {
            let name = variable.split(|&byte| byte == b'=').next();
            String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
        })
        .collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_are_told() {
        assert_eq!(names(b"B=secret\0A=1\0\0"), ["A", "B"]);
        assert_eq!(names(b""), Vec::<String>::new());
    }
}
