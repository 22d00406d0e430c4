//! The child: from clone3(2) to execveat(2).
//!
//! The supervisor has one thread, so the child is a whole copy of it, locks and heap
//! included, and may do what ordinary code may. It never returns: it becomes the VMM, or
//! tells why not and exits.

use crate::layers::{STEPS, libc_result, namespaces};
use crate::plan::{Plan, needs};
use casemate_proto::cell::Layer;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Status with which a child that could not become the VMM exits.
const FAILED: i32 = 125;

/// One line of the status pipe from the child to the supervisor. Its end, without
/// [`Note::Failed`], means that the VMM's binary has been executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Note {
    /// A step failed and the child gave up.
    Failed {
        /// Whose step.
        layer: Option<Layer>,
        /// Which step, what, why, and what to do.
        message: String,
    },
    /// A layer could not be applied and may be missing.
    Missing {
        /// Which.
        layer: Layer,
        /// Why.
        message: String,
    },
    /// What no_new_privs read just before the exec.
    NoNewPrivs(bool),
    /// What came of trying what Landlock forbids; `Err` names what worked.
    Landlock(Result<String, String>),
}

/// What the steps work with.
pub struct Jail<'a> {
    /// What is to be.
    pub plan: &'a Plan,
    /// (number, fd): what the VMM gets.
    pub placement: Vec<(RawFd, BorrowedFd<'a>)>,
    /// The VMM's binary.
    pub vmm: RawFd,
    /// Write end of the status pipe.
    pub status: RawFd,
    /// The child's end of the control socket. When its peer is gone, so is the supervisor.
    pub control: RawFd,
    /// The supervisor's ends, which the child has as copies and must not keep: their mere
    /// existence would hide the supervisor's death.
    pub supervisors: Vec<RawFd>,
    /// The environment to execute with, null-terminated; null for none.
    pub environment: *const *const libc::c_char,
    /// Layers that are not in force.
    pub missing: BTreeSet<Layer>,
}

impl Jail<'_> {
    /// Tells the supervisor something.
    pub fn note(&self, note: &Note) {
        let Ok(mut line) = serde_json::to_vec(note) else {
            return;
        };
        line.push(b'\n');
        // SAFETY: `status` is open in the child until the exec; the File is forgotten
        // below, so that it is not closed here.
        let mut pipe = unsafe { File::from_raw_fd(self.status) };
        // A supervisor that is gone takes the child along by itself.
        let _ = pipe.write_all(&line);
        std::mem::forget(pipe);
    }

    /// Runs all steps.
    fn run(&mut self) -> Note {
        for step in STEPS {
            if let Some(layer) = step.layer {
                if self.plan.leaves_out(layer) {
                    self.missing.insert(layer);
                    continue;
                }
                if let Some(need) = needs(layer).intersection(&self.missing).next() {
                    let message =
                        format!("{}: needs the layer {need}, which is missing", step.name);
                    self.miss(layer, message);
                    continue;
                }
            }
            if let Err(e) = (step.apply)(self) {
                let message = format!("{}: {e}", step.name);
                match step.layer {
                    Some(layer) if self.plan.may_miss(layer) => self.miss(layer, message),
                    layer => return Note::Failed { layer, message },
                }
            }
        }
        Note::Failed {
            layer: None,
            message: "exec: execveat returned without an error".to_owned(),
        }
    }

    fn miss(&mut self, layer: Layer, message: String) {
        self.missing.insert(layer);
        self.note(&Note::Missing { layer, message });
    }
}

/// The started child.
#[derive(Debug)]
pub struct Child {
    /// In the supervisor's pid namespace.
    pub pid: Pid,
    /// Its pidfd.
    pub pidfd: OwnedFd,
}

/// clone3(2)'s argument, as far as Linux 5.7 knows it.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Starts the child in its namespaces and, on cgroup v2, in its cgroup.
///
/// # Errors
/// clone3(2)'s.
pub fn start(
    jail: &mut Jail<'_>,
    namespaces: &[Layer],
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Child> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    for flag in namespaces
        .iter()
        .filter_map(|&layer| namespaces::flag(layer))
    {
        args.flags |= flag as u64;
    }
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM and without a stack, clone3 is fork: the child goes on here
    // with a copy of all memory. `args` is laid out as the kernel's struct clone_args of
    // that size, and `pidfd` outlives the call. This process has one thread, so no lock
    // can be held in the copy by a thread that is not there.
    let pid = libc_result(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut args,
            std::mem::size_of::<CloneArgs>(),
        )
    })?;
    if pid == 0 {
        let note = jail.run();
        jail.note(&note);
        // SAFETY: ends the child without running the supervisor's exit handlers.
        unsafe { libc::_exit(FAILED) }
    }
    // SAFETY: the kernel has just put the pidfd there; nobody else knows its number.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = Pid::from_raw(pid as i32).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Child { pid, pidfd })
}
