//! What the program would inherit of its caller: terminal, session, keys, signals.

use super::Addition;
use super::error::PeerError;
use crate::layers::{keyring, libc_result, signals};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::setsid;
use std::os::fd::{AsRawFd, OwnedFd};

/// Leaves the session and the terminal, so that nothing can be typed into it (TIOCSTI).
///
/// The process keeps its pid, so it cannot fork for this: one that leads a process group
/// stays in its session and gives up the terminal alone. A daemon is in a session of its own
/// by now, and not to lead it: only a leader gets a terminal again.
///
/// # Errors
/// Where the terminal stays.
pub fn leave(daemon: bool) -> Result<(), PeerError> {
    let layer = |why: String| {
        PeerError::layer(
            Addition::Session,
            why,
            "start the jailer without a terminal",
        )
    };
    if !daemon {
        // Fails for a leader of a process group.
        let _ = setsid();
    }
    if let Some(terminal) = terminal().map_err(|e| layer(format!("cannot be applied: {e}")))? {
        // A session leader's own SIGHUP comes with this call.
        let old = disposition(libc::SIGHUP, libc::SIG_IGN);
        // SAFETY: takes no memory.
        let left =
            libc_result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCNOTTY) }.into());
        disposition(libc::SIGHUP, old);
        left.map_err(|e| layer(format!("cannot be applied: TIOCNOTTY: {e}")))?;
    }
    match terminal() {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(layer(
            "does not hold: the terminal is still there".to_owned(),
        )),
        Err(e) => Err(layer(format!("cannot be checked: /dev/tty: {e}"))),
    }
}

/// The controlling terminal, if there is one.
fn terminal() -> Result<Option<OwnedFd>, Errno> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match open("/dev/tty", flags, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NXIO) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Sets a signal's disposition and returns the one before.
fn disposition(signal: libc::c_int, handler: libc::sighandler_t) -> libc::sighandler_t {
    // SAFETY: no handler of ours is ever named, only SIG_DFL, SIG_IGN, and what was there.
    unsafe { libc::signal(signal, handler) }
}

/// An empty session keyring (keyctl(2)).
///
/// # Errors
/// The call's own.
pub fn keyring() -> Result<(), PeerError> {
    keyring::join().map(drop).map_err(|e| {
        PeerError::layer(
            Addition::Keyring,
            format!("cannot be applied: {e}"),
            keyring::REMEDY,
        )
    })
}

/// All signals at their default, none blocked.
///
/// # Errors
/// The call's own.
pub fn signals() -> Result<(), PeerError> {
    signals::reset().map_err(|e| PeerError::layer(Addition::Signals, e, "report this"))
}

/// What Rust's own start-up changed is put back: the one signal that it ignores.
pub fn default_sigpipe() {
    disposition(libc::SIGPIPE, libc::SIG_DFL);
}
