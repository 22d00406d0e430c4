//! The init of a plain program: the first process of its pid namespace, so that the program
//! itself is an ordinary process whose signals work as anywhere (pid_namespaces(7)).
//!
//! It is under every layer but Landlock, which it needs no path to be under, and has a
//! filter of its own, for the few calls below. It reaps, passes signals on to the program's
//! group, tells the supervisor the program's end, and ends. With it all processes end.

use super::{Step, StepError, Who, libc_result, seccomp};
use crate::channel::{Word, say};
use crate::child::{Jail, Note, fork};
use crate::rights::Rights;
use casemate_proto::cell::Layer;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::{io, ptr};

/// The fork: from here on the steps are the program's, and the init stays behind.
pub const STEP: Step = Step {
    name: "init",
    who: &[Who::Init],
    layer: None,
    apply,
};

fn apply(jail: &mut Jail<'_>) -> Result<(), StepError> {
    // Before the fork, so that the child's end cannot come before it is listened for.
    let ended = child_signals()
        .map_err(|e| StepError::new("making an fd for SIGCHLD", e, "raise ulimit -n"))?;
    let forked = fork(0, None).map_err(|e| {
        StepError::new(
            "forking the program",
            e,
            "raise --pids, and the policy's nproc: the init counts as one",
        )
    })?;
    match forked {
        None => {
            unblock();
            drop(ended);
            jail.who = Who::Program;
            look_at_me(jail)
        }
        Some(program) => {
            jail.forbidden = None;
            if say(jail.control(), Word::Program, &[program.pidfd.as_fd()]).is_err() {
                leave();
            }
            let unfiltered =
                jail.plan.leaves_out(Layer::Seccomp) || jail.missing.contains(&Layer::NoNewPrivs);
            let filtered = match unfiltered {
                true => Ok(()),
                false => seccomp::restrict_init(),
            };
            if let Err(e) = filtered {
                jail.fail(Note::Failed {
                    layer: Some(Layer::Seccomp),
                    message: format!("init: {e}"),
                });
            }
            // Only a word of an init that is under its filter counts.
            let _ = rustix::io::write(jail.control(), &[Word::Confined as u8]);
            // The end of the program's copy is what tells of its exec.
            // SAFETY: nothing in this process uses it from here on.
            unsafe { libc::close(jail.status) };
            let program = program.pid.as_raw_nonzero().get();
            stay(jail.control(), ended.as_fd(), program)
        }
    }
}

/// Lets an ordinary user's supervisor, which has no capability on the host, look at the
/// program's process before the exec, which makes it so anyhow. Of others of that user, those
/// in jails have no name for it.
fn look_at_me(jail: &Jail<'_>) -> Result<(), StepError> {
    match jail.plan.rights {
        Rights::Root => Ok(()),
        Rights::User(_) => set_dumpable_behavior(DumpableBehavior::Dumpable)
            .map_err(|e| StepError::new("prctl(PR_SET_DUMPABLE)", e, "report this")),
    }
}

/// Blocks SIGCHLD and returns an fd that tells of it.
fn child_signals() -> io::Result<OwnedFd> {
    // SAFETY: an all-zero sigset_t is a value; the calls read and write `set`, which outlives
    // them; the fd is new and known to nobody else.
    unsafe {
        let mut set: libc::sigset_t = MaybeUninit::zeroed().assume_init();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc_result(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()).into())?;
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

fn unblock() {
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}

/// Serves until the program or the supervisor is gone. Makes only the calls of
/// `policies/jail/init.toml` and takes no memory.
fn stay(control: BorrowedFd<'_>, ended: BorrowedFd<'_>, program: i32) -> ! {
    let mut buffer = [0; 256];
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(control, PollFlags::IN),
            PollFd::from_borrowed_fd(ended, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => leave(),
        }
        let [told, died] = fds.map(|fd| !fd.revents().is_empty());
        if died {
            let _ = rustix::io::read(ended, &mut buffer);
            if let Some(status) = reap(program) {
                let _ = rustix::io::write(control, &status.to_ne_bytes());
                leave();
            }
        }
        if told {
            match rustix::io::read(control, &mut buffer[..1]) {
                Ok(1..) => {
                    // The program is not reaped yet, so its number means nobody else.
                    // SAFETY: takes numbers and no memory.
                    unsafe { libc::kill(-program, buffer[0].into()) };
                }
                Err(Errno::INTR) => {}
                // The supervisor is gone.
                Ok(0) | Err(_) => leave(),
            }
        }
    }
}

/// Reaps all that have ended; returns the program's wait status if it is among them.
fn reap(program: i32) -> Option<i32> {
    let mut ended = None;
    loop {
        let mut status = 0;
        // SAFETY: the kernel writes to `status`, which outlives the call.
        match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) } {
            pid if pid == program => ended = Some(status),
            pid if pid > 0 => {}
            _ => return ended,
        }
    }
}

fn leave() -> ! {
    // SAFETY: ends the process; none of the supervisor's exit handlers may run here.
    unsafe { libc::_exit(0) }
}
