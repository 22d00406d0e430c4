//! cgroup limits: in force before the VMM's first instruction.
//!
//! The supervisor makes the cgroup and sets its limits (`crate::cgroup`). On v2 the child
//! is cloned into it; on v1 it moves itself in, while it is still one thread.

use super::{Observation, Step, StepError};
use crate::cgroup::Version;
use crate::child::Jail;
use crate::readback::Seen;
use casemate_proto::cell::Layer;

/// The child's part.
pub const JOIN: Step = Step {
    name: "cgroup",
    layer: Some(Layer::Cgroup),
    apply: join,
};

fn join(jail: &mut Jail<'_>) -> Result<(), StepError> {
    let Some(cgroup) = &jail.plan.cgroup else {
        return Err(StepError::new(
            "joining the cell's cgroup",
            "it could not be made",
            "see the first error",
        ));
    };
    for leaf in cgroup.leaves() {
        if leaf.version() == Version::V1 {
            leaf.join().map_err(|e| {
                StepError::new(
                    "joining the cell's cgroup",
                    e,
                    "see that nothing else manages the hierarchy's `casemate` directory",
                )
            })?;
        }
    }
    Ok(())
}

/// Every thread in every leaf, every limit as set.
pub fn read_back(seen: &Seen<'_>) -> Observation {
    let Some(cgroup) = &seen.plan.cgroup else {
        return Observation {
            declared: "limits of memory, CPU time and tasks".to_owned(),
            observed: "no cgroup".to_owned(),
            holds: false,
        };
    };
    let declared: Vec<String> = cgroup.leaves().iter().flat_map(|l| l.declared()).collect();
    let observed = (|| {
        let mut limits = Vec::new();
        for leaf in cgroup.leaves() {
            let inside = leaf.threads().map_err(|e| e.to_string())?;
            if let Some(outside) = seen.threads().iter().find(|t| !inside.contains(&t.tid)) {
                return Err(format!("{outside} is not in {}", leaf.path().display()));
            }
            limits.extend(leaf.check_limits().map_err(|e| e.to_string())?);
        }
        Ok(limits.join(", "))
    })();
    Observation::of(declared.join(", "), observed)
}
