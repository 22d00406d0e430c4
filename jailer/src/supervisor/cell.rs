//! What one cell holds on the host, and its undoing.

use crate::child::Child;
use crate::plan::Plan;
use crate::process::Exit;
use crate::state::{CellDir, RunDir, Slot};
use casemate_proto::cell::Usage;
use rustix::process::{Signal, pidfd_send_signal};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

/// A cell, from its lock on.
#[derive(Debug)]
pub struct Cell {
    /// The run directory.
    pub run: RunDir,
    /// The cell's directory, locked.
    pub dir: CellDir,
    /// Its user.
    pub slot: Option<Slot>,
    /// Its plan, with the cgroup.
    pub plan: Option<Plan>,
    /// Its process.
    pub child: Option<Child>,
}

impl Cell {
    /// Kills the process if it lives, waits for it, takes everything away, and returns how
    /// the process ended and what it used.
    ///
    /// What cannot be removed is told on standard error and left to the next reaper, whose
    /// journal then stays.
    pub fn undo(mut self) -> (Option<Exit>, Usage) {
        let ended = self.child.take().map(end);
        let (exit, mut usage) = match ended {
            Some((exit, usage)) => (Some(exit), usage),
            None => (None, Usage::default()),
        };
        let cgroup = self.plan.take().and_then(|plan| plan.cgroup);
        let mut clean = true;
        if let Some(cgroup) = cgroup {
            usage.memory_peak_bytes = cgroup.memory_peak().unwrap_or(usage.memory_peak_bytes);
            clean = told(cgroup.remove());
        }
        if let Some(slot) = self.slot.take() {
            told(slot.give_back(&self.run));
        }
        if clean {
            told(self.dir.remove(&self.run));
        }
        (exit, usage)
    }
}

fn told<E: std::fmt::Display>(result: Result<(), E>) -> bool {
    if let Err(e) = &result {
        eprintln!("casemate-jailer: {e}; `casemate-jailer reap` tries again");
    }
    result.is_ok()
}

/// Kills and waits. The process is the first of its pid namespace: all others in it die, and
/// are gone, before it is.
///
/// The CPU time is the process' own account, which is exact where a v1 cgroup's goes by the
/// clock's tick; it is all there is, since a VMM has no children.
fn end(child: Child) -> (Exit, Usage) {
    // Fails only for a process that is dead already.
    let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
    // SAFETY: both are plain data for which all-zero is a value.
    let (mut info, mut used): (libc::siginfo_t, libc::rusage) = unsafe {
        (
            MaybeUninit::zeroed().assume_init(),
            MaybeUninit::zeroed().assume_init(),
        )
    };
    loop {
        // SAFETY: both pointers are to structs of the kernel's layout that outlive the call.
        // The system call has a fifth argument, rusage, that libc's wrapper lacks.
        let result = unsafe {
            libc::syscall(
                libc::SYS_waitid,
                libc::P_PIDFD,
                child.pidfd.as_raw_fd(),
                &raw mut info,
                libc::WEXITED,
                &raw mut used,
            )
        };
        if result == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            break;
        }
    }
    // SAFETY: waitid filled in the fields of SIGCHLD.
    let status = unsafe { info.si_status() };
    let exit = match info.si_code {
        libc::CLD_EXITED => Exit::Status(status),
        _ => Exit::Signal(status),
    };
    let micros = |t: libc::timeval| t.tv_sec as u64 * 1_000_000 + t.tv_usec as u64;
    let usage = Usage {
        cpu_user_us: micros(used.ru_utime),
        cpu_system_us: micros(used.ru_stime),
        // ru_maxrss is in KiB.
        memory_peak_bytes: used.ru_maxrss as u64 * 1024,
        vmm_rss_bytes: 0,
    };
    (exit, usage)
}
