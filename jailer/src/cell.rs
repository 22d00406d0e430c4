//! What one cell holds on the host, and its undoing.

use crate::cgroup::{Aside, CellCgroup};
use crate::child::Child;
use crate::process::Exit;
use crate::refusal::Refusal;
use crate::state::{self, CellDir, RunDir, Slot, SlotIds, StateError};
use casemate_beneath::DirError;
use casemate_proto::cell::Usage;
use casemate_proto::id::{CellId, TenantId};
use rustix::process::{Signal, pidfd_send_signal};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// A cell, from its lock on.
#[derive(Debug)]
pub struct Cell {
    /// The run directory.
    pub run: RunDir,
    /// Folder of the audit log that is told of the cell.
    pub audit: Option<PathBuf>,
    /// The cell's directory, locked.
    pub dir: CellDir,
    /// Its user.
    pub slot: Option<Slot>,
    /// Its cgroups, or as many as were made.
    pub cgroup: Option<CellCgroup>,
    /// Where its supervisor went out of the way for them.
    pub aside: Vec<Aside>,
    /// Its process.
    pub child: Option<Child>,
}

/// How a cell's first process ended, and what the cell used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Over {
    /// Of a process that there was.
    pub exit: Option<Exit>,
    /// All of it.
    pub usage: Usage,
    /// How often the kernel killed for want of memory.
    pub oom_kills: u32,
    /// How often a task was refused because of the cgroup's limit.
    pub tasks_refused: u32,
}

impl Cell {
    /// Locks an id, clears what a killed holder of it left, and takes a user of `ids` for it,
    /// if there are any.
    ///
    /// # Errors
    /// Where it runs, or something that is not ours is in the way.
    pub fn take(
        run_dir: &Path,
        tenant: &TenantId,
        id: &CellId,
        ids: Option<SlotIds>,
        audit: Option<&Path>,
    ) -> Result<Self, Refusal> {
        let run = RunDir::top(run_dir).map_err(Refusal::new)?;
        let dir = CellDir::lock(&run, tenant, id).map_err(Refusal::new)?;
        let mut cell = Self {
            run,
            audit: audit.map(Path::to_owned),
            dir,
            slot: None,
            cgroup: None,
            aside: Vec::new(),
            child: None,
        };
        let slot = state::clear(&cell.dir)
            .and_then(|()| cell.dir.forget())
            // A holder that was killed left its user's slot, too.
            .and_then(|()| match cell.dir.was_left() {
                true => Slot::sweep(&cell.run),
                false => Ok(()),
            })
            .and_then(|()| ids.map(|ids| Slot::take(&cell.run, ids)).transpose());
        match slot {
            Ok(slot) => cell.slot = slot,
            Err(e) => {
                // What could not be cleared must stay written down, and the directory marked
                // for the next start of this id. Here there is nothing to clear.
                if matches!(
                    e,
                    StateError::Dir(DirError::Foreign { .. }) | StateError::NoSlot(_)
                ) {
                    // What stands in the way of that, too, is what the refusal names.
                    let _ = cell.dir.remove(&cell.run);
                }
                return Err(Refusal::new(e));
            }
        }
        Ok(cell)
    }

    /// Kills the process if it lives, waits for it, takes everything away, and returns how
    /// the process ended and what it used.
    ///
    /// What cannot be removed is told on standard error and left to the next reaper, whose
    /// journal then stays.
    pub fn undo(mut self) -> Over {
        let cgroup = self.cgroup.take();
        // Before the wait: an init that ends by itself does so meanwhile.
        let oom_kills = cgroup.as_ref().and_then(CellCgroup::oom_kills);
        let tasks_refused = cgroup.as_ref().and_then(CellCgroup::tasks_refused);
        let peak = cgroup.as_ref().and_then(CellCgroup::memory_peak);
        let (exit, mut usage) = match self.child.take().map(end) {
            Some((exit, usage)) => (Some(exit), usage),
            None => (None, Usage::default()),
        };
        usage.memory_peak_bytes = peak.unwrap_or(usage.memory_peak_bytes);
        let mut clean = cgroup.is_none_or(|cgroup| told(cgroup.remove()));
        for aside in self.aside.drain(..) {
            aside.back();
        }
        if let Some(slot) = self.slot.take() {
            // Where it could not be removed the cell's directory stays, so that the next
            // start of this id sweeps it.
            clean &= told(slot.give_back(&self.run));
        }
        if clean {
            told(self.dir.remove(&self.run));
        }
        Over {
            exit,
            usage,
            oom_kills: oom_kills.unwrap_or(0),
            tasks_refused: tasks_refused.unwrap_or(0),
        }
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
