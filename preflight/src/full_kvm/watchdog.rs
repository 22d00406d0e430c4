//! Runs a blocking ioctl for a limited time.
//!
//! Time in which the host had no processor for the thread does not count: a busy host is
//! not a KVM that hangs.

use std::fs;
use std::io;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

/// How often, and how many times, a thread that is late is interrupted. A signal
/// can come just before the ioctl is entered and is lost then, hence more than one.
const NUDGES: (u32, Duration) = (10, Duration::from_millis(5));

/// Longest that a starved thread is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Least time between two looks at how much it was starved.
const LOOK: Duration = Duration::from_millis(5);

extern "C" fn nothing(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

/// Runs `work` in a thread; `None` when it did not end within `limit` of time in which
/// it could run. The thread is then interrupted by a signal whose handler does nothing, which ends `KVM_RUN`
/// with `EINTR`; if not even that ends it, it is left behind.
pub fn run<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let signal = SIGRTMIN() + 7;
    register_signal_handler(signal, nothing)
        .map_err(|e| io::Error::from_raw_os_error(e.errno()))?;
    let (done, result) = channel();
    let (begun, began) = channel();
    let thread = thread::Builder::new()
        .name("full-kvm".to_owned())
        .spawn(move || {
            let _ = begun.send(nix::unistd::gettid());
            // The receiver is gone only when the time was up.
            let _ = done.send(work());
        })?;
    let started = Instant::now();
    let tid = began
        .recv_timeout(PATIENCE)
        .unwrap_or(nix::unistd::gettid());
    loop {
        let counted = started.elapsed().saturating_sub(starved(tid.as_raw()));
        let left = limit.saturating_sub(counted);
        if left.is_zero() || started.elapsed() > PATIENCE {
            break;
        }
        match result.recv_timeout(left.max(LOOK)) {
            Ok(value) => return Ok(Some(value)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
        }
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

/// How long a thread of ours was ready to run and had no processor: the second number
/// of `/proc/PID/task/TID/schedstat`, in nanoseconds (Linux, scheduler/sched-stats). None
/// where the kernel does not count it.
fn starved(tid: i32) -> Duration {
    let text = fs::read_to_string(format!("/proc/self/task/{tid}/schedstat")).unwrap_or_default();
    let waited = text.split_ascii_whitespace().nth(1);
    Duration::from_nanos(waited.and_then(|ns| ns.parse().ok()).unwrap_or(0))
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
    fn the_time_without_a_processor_is_counted() {
        let one = nix::sched::CpuSet::new();
        let current = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap_or(one);
        let first = (0..nix::sched::CpuSet::count()).find(|&n| current.is_set(n) == Ok(true));
        let mut pinned = nix::sched::CpuSet::new();
        pinned.set(first.unwrap()).unwrap();
        let spin = move || {
            nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &pinned).unwrap();
            let tid = nix::unistd::gettid().as_raw();
            let until = Instant::now() + Duration::from_millis(200);
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            starved(tid)
        };
        let threads: Vec<_> = (0..2).map(|_| thread::spawn(spin)).collect();
        let waited: Duration = threads.into_iter().map(|t| t.join().unwrap()).sum();
        assert!(waited > Duration::from_millis(50), "{waited:?}");
    }

    #[test]
    fn a_quick_call_gives_its_value() {
        assert_eq!(run(Duration::from_secs(5), || 7).unwrap(), Some(7));
    }
}
