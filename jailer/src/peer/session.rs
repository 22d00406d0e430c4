//! What the program would inherit of its caller: terminal, session, keys, signals.

use super::Addition;
use super::error::PeerError;
use crate::layers::libc_result;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::setsid;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;

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
        Err(e) => Err(PeerError::layer(
            Addition::Keyring,
            format!("cannot be applied: {e}"),
            "raise /proc/sys/kernel/keys/root_maxkeys, or run outside of a container that \
             forbids keyctl",
        )),
    }
}

/// The kernel's struct sigaction, all zero: the default, no flags, an empty mask.
const DEFAULT: [u64; 4] = [0; 4];

/// All signals at their default, none blocked.
///
/// By the system call itself: libc does not touch signals 32 and 33, which its own
/// posix_spawn leaves ignored.
///
/// # Errors
/// The call's own.
pub fn signals() -> Result<(), PeerError> {
    for signal in 1..=64 {
        // SAFETY: the structure is as large as the kernel's and outlives the call, which fails
        // for SIGKILL and SIGSTOP, and these are at their default.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                DEFAULT.as_ptr(),
                ptr::null_mut::<u64>(),
                std::mem::size_of::<u64>(),
            );
        }
    }
    nix::sys::signal::SigSet::empty()
        .thread_set_mask()
        .map_err(|e| PeerError::layer(Addition::Signals, e, "report this"))
}

/// What Rust's own start-up changed is put back: the one signal that it ignores.
pub fn default_sigpipe() {
    disposition(libc::SIGPIPE, libc::SIG_DFL);
}
