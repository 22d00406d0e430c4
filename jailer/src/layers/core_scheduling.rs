//! Core scheduling: no other tenant's thread on the sibling of a core that this one uses
//! (PR_SCHED_CORE(2const)), as some leaks between hyper-threads need.

use super::{AT_START, FIRST, Observation, Step, StepError, libc_result};
use crate::child::{Jail, Note};
use crate::readback::Seen;
use casemate_proto::cell::Layer;
use std::io;

/// The step.
pub const STEP: Step = Step {
    name: "core-scheduling",
    who: FIRST,
    layer: Some(Layer::CoreScheduling),
    apply,
};

/// `enum pid_type` of the kernel: the whole thread group.
const THREAD_GROUP: libc::c_ulong = 1;

fn apply(jail: &mut Jail<'_>) -> Result<(), StepError> {
    let failed = |e: io::Error| {
        StepError::new(
            "prctl(PR_SCHED_CORE)",
            e,
            "run Linux 5.14 or later with CONFIG_SCHED_CORE on a machine with SMT on; where \
             SMT is off, leave --core-scheduling out",
        )
    };
    // SAFETY: takes numbers and no memory.
    let created = unsafe {
        libc::prctl(
            libc::PR_SCHED_CORE,
            libc::PR_SCHED_CORE_CREATE,
            0,
            THREAD_GROUP,
            0,
        )
    };
    libc_result(created.into()).map_err(failed)?;
    jail.note(Note::Core(cookie().map_err(failed)?));
    Ok(())
}

/// The caller's cookie; 0: it shares its core with anybody.
fn cookie() -> io::Result<u64> {
    let mut cookie: u64 = 0;
    // SAFETY: the kernel writes 8 bytes to `cookie`, which outlives the call.
    let got = unsafe {
        libc::prctl(
            libc::PR_SCHED_CORE,
            libc::PR_SCHED_CORE_GET,
            0,
            0,
            &raw mut cookie,
        )
    };
    libc_result(got.into()).map(|_| cookie)
}

/// The cookie that the child saw; every process that it starts inherits it.
pub fn read_back(seen: &Seen<'_>) -> Observation {
    let observed = match seen.notes.core {
        None if seen.held_at_start(Layer::CoreScheduling) => Ok(AT_START.to_owned()),
        Some(0) | None => Err("none".to_owned()),
        Some(_) => Ok("a cookie of its own".to_owned()),
    };
    Observation::of("a cookie of its own", observed)
}
