//! `casemate policy trace`: runs a program whose every system call is told and made, and
//! proposes a policy from them. Nothing is confined: for programs that one trusts.

use super::propose::{self, Seen};
use super::{PolicyError, load};
use crate::say;
use casemate_policies::report::{self, Listener};
use casemate_policy_compiler::{AUDIT_ARCH_X86_64, AnyPolicy};
use casemate_proto::status::{NOT_EXECUTABLE, NOT_FOUND, SIGNAL_BASE};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::{fs, thread};
use thiserror::Error;

/// Why a program could not be traced.
#[derive(Debug, Error)]
pub enum TraceError {
    /// The base is not of a whole jail.
    #[error("--base {0} has rules alone: name a whole policy, such as default")]
    Base(String),
    /// Our own calls.
    #[error("tracing: {0}: it needs seccomp's user notification (Linux 5.6) and pidfd_getfd")]
    Own(io::Error),
    /// Not an x86_64 call.
    #[error("{0} made a call that is not one of x86_64, which no policy allows")]
    Foreign(String),
}

/// Traces, proposes; the exit status is the program's.
pub fn run(
    base: Option<&OsStr>,
    out: Option<&Path>,
    command: &[OsString],
) -> Result<ExitCode, PolicyError> {
    let base = match base.map(|base| load::any(base).map(|policy| (base, policy))) {
        None => None,
        Some(Ok((name, AnyPolicy::Whole(whole)))) if whole.threads.is_empty() => {
            Some((name.to_string_lossy().into_owned(), whole))
        }
        Some(Ok((name, _))) => {
            return Err(TraceError::Base(name.to_string_lossy().into_owned()).into());
        }
        Some(Err(e)) => return Err(e.into()),
    };
    let (status, seen) = traced(command)?;
    let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
    let text = match &base {
        None => propose::from_scratch(&words.join(" "), &seen),
        Some((name, base)) => propose::under(name, base, &words.join(" "), &seen),
    };
    match out {
        None => _ = io::stderr().write_all(text.as_bytes()),
        Some(path) => fs::write(path, text).map_err(|error| PolicyError::Write {
            path: path.to_owned(),
            error,
        })?,
    }
    Ok(status)
}

/// Runs the program to its end; what it and its children called.
fn traced(command: &[OsString]) -> Result<(ExitCode, Seen), PolicyError> {
    let own = |error: io::Error| PolicyError::Trace(TraceError::Own(error));
    let (mut numbers, mut to_parent) = io::pipe().map_err(own)?;
    let end = to_parent.as_raw_fd();
    // The listener's thread knows the child before `spawn` returns, which is when the exec,
    // a call that is told like any other, is done.
    let listener = thread::Builder::new()
        .name("listener".to_owned())
        .spawn(move || -> io::Result<Result<Seen, TraceError>> {
            let mut said = [0; 8];
            if numbers.read_exact(&mut said).is_err() {
                return Ok(Ok(Seen::default()));
            }
            let [pid, fd] = [0, 4]
                .map(|at| i32::from_ne_bytes([said[at], said[at + 1], said[at + 2], said[at + 3]]));
            listen(&Listener::adopt(pid, fd)?)
        })
        .map_err(own)?;

    let filter = report::everything();
    let mut child = Command::new(&command[0]);
    child.args(&command[1..]);
    let tell = move || {
        let fd = report::next_fd()?;
        let pid = std::process::id();
        let mut said = [0; 8];
        said[..4].copy_from_slice(&pid.to_ne_bytes());
        said[4..].copy_from_slice(&fd.to_ne_bytes());
        // SAFETY: writes to our end of the pipe, which the fork has copied.
        let written = unsafe { libc::write(end, said.as_ptr().cast(), said.len()) };
        if written != said.len() as isize {
            return Err(io::Error::last_os_error());
        }
        match report::install_with_listener(&filter)? == fd {
            true => Ok(()),
            false => Err(io::Error::other("the listener has another number")),
        }
    };
    // SAFETY: makes system calls and allocates nothing, after the fork of a process that has
    // another thread.
    unsafe { child.pre_exec(tell) };
    let spawned = child.spawn();
    to_parent.flush().map_err(own)?;
    drop(to_parent);
    let ended = spawned.and_then(|mut child| child.wait());
    let seen = listener
        .join()
        .map_err(|_| own(io::Error::other("the listener ended")))?
        .map_err(own)??;
    match ended {
        Ok(status) => Ok((exit_code(status), seen)),
        Err(e) => {
            say::line(format!("{}: {e}", command[0].to_string_lossy()));
            let code = match e.kind() {
                io::ErrorKind::NotFound => NOT_FOUND,
                _ => NOT_EXECUTABLE,
            };
            Ok((ExitCode::from(code), seen))
        }
    }
}

fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code as u8,
        (None, signal) => SIGNAL_BASE + signal.unwrap_or(0) as u8,
    };
    ExitCode::from(code)
}

fn listen(listener: &Listener) -> io::Result<Result<Seen, TraceError>> {
    let mut seen = Seen::default();
    let mut foreign = None;
    while let Some(told) = listener.next()? {
        if told.arch == AUDIT_ARCH_X86_64 && told.number < 0x4000_0000 {
            seen.add(told.number, &told.args, || told.name());
        } else {
            foreign.get_or_insert_with(|| told.name());
        }
        listener.proceed(&told)?;
    }
    Ok(match foreign {
        Some(name) => Err(TraceError::Foreign(name)),
        None => Ok(seen),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use casemate_policy_compiler::{Readers, compile_policy};

    fn words(text: &[&str]) -> Vec<OsString> {
        text.iter().map(OsString::from).collect()
    }

    fn calls(command: &[&str]) -> Seen {
        traced(&words(command)).unwrap().1
    }

    #[test]
    fn a_program_is_traced_with_its_children_and_its_end() {
        let seen = calls(&["/bin/sh", "-c", "/bin/true; mkdir -p /tmp; exit 3"]);
        let names = seen.names();
        for name in ["execve", "mmap", "exit_group", "wait4", "mkdir"] {
            assert!(names.contains(&name), "{name} is not in {names:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("p.toml");
        run(None, Some(&out), &words(&["/bin/true"])).unwrap();
        let text = fs::read_to_string(out).unwrap();
        let read = |_: &str| Ok(text.clone());
        let readers = Readers {
            folder: &read,
            shipped: &read,
        };
        compile_policy("p.toml", readers).unwrap_or_else(|e| panic!("{e}\n{text}"));
    }

    #[test]
    fn a_proposal_under_a_base_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("p.toml");
        let base = OsStr::new("default");
        run(
            Some(base),
            Some(&out),
            &words(&["/bin/sh", "-c", "echo x | cat"]),
        )
        .unwrap();
        let text = fs::read_to_string(&out).unwrap();
        let policy = load::jail(out.as_os_str()).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_ne!(
            policy.digest,
            casemate_policies::jail("default").unwrap().digest
        );
        assert!(text.contains("base = \"default\""), "{text}");
    }

    #[test]
    fn what_cannot_be_executed() {
        assert!(traced(&words(&["/no/such/program"])).is_ok());
        assert!(calls(&["/no/such/program"]).names().contains(&"execve"));
    }
}
