//! cgroup limits: in force before the first instruction of what is jailed.
//!
//! The supervisor makes the cgroup and sets its limits (`crate::cgroup`). On v2 the child
//! is cloned into it; on v1 it moves itself in, while it is still one thread, by files that
//! the supervisor sends as soon as they are there.

use super::{FIRST, Observation, Step, StepError};
use crate::channel::{Word, hear};
use crate::child::Jail;
use crate::readback::Seen;
use casemate_proto::cell::Layer;

/// The child's part.
pub const JOIN: Step = Step {
    name: "cgroup",
    who: FIRST,
    layer: Some(Layer::Cgroup),
    apply: join,
};

fn join(jail: &mut Jail<'_>) -> Result<(), StepError> {
    if !jail.joins {
        return Ok(());
    }
    let files = hear(jail.control(), Word::Join)
        .map_err(|e| StepError::new("waiting for the cgroups", e, "see the supervisor's error"))?;
    for file in files {
        // "0" is the writer. For it alone the kernel skips the lock that every fork and exec
        // on the host takes, which moving a process by its number waits for.
        rustix::io::write(&file, b"0").map_err(|e| {
            StepError::new(
                "joining the cell's cgroup",
                e,
                "see that nothing else manages the hierarchy's `casemate` directory",
            )
        })?;
    }
    Ok(())
}

/// Every thread in every leaf, every limit as set.
pub fn read_back(seen: &Seen<'_>) -> Observation {
    let Some(cgroup) = seen.cgroup else {
        return Observation {
            declared: "limits of memory, CPU time and tasks".to_owned(),
            observed: "no cgroup".to_owned(),
            holds: false,
        };
    };
    let declared: Vec<String> = cgroup.leaves().iter().flat_map(|l| l.declared()).collect();
    let observed = (|| {
        for leaf in cgroup.leaves() {
            let inside = leaf.threads().map_err(|e| e.to_string())?;
            if let Some(outside) = seen.threads().iter().find(|t| !inside.contains(&t.tid)) {
                return Err(format!("{outside} is not in {}", leaf.path().display()));
            }
        }
        cgroup.limits().map(|limits| limits.join(", "))
    })();
    Observation::of(declared.join(", "), observed)
}
