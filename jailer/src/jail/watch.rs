//! Watches over a running program: its end, signals to us, its time.

use super::report::Report;
use super::{End, Life};
use crate::channel::{Word, hear};
use crate::own;
use crate::process::{Exit, pid_of};
use crate::refusal::Refusal;
use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// What the supervisor watches beside the jail.
#[derive(Debug)]
pub struct Watch {
    signals: SignalFd,
    deadline: Option<Instant>,
}

/// The program's process, before its exec.
#[derive(Debug)]
pub struct Waiting {
    /// In our pid namespace.
    pub pid: Pid,
    pidfd: OwnedFd,
}

impl Waiting {
    /// Whether it is the same process still: its number cannot have been given to another
    /// while its pidfd has it.
    ///
    /// # Errors
    /// Where it was killed.
    pub fn still_there(&self) -> Result<(), Refusal> {
        let gone = || {
            Refusal::new(
                "the program's process was killed before its exec: see the kernel's log for the \
                 out-of-memory killer",
            )
        };
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        match poll(&mut fds, Some(&now)) {
            Ok(0) => test_kill_process(self.pid).map_err(|_| gone()),
            _ => Err(gone()),
        }
    }
}

/// Takes the program's process from its init.
///
/// # Errors
/// Where the init is gone.
pub fn program(control: BorrowedFd<'_>) -> Result<Waiting, Refusal> {
    let failed = |e: &dyn std::fmt::Display| {
        Refusal::new(format!(
            "the init does not tell of its program: {e}; report this"
        ))
    };
    let mut fds = hear(control, Word::Program).map_err(|e| failed(&e))?;
    hear(control, Word::Confined).map_err(|e| failed(&e))?;
    let pidfd = fds.pop().ok_or_else(|| failed(&"no pidfd"))?;
    let pid = pid_of(pidfd.as_fd()).ok_or_else(|| failed(&"its pidfd tells no number"))?;
    Ok(Waiting { pid, pidfd })
}

/// Lets the program go.
///
/// # Errors
/// Where it is gone.
pub fn go(status: BorrowedFd<'_>) -> Result<(), Refusal> {
    crate::channel::say(status, Word::Go, &[])
        .map_err(|e| Refusal::new(format!("the program does not take its go: {e}; see dmesg")))
}

impl Watch {
    /// The time starts now; signals that ask for an end are ours from now on.
    ///
    /// # Errors
    /// The calls' own.
    pub fn new(limit_ms: Option<u64>) -> Result<Self, Refusal> {
        let deadline =
            limit_ms.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
        Ok(Self {
            signals: own::block_signals()?,
            deadline,
        })
    }

    /// Watches until the init, and with it everything, has ended. Signals go to the program's
    /// process group, by way of the init.
    /// Calls that the policy refuses are asked at `report`, if there is one.
    ///
    /// # Errors
    /// Where the kernel does not let us watch. The jail is the caller's to end.
    pub(super) fn attend(
        &self,
        init: BorrowedFd<'_>,
        control: BorrowedFd<'_>,
        report: &mut Report,
    ) -> Result<Life, Refusal> {
        loop {
            let mut fds = vec![
                PollFd::from_borrowed_fd(init, PollFlags::IN),
                PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            ];
            fds.extend(
                report
                    .fd()
                    .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
            );
            let left = self.deadline.map(|deadline| {
                // Rounded up, so that the time is over when the wait is.
                let left =
                    deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
                Timespec {
                    tv_sec: left.as_secs() as i64,
                    tv_nsec: left.subsec_nanos().into(),
                }
            });
            match poll(&mut fds, left.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => {
                    return Err(Refusal::new(format!(
                        "cannot watch the running program ({e}), so it was ended: see that the \
                         host has memory left"
                    )));
                }
            }
            let woken = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
            let (gone, signal, asked) = (woken(0), woken(1), woken(2));
            if asked {
                report.answer();
            }
            if gone {
                return Ok(match ended(control) {
                    Some(exit) => Life::Program(exit),
                    None => Life::Gone,
                });
            }
            if signal && let Ok(Some(info)) = self.signals.read_signal() {
                let number = [info.ssi_signo as u8];
                // An init that is gone is noticed by the next look.
                let _ = rustix::io::write(control, &number);
            }
            if self
                .deadline
                .is_some_and(|deadline| Instant::now() >= deadline)
            {
                return Ok(Life::Over(End::Timeout));
            }
        }
    }
}

/// The wait status that the init told before its end.
fn ended(control: BorrowedFd<'_>) -> Option<Exit> {
    let mut status = [0; 4];
    match rustix::io::read(control, &mut status) {
        Ok(4) => {
            let status = i32::from_ne_bytes(status);
            Some(match libc::WIFEXITED(status) {
                true => Exit::Status(libc::WEXITSTATUS(status)),
                false => Exit::Signal(libc::WTERMSIG(status)),
            })
        }
        _ => None,
    }
}
