//! Signals: all at their default, none blocked. Both pass through exec, and the launcher's
//! or the supervisor's would be the VMM's.

use super::{Step, StepError};
use crate::child::Jail;
use std::mem::MaybeUninit;
use std::ptr;

/// The step.
pub const STEP: Step = Step {
    name: "signals",
    layer: None,
    apply,
};

/// Signals are numbered 1 to 64 (signal(7)).
const LAST: libc::c_int = 64;

fn apply(_: &mut Jail<'_>) -> Result<(), StepError> {
    for signal in 1..=LAST {
        // SAFETY: an all-zero sigaction is SIG_DFL with an empty mask and no flags. The
        // call fails for SIGKILL and SIGSTOP, which are at their default anyway, and for
        // the two that libc keeps to itself, which it has not touched in one thread.
        unsafe {
            let default: libc::sigaction = MaybeUninit::zeroed().assume_init();
            libc::sigaction(signal, &raw const default, ptr::null_mut());
        }
    }
    nix::sys::signal::SigSet::empty()
        .thread_set_mask()
        .map_err(|e| StepError::new("unblocking signals", e, "report this: it cannot fail here"))
}
