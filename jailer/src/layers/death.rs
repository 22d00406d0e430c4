//! The first process dies with its supervisor (PR_SET_PDEATHSIG): nothing that nobody watches lives on.
//!
//! The kernel forgets the setting when the user changes, so it is made twice: first of all,
//! and again after that change. Each time the supervisor may have died just before; its end
//! of the control socket tells.

use super::{FIRST, Step, StepError, libc_result};
use crate::child::Jail;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, set_parent_process_death_signal};

/// Before anything else.
pub const EARLY: Step = Step {
    name: "parent-death",
    who: FIRST,
    layer: None,
    apply: early,
};

/// After the change of user.
pub const STEP: Step = Step {
    name: "parent-death-again",
    who: FIRST,
    layer: None,
    apply,
};

fn early(jail: &mut Jail<'_>) -> Result<(), StepError> {
    for &fd in &jail.supervisors {
        // SAFETY: these are the child's copies of fds whose owners it never drops or uses.
        libc_result(unsafe { libc::close(fd) }.into())
            .map_err(|e| StepError::new("closing the supervisor's fds", e, "report this"))?;
    }
    apply(jail)
}

fn apply(jail: &mut Jail<'_>) -> Result<(), StepError> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|e| StepError::new("prctl(PR_SET_PDEATHSIG)", e, "report this"))?;
    let mut fds = [PollFd::from_borrowed_fd(jail.control(), PollFlags::empty())];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&now))
        .map_err(|e| StepError::new("looking whether the supervisor lives", e, "report this"))?;
    match fds[0].revents().is_empty() {
        true => Ok(()),
        false => Err(StepError::new(
            "looking whether the supervisor lives",
            "it is gone",
            "start the cell again",
        )),
    }
}
