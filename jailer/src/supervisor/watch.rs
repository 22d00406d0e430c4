//! Waits for whatever comes first: the VMM's end, its word, the CLI's, a signal, the clock.

use casemate_proto::cell::ToJailer;
use casemate_proto::control::{Ended, FromVmm, Ready};
use casemate_proto::seqpacket;
use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Longest text that the VMM may have us pass on, in characters.
const MAX_TEXT: usize = 1000;

/// What came.
#[derive(Debug)]
pub enum Event {
    /// The VMM's process ended.
    Exited,
    /// The VMM is ready.
    Ready(Ready),
    /// The VMM says why it ends.
    Ended(Ended),
    /// The VMM sent what it may not, or closed its socket.
    Broken(String),
    /// The CLI, or a signal, asks for the end.
    Stop,
    /// The CLI is gone.
    Abandoned,
    /// The cell's time is over.
    Timeout,
    /// The wait's own limit.
    Waited,
}

/// What the supervisor watches.
#[derive(Debug)]
pub struct Watch<'a> {
    cli: BorrowedFd<'a>,
    signals: SignalFd,
    deadline: Option<Instant>,
}

impl<'a> Watch<'a> {
    /// The cell's time starts now.
    pub fn new(cli: BorrowedFd<'a>, signals: SignalFd, timeout_ms: Option<u64>) -> Self {
        let deadline =
            timeout_ms.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
        Self {
            cli,
            signals,
            deadline,
        }
    }

    /// The socket to the CLI.
    pub fn cli(&self) -> BorrowedFd<'a> {
        self.cli
    }

    /// Waits for one event, at most until `limit`. `control` is left out once it said its last.
    ///
    /// Of several events at once, the VMM's own words go first: they say most.
    pub fn next(
        &self,
        pidfd: BorrowedFd<'_>,
        control: Option<BorrowedFd<'_>>,
        limit: Option<Instant>,
    ) -> Event {
        loop {
            let mut fds = [
                PollFd::from_borrowed_fd(pidfd, PollFlags::IN),
                PollFd::from_borrowed_fd(self.cli, PollFlags::IN),
                PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
                // Without a control socket, the pidfd again: poll(2) wants a live fd.
                PollFd::from_borrowed_fd(control.unwrap_or(pidfd), PollFlags::IN),
            ];
            let until = [self.deadline, limit].into_iter().flatten().min();
            let left = until.map(|until| timespec(until.saturating_duration_since(Instant::now())));
            match poll(&mut fds, left.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Event::Broken(format!("poll: {e}")),
            }
            let [exited, cli, signal, vmm] = fds.map(|fd| !fd.revents().is_empty());
            if let Some(control) = control.filter(|_| vmm) {
                match from_vmm(control) {
                    Some(event) => return event,
                    // A dying process closes its fds a moment before its pidfd tells.
                    None if exits_soon(pidfd) => return Event::Exited,
                    None => return Event::Broken("it closed its control socket".to_owned()),
                }
            }
            if exited {
                return Event::Exited;
            }
            if cli {
                return from_cli(self.cli);
            }
            if signal {
                return Event::Stop;
            }
            let now = Instant::now();
            if self.deadline.is_some_and(|deadline| now >= deadline) {
                return Event::Timeout;
            }
            if limit.is_some_and(|limit| now >= limit) {
                return Event::Waited;
            }
        }
    }
}

/// Reads the VMM's next message; `None` where its end of the socket is closed.
fn from_vmm(control: BorrowedFd<'_>) -> Option<Event> {
    Some(match seqpacket::recv::<FromVmm>(control) {
        Ok(Some((_, fds))) if !fds.is_empty() => Event::Broken("it sent fds".to_owned()),
        Ok(Some((FromVmm::Ready(ready), _))) => Event::Ready(ready),
        Ok(Some((FromVmm::Ended(ended), _))) => Event::Ended(bounded(ended)),
        // Closed; or reset, where it was closed before our last message was read.
        Ok(None) | Err(seqpacket::SeqpacketError::Socket(_)) => return None,
        Err(e) => Event::Broken(e.to_string()),
    })
}

fn exits_soon(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    matches!(
        poll(&mut fds, Some(&timespec(Duration::from_secs(1)))),
        Ok(1)
    )
}

fn from_cli(cli: BorrowedFd<'_>) -> Event {
    match seqpacket::recv::<ToJailer>(cli) {
        Ok(Some((ToJailer::Stop, _))) => Event::Stop,
        // A second launch, junk, or nobody: in no case can the cell go on unattended.
        Ok(Some((ToJailer::Launch(_), _))) | Ok(None) | Err(_) => Event::Abandoned,
    }
}

/// The same with its text short and printable: it may end on a terminal.
fn bounded(ended: Ended) -> Ended {
    let clean = |text: String| {
        text.chars()
            .take(MAX_TEXT)
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .collect()
    };
    match ended {
        Ended::Reset | Ended::TripleFault => ended,
        Ended::Refused { message } => Ended::Refused {
            message: clean(message),
        },
        Ended::Failed { message } => Ended::Failed {
            message: clean(message),
        },
    }
}

/// Rounded up, so that what is waited for is there when the wait is over.
fn timespec(duration: Duration) -> Timespec {
    let up = duration + Duration::from_millis(1);
    Timespec {
        tv_sec: up.as_secs() as i64,
        tv_nsec: up.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vmms_text_is_bounded_and_printable() {
        let message = format!("\u{1b}[2Jboo\n{}", "x".repeat(5000));
        let Ended::Failed { message } = bounded(Ended::Failed { message }) else {
            panic!("another kind");
        };
        assert!(message.chars().count() <= MAX_TEXT);
        assert!(!message.chars().any(char::is_control));
    }
}
