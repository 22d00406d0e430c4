//! The event fds the VMM makes for itself: eventfd, epoll, timerfd.
//!
//! All stand at [`EVENT_BASE`] or above, so that the fixed numbers below stay
//! free for what they are documented for and the read-back can tell the two
//! apart. **No other place in the VMM makes such an fd.**

use casemate_proto::fds::EVENT_BASE;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
use std::io;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};
use thiserror::Error;
pub use vmm_sys_util::eventfd::EventFd;

/// An event fd could not be made.
#[derive(Debug, Error)]
#[error("cannot make {kind}: {source} (see the limit on open files, `limits.nofile`)")]
pub struct EventError {
    kind: &'static str,
    source: io::Error,
}

impl EventError {
    fn of(kind: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self { kind, source }
    }
}

/// Moves an fd to the lowest free number from [`EVENT_BASE`] on, close-on-exec.
fn lift(fd: OwnedFd) -> io::Result<OwnedFd> {
    let lifted = fcntl(fd.as_fd(), FcntlArg::F_DUPFD_CLOEXEC(EVENT_BASE))?;
    // SAFETY: fcntl has just made this fd; nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(lifted) })
}

/// A non-blocking eventfd (eventfd(2)), counter 0.
pub fn event_fd() -> Result<EventFd, EventError> {
    let error = EventError::of("an eventfd");
    let low = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC).map_err(&error)?;
    // SAFETY: `low` gives its fd away and does not close it.
    let low = unsafe { OwnedFd::from_raw_fd(low.into_raw_fd()) };
    let high = lift(low).map_err(&error)?;
    // SAFETY: `high` is an eventfd and gives its number away.
    Ok(unsafe { EventFd::from_raw_fd(high.into_raw_fd()) })
}

/// An epoll instance (epoll(7)).
pub fn epoll() -> Result<Epoll, EventError> {
    let error = EventError::of("an epoll instance");
    let low = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|e| error(e.into()))?;
    lift(low.0).map(Epoll).map_err(&error)
}

/// A non-blocking, unarmed timer on `CLOCK_MONOTONIC` (timerfd_create(2)).
pub fn timer_fd() -> Result<TimerFd, EventError> {
    let error = EventError::of("a timerfd");
    let low = TimerFd::new(
        ClockId::CLOCK_MONOTONIC,
        TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
    )
    .map_err(|e| error(e.into()))?;
    let high = lift(OwnedFd::from(low)).map_err(&error)?;
    // SAFETY: `high` is a timerfd and gives its number away.
    Ok(unsafe { TimerFd::from_raw_fd(high.into_raw_fd()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn every_event_fd_stands_above_the_base_and_closes_on_exec() {
        let (event, epoll, timer) = (event_fd().unwrap(), epoll().unwrap(), timer_fd().unwrap());
        for fd in [
            event.as_raw_fd(),
            epoll.0.as_raw_fd(),
            timer.as_fd().as_raw_fd(),
        ] {
            assert!(fd >= EVENT_BASE, "{fd}");
            // SAFETY: F_GETFD takes no pointer.
            assert_eq!(unsafe { libc::fcntl(fd, libc::F_GETFD) }, libc::FD_CLOEXEC);
        }
    }

    #[test]
    fn an_event_counts() {
        let event = event_fd().unwrap();
        event.write(2).unwrap();
        assert_eq!(event.read().unwrap(), 2);
        assert_eq!(event.read().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
