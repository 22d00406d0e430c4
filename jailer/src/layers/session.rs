//! A session and a session keyring of its own: no terminal to push input into (TIOCSTI),
//! and none of the launcher's keys (keyctl(2)), which every process inherits otherwise.

use super::{Step, StepError, libc_result};
use crate::child::Jail;
use rustix::process::setsid;
use std::ptr;

/// The step.
pub const STEP: Step = Step {
    name: "session",
    layer: None,
    apply,
};

fn apply(_: &mut Jail<'_>) -> Result<(), StepError> {
    setsid().map_err(|e| StepError::new("setsid", e, "report this: it cannot fail here"))?;
    // SAFETY: a null name makes an anonymous keyring; no memory is passed.
    let joined = libc_result(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            ptr::null::<libc::c_char>(),
        )
    });
    match joined {
        Ok(_) => Ok(()),
        // A kernel without keys has none to read.
        Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        Err(e) => Err(StepError::new(
            "joining an empty session keyring",
            e,
            "raise /proc/sys/kernel/keys/root_maxkeys, or run outside of a container \
             that forbids keyctl",
        )),
    }
}
