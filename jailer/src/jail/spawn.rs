//! The child of a plain program: what it executes, and what it works with.

use super::Request;
use crate::channel::{Word, say};
use crate::child::{Exec, Jail, Strings};
use crate::layers::Who;
use crate::own;
use crate::refusal::Refusal;
use crate::resolve::Resolved;
use crate::start::{Start, Wired, Wires};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

/// What is executed. All of it is made before the clone, so that the child need not.
pub fn exec(request: &Request) -> Exec {
    Exec {
        argv: Strings::new(request.argv.clone()),
        candidates: candidates(&request.argv[0], &request.environment),
        environment: Strings::new(request.environment.clone()),
    }
}

/// Where a program may be: at its path, or along the `PATH` that it will have.
fn candidates(name: &CString, environment: &[CString]) -> Vec<CString> {
    if name.to_bytes().contains(&b'/') {
        return vec![name.clone()];
    }
    let path = environment
        .iter()
        .find_map(|variable| variable.to_bytes().strip_prefix(b"PATH="))
        .unwrap_or(b"/usr/local/bin:/usr/bin:/bin");
    path.split(|&byte| byte == b':')
        // Only absolute ones: "." and "" are whatever the working directory holds.
        .filter(|folder| folder.starts_with(b"/"))
        .filter_map(|folder| CString::new([folder, b"/", name.to_bytes()].concat()).ok())
        .collect()
}

/// Names of variables.
pub fn names(environment: &[CString]) -> Vec<String> {
    environment
        .iter()
        .map(|variable| {
            let name = variable.to_bytes().split(|&byte| byte == b'=').next();
            String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
        })
        .collect()
}

/// Clones the child. Returns our ends of its sockets.
///
/// # Errors
/// Calls' own.
pub fn spawn(
    start: &mut Start<'_>,
    exec: &Exec,
    idmaps: &[Option<OwnedFd>],
    resolved: Vec<Option<Resolved>>,
) -> Result<Wired, Refusal> {
    let wires = Wires::new()?;
    let number = |fd: &OwnedFd| fd.as_raw_fd();
    let streams: [RawFd; 3] = [0, 1, 2];
    let keep = &start.plan.policy.keep_fds;
    let mut jail = Jail {
        plan: start.plan,
        placement: streams
            .iter()
            .chain(keep.iter())
            .map(|&fd| (fd, fd))
            .collect(),
        binary: None,
        status: number(&wires.status_end),
        control: number(&wires.control_end),
        supervisors: vec![number(&wires.control), number(&wires.status)],
        idmaps: idmaps.iter().map(|fd| fd.as_ref().map(number)).collect(),
        resolved,
        exec,
        chosen: 0,
        environment: own::environment(),
        joins: false,
        absent: BTreeSet::new(),
        forbidden: None,
        proc_self: None,
        notes: Vec::new(),
        missing: BTreeSet::new(),
        who: Who::Init,
    };
    let pid = start.spawn(&mut jail)?;
    let wired = wires.of(pid);
    let plan = start.plan;
    if let Some(launcher) = plan.rights.launcher().filter(|user| user.has_own_user()) {
        launcher.map(pid.as_raw_nonzero(), plan.identity)?;
        let said = say(wired.control.as_fd(), Word::Mapped, &[]);
        said.map_err(|e| Refusal::new(format!("the child does not wait for its ids: {e}")))?;
    }
    Ok(wired)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_looked_for_along_its_own_path() {
        let environment = [c"A=PATH=/no".to_owned(), c"PATH=/a:.::/b c".to_owned()];
        let found = candidates(&c"x".to_owned(), &environment);
        assert_eq!(found, [c"/a/x".to_owned(), c"/b c/x".to_owned()]);
        let found = candidates(&c"./x".to_owned(), &environment);
        assert_eq!(found, [c"./x".to_owned()]);
        assert_eq!(candidates(&c"x".to_owned(), &[]).len(), 3);
        assert_eq!(names(&environment), ["A", "PATH"]);
    }
}
