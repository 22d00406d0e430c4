//! Scheduling: ordinary, whatever the launcher has. A guest that runs under a real-time
//! policy takes the host's CPUs for good, and a v1 cpu cgroup does not take such a process.

use super::{FIRST, Step, StepError, libc_result};
use crate::child::Jail;

/// The step.
pub const STEP: Step = Step {
    name: "scheduling",
    who: FIRST,
    layer: None,
    apply,
};

/// ioprio_set(2): this process, and "no class of its own" (it then goes by the nice value).
const IOPRIO_WHO_PROCESS: libc::c_int = 1;
const IOPRIO_NONE: libc::c_int = 0;

fn apply(_: &mut Jail<'_>) -> Result<(), StepError> {
    let ordinary = libc::sched_param { sched_priority: 0 };
    // SAFETY: `ordinary` outlives the call, which reads it.
    let set = unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const ordinary) };
    libc_result(set.into()).map_err(|e| {
        StepError::new("setting SCHED_OTHER", e, "run the jailer with CAP_SYS_NICE")
    })?;
    // SAFETY: takes numbers and no memory.
    libc_result(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_NONE) })
        .map(drop)
        .map_err(|e| StepError::new("resetting the I/O priority", e, "report this"))
}
