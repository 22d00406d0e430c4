//! Starts the program.

use super::lookup::Prepared;
use casemate_proto::agent::StartError;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, fork};
use nix::unistd::{pipe2, setsid};
use std::convert::Infallible;
use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use thiserror::Error;

/// Why the program did not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("start: {error:?}: {errno}")]
pub struct StartFailure {
    /// Which kind of failure.
    pub error: StartError,
    /// The kernel's reason.
    pub errno: Errno,
}

impl StartFailure {
    /// For the steps before the program's own.
    pub fn init(errno: Errno) -> Self {
        Self {
            error: StartError::Init,
            errno,
        }
    }
}

/// What the program gets as fds 0, 1 and 2.
#[derive(Debug)]
pub enum Stdio {
    /// Three pipes' ends.
    Pipes([OwnedFd; 3]),
    /// One terminal, which becomes its controlling terminal.
    Tty(OwnedFd),
}

/// Starts the program in a session and process group of its own, with every
/// signal at its default, umask 022, and no fds but 0, 1 and 2.
///
/// Returns when execve(2) has succeeded or failed.
pub fn spawn(prepared: &Prepared, stdio: Stdio) -> Result<Pid, StartFailure> {
    let (report, from_child) = pipe2(OFlag::O_CLOEXEC).map_err(StartFailure::init)?;
    // SAFETY: the init has a single thread, so the child may do all that the parent may.
    match unsafe { fork() }.map_err(StartFailure::init)? {
        ForkResult::Child => {
            let Err(failure) = become_program(prepared, &stdio);
            let mut bytes = vec![failure.error as u8];
            bytes.extend((failure.errno as i32).to_le_bytes());
            // Without a reader the parent is gone, and so are we.
            let _ = File::from(from_child).write_all(&bytes);
            // SAFETY: _exit(2) has no preconditions; no destructor of the parent's shall run here.
            unsafe { libc::_exit(127) }
        }
        ForkResult::Parent { child } => {
            drop(from_child);
            drop(stdio);
            let mut bytes = Vec::new();
            let read = File::from(report).read_to_end(&mut bytes);
            let failure = match (read, bytes.split_first()) {
                (Ok(0), _) => return Ok(child),
                (Ok(_), Some((&kind, errno))) => decode(kind, errno),
                _ => StartFailure::init(Errno::EIO),
            };
            // It is about to end; the init would reap it all the same.
            let _ = waitpid(child, None);
            Err(failure)
        }
    }
}

fn decode(kind: u8, errno: &[u8]) -> StartFailure {
    let errno = errno.try_into().map_or(Errno::EIO, |bytes| {
        Errno::from_raw(i32::from_le_bytes(bytes))
    });
    let error = [
        StartError::NotFound,
        StartError::NotExecutable,
        StartError::Workdir,
    ]
    .into_iter()
    .find(|&error| error as u8 == kind)
    .unwrap_or(StartError::Init);
    StartFailure { error, errno }
}

/// In the child. Returns only on failure.
fn become_program(prepared: &Prepared, stdio: &Stdio) -> Result<Infallible, StartFailure> {
    set_up(stdio).map_err(StartFailure::init)?;
    chdir(prepared.workdir.as_c_str()).map_err(|errno| StartFailure {
        error: StartError::Workdir,
        errno,
    })?;
    let mut failure = StartFailure {
        error: StartError::NotFound,
        errno: Errno::ENOENT,
    };
    for path in &prepared.candidates {
        let Err(errno) = execve(path, &prepared.argv, &prepared.env);
        match (errno, exists(path)) {
            // Not here; the next place may have it.
            (Errno::ENOENT | Errno::ENOTDIR, false) => {}
            // Here, and its interpreter is missing (ENOENT), or it is not allowed;
            // as a shell, prefer a later one that works.
            (errno @ (Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES), _) => {
                failure = StartFailure {
                    error: StartError::NotExecutable,
                    errno,
                };
            }
            (errno, _) => {
                return Err(StartFailure {
                    error: StartError::NotExecutable,
                    errno,
                });
            }
        }
    }
    Err(failure)
}

fn exists(path: &CStr) -> bool {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(path.to_bytes())).exists()
}

fn set_up(stdio: &Stdio) -> nix::Result<()> {
    setsid()?;
    let [stdin, stdout, stderr] = match stdio {
        Stdio::Pipes([stdin, stdout, stderr]) => [stdin, stdout, stderr],
        Stdio::Tty(tty) => {
            // SAFETY: TIOCSCTTY takes an integer (ioctl_tty(2)).
            Errno::result(unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCSCTTY, 0) })?;
            [tty, tty, tty]
        }
    };
    dup2_stdin(stdin)?;
    dup2_stdout(stdout)?;
    dup2_stderr(stderr)?;
    // SAFETY: takes integers; marks fds, closes none. All of ours are marked
    // already, so a kernel before 5.11 that refuses it changes nothing.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    default_signals()?;
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    mortal();
    Ok(())
}

fn default_signals() -> nix::Result<()> {
    // The kernel's own `struct sigaction`: all zeroes is SIG_DFL without flags.
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: `default` outlives the call, and its size is the kernel's. Not the C
        // library's sigaction: it leaves two real-time signals out. Fails harmlessly
        // for SIGKILL and SIGSTOP.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, 0, 8) };
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

/// The init is exempt from the OOM killer; the program is what it shall take.
fn mortal() {
    // Lowering is what needs a right; a kernel without the file has no OOM scores.
    let _ = std::fs::write("/proc/self/oom_score_adj", "0");
}
