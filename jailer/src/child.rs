//! The child: from clone3(2) to the exec.
//!
//! The supervisor has one thread, so the child is a whole copy of it, locks and heap
//! included, and may do what ordinary code may. It never returns: it becomes the VMM or the
//! program (or the init that the program runs under), or tells why not and exits.

use crate::layers::{STEPS, Who, libc_result};
use crate::plan::{Plan, needs};
use crate::resolve::Resolved;
use casemate_proto::cell::Layer;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ffi::{CString, c_char};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// Status with which a child that could not become what it should exits.
const FAILED: i32 = 125;

/// One of the things that the child tells the supervisor, over the status socket: all of them
/// in one message, when it is ready or gives up. The socket's end, without
/// [`Note::Failed`], means that the exec was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Note {
    /// A step failed and the child gave up.
    Failed {
        /// Whose step.
        layer: Option<Layer>,
        /// Which step, what, why, and what to do.
        message: String,
    },
    /// The program cannot be executed: nobody's failure but its own.
    NoProgram {
        /// Whether it is there at all.
        found: bool,
        /// The kernel's reason, and what to do.
        message: String,
    },
    /// A layer could not be applied and may be missing.
    Missing {
        /// Which.
        layer: Layer,
        /// Why.
        message: String,
    },
    /// An optional mount that the host has no path for: its place in the policy's list.
    Absent(usize),
    /// A mount of the host's that a shared path brought along, and that is covered: where.
    Covered(String),
    /// Its session keyring (its serial number), and how many keys are in it.
    Keyring(Result<(i32, usize), String>),
    /// Its core scheduling cookie.
    Core(u64),
    /// What no_new_privs read just before the exec.
    NoNewPrivs(bool),
    /// What came of trying what Landlock forbids; `Err` names what worked.
    Landlock(Result<String, String>),
    /// It waits for its go, with this environment (an address in its memory).
    Ready {
        /// Where the array of pointers to variables is.
        environment: usize,
    },
}

/// What is executed, and with what.
#[derive(Debug)]
pub struct Exec {
    /// Arguments, the program's name first.
    pub argv: Strings,
    /// Paths at which to look for it in the jail; empty where it is executed by fd.
    pub candidates: Vec<CString>,
    /// Environment.
    pub environment: Strings,
}

/// C strings with the null-terminated array of pointers that exec takes.
#[derive(Debug)]
pub struct Strings {
    // Where the pointers point.
    strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Strings {
    /// Of these.
    pub fn new(strings: Vec<CString>) -> Self {
        let pointers = strings
            .iter()
            .map(|s| s.as_ptr())
            .chain([ptr::null()])
            .collect();
        Self { strings, pointers }
    }

    /// The array.
    pub fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }

    /// The strings.
    pub fn strings(&self) -> &[CString] {
        &self.strings
    }
}

/// What the steps work with.
pub struct Jail<'a> {
    /// What is to be.
    pub plan: &'a Plan,
    /// (number, fd): what it gets.
    pub placement: Vec<(RawFd, RawFd)>,
    /// The binary, where it is executed by fd.
    pub binary: Option<RawFd>,
    /// The child's end of the status socket: notes to the supervisor, and the program's go.
    pub status: RawFd,
    /// The child's end of the control socket. When its peer is gone, so is the supervisor.
    pub control: RawFd,
    /// The supervisor's ends, which the child has as copies and must not keep: their mere
    /// existence would hide the supervisor's death.
    pub supervisors: Vec<RawFd>,
    /// User namespaces for idmapped mounts, by mount.
    pub idmaps: Vec<Option<RawFd>>,
    /// What the supervisor found at the policy's mounts, where the child itself could not
    /// tell whose the links on the way are: by mount.
    pub resolved: Vec<Option<Resolved>>,
    /// What is executed.
    pub exec: &'a Exec,
    /// Which of its candidates was found.
    pub chosen: usize,
    /// The environment to execute with.
    pub environment: *const *const c_char,
    /// Whether the supervisor makes cgroups on v1, which the child joins by itself.
    pub joins: bool,
    /// Optional mounts that the host has no path for.
    pub absent: BTreeSet<usize>,
    /// A directory that is nowhere mounted, for Landlock to be tried with.
    pub forbidden: Option<OwnedFd>,
    /// Its own directory in the host's `/proc`, until its user namespace has its maps.
    pub proc_self: Option<OwnedFd>,
    /// What the supervisor is yet to be told.
    pub notes: Vec<Note>,
    /// Layers that are not in force.
    pub missing: BTreeSet<Layer>,
    /// Which of the processes this is.
    pub who: Who,
}

impl Jail<'_> {
    /// Keeps something for the supervisor.
    pub fn note(&mut self, note: Note) {
        self.notes.push(note);
    }

    /// Tells the supervisor all that was kept. By write(2), since under a filter of the
    /// policy's no other call that would do may be left.
    pub fn tell(&mut self) {
        if let Ok(text) = serde_json::to_vec(&self.notes) {
            // A supervisor that is gone takes the child along by itself.
            let _ = rustix::io::write(self.status(), &text);
        }
        self.notes.clear();
    }

    /// The status socket.
    pub fn status(&self) -> BorrowedFd<'_> {
        // SAFETY: open in the child until the exec.
        unsafe { BorrowedFd::borrow_raw(self.status) }
    }

    /// The control socket.
    pub fn control(&self) -> BorrowedFd<'_> {
        // SAFETY: open in the child as long as any step uses it.
        unsafe { BorrowedFd::borrow_raw(self.control) }
    }

    /// Runs all steps.
    fn run(&mut self) -> Note {
        for step in STEPS {
            if !step.who.contains(&self.who) {
                continue;
            }
            if let Some(layer) = step.layer {
                if !self.plan.declares(layer) {
                    continue;
                }
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
            message: "exec: it returned without an error; report this".to_owned(),
        }
    }

    fn miss(&mut self, layer: Layer, message: String) {
        self.missing.insert(layer);
        self.note(Note::Missing { layer, message });
    }

    /// Ends this process after a last note.
    pub fn fail(&mut self, note: Note) -> ! {
        self.note(note);
        self.tell();
        // SAFETY: ends the child without running the supervisor's exit handlers.
        unsafe { libc::_exit(FAILED) }
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

/// Starts the child with these flags of clone3 and, on cgroup v2, in its cgroup.
///
/// # Errors
/// clone3(2)'s.
pub fn start(
    jail: &mut Jail<'_>,
    flags: libc::c_int,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Child> {
    match fork(flags, cgroup)? {
        Some(child) => Ok(child),
        None => {
            let note = jail.run();
            jail.fail(note)
        }
    }
}

/// clone3(2) as fork(2), with a pidfd: `None` in the child.
///
/// # Errors
/// clone3(2)'s.
pub fn fork(flags: libc::c_int, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Option<Child>> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: (libc::CLONE_PIDFD | flags) as u64,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
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
        return Ok(None);
    }
    // SAFETY: the kernel has just put the pidfd there; nobody else knows its number.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = Pid::from_raw(pid as i32).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Some(Child { pid, pidfd }))
}
