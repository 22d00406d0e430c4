//! Runs a blocking ioctl for a limited time.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

/// How often, and how many times, a thread that is late is interrupted. A signal
/// can come just before the ioctl is entered and is lost then, hence more than one.
const NUDGES: (u32, Duration) = (10, Duration::from_millis(5));

extern "C" fn nothing(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

/// Runs `work` in a thread; `None` when it did not end in time. The thread is
/// then interrupted by a signal whose handler does nothing, which ends `KVM_RUN`
/// with `EINTR`; if not even that ends it, it is left behind.
pub fn run<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let signal = SIGRTMIN() + 7;
    register_signal_handler(signal, nothing)
        .map_err(|e| io::Error::from_raw_os_error(e.errno()))?;
    let (done, result) = channel();
    let thread = thread::Builder::new()
        .name("full-kvm".to_owned())
        .spawn(move || {
            // The receiver is gone only when the time was up.
            let _ = done.send(work());
        })?;
    match result.recv_timeout(limit) {
        Ok(value) => return Ok(Some(value)),
        Err(RecvTimeoutError::Disconnected) => return Ok(None),
        Err(RecvTimeoutError::Timeout) => {}
    }
    for _ in 0..NUDGES.0 {
        // The handle is not joined yet, so the thread's id is still its own.
        let _ = thread.kill(signal);
        if !matches!(
            result.recv_timeout(NUDGES.1),
            Err(RecvTimeoutError::Timeout)
        ) {
            break;
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_blocked_call_is_interrupted() {
        let started = Instant::now();
        let came = run(Duration::from_millis(20), || {
            // SAFETY: pause takes nothing.
            unsafe { libc::pause() }
        });
        assert_eq!(came.unwrap(), None);
        assert!(started.elapsed() < Duration::from_millis(500));
    }

    #[test]
    fn a_quick_call_gives_its_value() {
        assert_eq!(run(Duration::from_secs(5), || 7).unwrap(), Some(7));
    }
}
