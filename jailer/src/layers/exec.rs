//! The exec. The VMM by its fd: its binary needs no path in the jail, and none of it is
//! copied. A plain program by its path in the jail, so that scripts work.

use super::{LAST, Step, StepError, Who, libc_result};
use crate::child::{Jail, Note};
use casemate_proto::cell::Layer;
use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, stat};
use rustix::io::Errno;
use rustix::process::chdir;
use rustix::thread::no_new_privs;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::ptr;

/// Goes to the working directory and looks for the program, while the policy's filter need
/// not allow that.
pub const FIND: Step = Step {
    name: "program",
    who: &[Who::Program],
    layer: None,
    apply: find,
};

/// The step; returns only if it fails.
pub const STEP: Step = Step {
    name: "exec",
    who: LAST,
    layer: None,
    apply,
};

fn find(jail: &mut Jail<'_>) -> Result<(), StepError> {
    if let Some(program) = jail.plan.program() {
        let workdir = OsStr::from_bytes(&program.workdir);
        chdir(workdir).map_err(|e| {
            StepError::new(
                format!("entering the working directory {}", workdir.display()),
                e,
                "name one that the jail has (--ro, --rw, --tmpfs)",
            )
        })?;
    }
    let mut refused = None;
    for (at, candidate) in jail.exec.candidates.iter().enumerate() {
        match look(candidate) {
            Ok(()) => {
                jail.chosen = at;
                return Ok(());
            }
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(e) => {
                refused.get_or_insert(e);
            }
        }
    }
    let message = match refused {
        None => "there is no such program in the jail; name its path, and mount where it is \
                 (--ro)"
            .to_owned(),
        Some(Errno::ISDIR) => "it is a directory".to_owned(),
        Some(e) => format!("{e}; make it executable by everybody (chmod 755)"),
    };
    jail.fail(Note::NoProgram {
        found: refused.is_some(),
        message,
    })
}

/// Whether a path can be executed, as far as permissions say.
fn look(path: &CString) -> Result<(), Errno> {
    let kind = FileType::from_raw_mode(stat(path.as_c_str())?.st_mode);
    match kind {
        FileType::RegularFile => accessat(CWD, path.as_c_str(), Access::EXEC_OK, AtFlags::EACCESS),
        FileType::Directory => Err(Errno::ISDIR),
        _ => Err(Errno::ACCESS),
    }
}

/// The VMM applies some layers itself, or a second time: it is told of those too.
fn left_out(jail: &Jail<'_>) -> Option<CString> {
    let mut names: Vec<&str> = Layer::ALL
        .into_iter()
        .filter(|&layer| jail.plan.leaves_out(layer))
        .map(Layer::name)
        .collect();
    if names.is_empty() {
        return None;
    }
    if jail.plan.leaves_out(Layer::NoNewPrivs) {
        // seccomp(2) takes a filter only with it.
        names.push(Layer::Seccomp.name());
    }
    CString::new(format!("--leave-out={}", names.join(","))).ok()
}

fn apply(jail: &mut Jail<'_>) -> Result<(), StepError> {
    match jail.binary {
        Some(binary) => execute_vmm(jail, binary),
        None => execute_program(jail),
    }
}

fn execute_vmm(jail: &mut Jail<'_>, binary: i32) -> Result<(), StepError> {
    jail.note(Note::NoNewPrivs(no_new_privs().unwrap_or(false)));
    jail.tell();
    // Only a jailer built for tests says this, and only a VMM built for tests listens.
    let left_out = left_out(jail);
    let argv = [
        c"casemate-vmm".as_ptr(),
        left_out
            .as_ref()
            .map_or(ptr::null(), |argument| argument.as_ptr()),
        ptr::null(),
    ];
    // SAFETY: both arrays end with null and hold C strings that outlive the call; with
    // AT_EMPTY_PATH and an empty path the fd itself is executed.
    let error = libc_result(unsafe {
        libc::syscall(
            libc::SYS_execveat,
            binary,
            c"".as_ptr(),
            argv.as_ptr(),
            jail.environment,
            libc::AT_EMPTY_PATH,
        )
    });
    match error {
        Ok(_) => Ok(()),
        Err(e) => {
            let remedy = match e.raw_os_error() {
                Some(libc::EACCES) => {
                    "make it executable by everybody (chmod 755), on a file system \
                     that is not mounted noexec"
                }
                Some(libc::ENOENT) => "use the statically linked one: the jail has no loader",
                Some(libc::ENOEXEC) => "use one built for this machine",
                _ => "see that it is the casemate-vmm of this release",
            };
            Err(StepError::new("executing the VMM's binary", e, remedy))
        }
    }
}

fn execute_program(jail: &mut Jail<'_>) -> Result<(), StepError> {
    let path = &jail.exec.candidates[jail.chosen];
    // SAFETY: both arrays end with null and hold C strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), jail.exec.argv.as_ptr(), jail.environment) };
    let e = io::Error::last_os_error();
    let (found, why) = match e.raw_os_error() {
        // It was there a moment ago.
        Some(libc::ENOENT) => (
            false,
            "its interpreter or loader is not in the jail; mount where that is (--ro)",
        ),
        Some(libc::EACCES) => (
            true,
            "it, or its interpreter, is where nothing can be executed (--rw, --tmpfs)",
        ),
        Some(libc::ENOEXEC) => (true, "it is neither a program of this machine nor a script"),
        _ => (true, "see execve(2)"),
    };
    jail.fail(Note::NoProgram {
        found,
        message: format!("{e}; {why}"),
    })
}
