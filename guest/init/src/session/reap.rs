//! Children: their ends, and the end of all of them.

use casemate_proto::agent::ExitedHow;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, getpid};
use std::os::fd::AsFd;

/// Notices the ends of children, orphans of others included when this is the first process.
#[derive(Debug)]
pub struct Children(SignalFd);

impl Children {
    /// Starts to watch. Blocks `SIGCHLD`.
    pub fn watch() -> nix::Result<Self> {
        let mut child = SigSet::empty();
        child.add(Signal::SIGCHLD);
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&child), None)?;
        SignalFd::with_flags(&child, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map(Self)
    }

    /// What to poll for.
    pub fn interest(&self) -> PollFd<'_> {
        PollFd::new(self.0.as_fd(), PollFlags::POLLIN)
    }

    /// Reaps whoever has ended, and tells of `leader`.
    pub fn reap(&self, leader: Pid) -> Option<ExitedHow> {
        // The signal says only that there is something to reap: one can stand for many.
        while let Ok(Some(_)) = self.0.read_signal() {}
        let mut found = None;
        loop {
            let mut status = 0;
            // SAFETY: `status` is an integer that outlives the call. Not nix's
            // waitpid: it takes the end by a real-time signal for an error.
            match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) } {
                0 => return found,
                -1 if Errno::last() == Errno::EINTR => {}
                -1 => return found,
                pid if pid == leader.as_raw() => found = Some(how(status)),
                _ => {}
            }
        }
    }
}

fn how(status: i32) -> ExitedHow {
    if libc::WIFSIGNALED(status) {
        ExitedHow::Signal((libc::WTERMSIG(status) & 0x7f) as u8)
    } else {
        ExitedHow::Code((libc::WEXITSTATUS(status) & 0xff) as u8)
    }
}

/// Kills every other process when this is the first one, and `leader`'s group otherwise.
///
/// kill(2) of -1 takes all at one instant, so no fork escapes it.
pub fn kill_all_others(leader: Pid) {
    let whom = if getpid() == Pid::from_raw(1) {
        Pid::from_raw(-1)
    } else {
        Pid::from_raw(-leader.as_raw())
    };
    // ESRCH: nobody is left.
    let _ = kill(whom, Signal::SIGKILL);
}
