//! Signals: all at their default, none blocked. Both pass through exec, and the launcher's
//! or the supervisor's would be the program's.

use super::{FIRST, Observation, Step, StepError};
use crate::child::Jail;
use crate::readback::{Moment, Seen};
use casemate_proto::cell::Layer;
use std::ptr;

/// The step.
pub const STEP: Step = Step {
    name: "signals",
    who: FIRST,
    layer: Some(Layer::Signals),
    apply,
};

/// Signals are numbered 1 to 64 (signal(7)).
const LAST: libc::c_int = 64;
/// SIGPIPE's bit: the runtime of a Rust program ignores that signal by itself.
const PIPE: u64 = 1 << (libc::SIGPIPE - 1);

fn apply(_: &mut Jail<'_>) -> Result<(), StepError> {
    reset().map_err(|e| StepError::new("unblocking signals", e, "report this: it cannot fail here"))
}

/// Sets all signals of the process to their default, and unblocks them.
///
/// # Errors
/// sigprocmask(2)'s.
pub fn reset() -> nix::Result<()> {
    for signal in 1..=LAST {
        // The kernel's struct sigaction: handler, flags, restorer, mask. libc's wrapper does
        // not let 32 and 33 be set, which it keeps to itself, and which may be ignored here.
        let default = [0u64; 4];
        // SAFETY: all zero is SIG_DFL with no flags and an empty mask; `default` outlives the
        // call, which reads it. It fails for SIGKILL and SIGSTOP only, which cannot be set.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null_mut::<u64>(),
                size_of::<u64>(),
            );
        }
    }
    nix::sys::signal::SigSet::empty().thread_set_mask()
}

/// Ignored and blocked signals of every thread. A VMM is looked at after its exec, when its
/// own runtime has begun to block some for itself, as a program may later.
pub fn read_back(seen: &Seen<'_>) -> Observation {
    let own = seen.plan.vm().is_some() || seen.moment == Moment::Running;
    let observed = seen.of_threads(|thread| {
        let good = match own {
            true => thread.signals_ignored & !PIPE == 0,
            false => thread.signals_ignored == 0 && thread.signals_blocked == 0,
        };
        match good {
            true => Ok(()),
            false => Err(format!(
                "ignored {:016x}, blocked {:016x}",
                thread.signals_ignored, thread.signals_blocked
            )),
        }
    });
    let declared = "none ignored, none blocked";
    Observation::of(declared, observed.map(|()| declared.to_owned()))
}
