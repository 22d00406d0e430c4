//! The exec, by fd: the binary needs no path in the jail, and none of it is copied.

use super::{Step, StepError, libc_result};
use crate::child::{Jail, Note};
use casemate_proto::cell::Layer;
use rustix::thread::no_new_privs;
use std::ffi::CString;
use std::ptr;

/// The step; returns only if it fails.
pub const STEP: Step = Step {
    name: "exec",
    layer: None,
    apply,
};

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
    jail.note(&Note::NoNewPrivs(no_new_privs().unwrap_or(false)));
    // Only a jailer built for tests says this, and only a VMM built for tests listens.
    let left_out = left_out(jail);
    let argv = [
        c"casemate-vmm".as_ptr(),
        left_out
            .as_ref()
            .map_or(ptr::null(), |argument| argument.as_ptr()),
        ptr::null(),
    ];
    let none = [ptr::null::<libc::c_char>()];
    let environment = match jail.environment.is_null() {
        true => none.as_ptr(),
        false => jail.environment,
    };
    // SAFETY: both arrays end with null and hold C strings that outlive the call; with
    // AT_EMPTY_PATH and an empty path the fd itself is executed.
    let error = libc_result(unsafe {
        libc::syscall(
            libc::SYS_execveat,
            jail.vmm,
            c"".as_ptr(),
            argv.as_ptr(),
            environment,
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
