//! A fresh, empty session keyring (keyrings(7)). Every process inherits the launcher's
//! otherwise, and may read the keys in it.

use super::{AT_START, FIRST, Observation, Step, StepError, libc_result};
use crate::child::{Jail, Note};
use crate::readback::Seen;
use casemate_proto::cell::Layer;
use std::io;
use std::ptr;

/// The step.
pub const STEP: Step = Step {
    name: "keyring",
    who: FIRST,
    layer: Some(Layer::Keyring),
    apply,
};

/// KEY_SPEC_SESSION_KEYRING.
const SESSION: libc::c_int = -3;

/// What helps where the keyring cannot be joined.
pub const REMEDY: &str = "raise /proc/sys/kernel/keys/root_maxkeys, or run outside of a container \
                          that forbids keyctl";

/// Joins an anonymous, empty session keyring, and returns its serial number; `None` on a
/// kernel without keys, which has none to read.
///
/// # Errors
/// keyctl(2)'s.
pub fn join() -> io::Result<Option<i32>> {
    // SAFETY: a null name makes an anonymous keyring; no memory is passed.
    let joined = libc_result(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            ptr::null::<libc::c_char>(),
        )
    });
    match joined {
        Ok(serial) => Ok(Some(serial as i32)),
        Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => Ok(None),
        Err(e) => Err(e),
    }
}

fn apply(jail: &mut Jail<'_>) -> Result<(), StepError> {
    let joined = join();
    let joined =
        joined.map_err(|e| StepError::new("joining an empty session keyring", e, REMEDY))?;
    let seen = match joined {
        Some(serial) => keys().map(|keys| (serial, keys)),
        None => Ok((0, 0)),
    };
    jail.note(Note::Keyring(seen.map_err(|e| e.to_string())));
    Ok(())
}

/// How many keys are in the session keyring.
fn keys() -> io::Result<usize> {
    // SAFETY: no buffer is passed, only its length of 0: the kernel tells what it would take.
    let bytes = libc_result(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_READ,
            SESSION,
            ptr::null_mut::<libc::c_char>(),
            0,
        )
    })?;
    Ok(bytes as usize / size_of::<i32>())
}

/// The serial number of the caller's session keyring; 0 where there is none.
fn own() -> i64 {
    // SAFETY: asks for a number, and makes no keyring where there is none; no memory is passed.
    let id = libc_result(unsafe {
        libc::syscall(libc::SYS_keyctl, libc::KEYCTL_GET_KEYRING_ID, SESSION, 0)
    });
    id.unwrap_or(0)
}

/// What the child saw of its keyring, which the kernel shows to nobody else.
pub fn read_back(seen: &Seen<'_>) -> Observation {
    let declared = "its own, without a key";
    let observed = match &seen.notes.keyring {
        None if seen.held_at_start(Layer::Keyring) => Ok(AT_START.to_owned()),
        None => Err("the launcher's".to_owned()),
        Some(Err(e)) => Err(e.clone()),
        // Of a kernel without keys.
        Some(Ok((0, _))) => Ok("there are none".to_owned()),
        Some(Ok((serial, _))) if i64::from(*serial) == own() => Err("the supervisor's".to_owned()),
        Some(Ok((_, 0))) => Ok(declared.to_owned()),
        Some(Ok((_, keys))) => Err(format!("{keys} keys")),
    };
    Observation::of(declared, observed)
}
