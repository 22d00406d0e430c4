//! The exec: the arguments that Firecracker expects of its jailer, and no environment.

use super::error::PeerError;
use super::options::Options;
use crate::clock;
use rustix::time::{ClockId, clock_gettime};
use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// When the jailer began, and what it used.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Microseconds of the monotonic clock when its `main` was entered.
    pub started_us: u64,
    /// CPU time of processes of the jailer before this one, in microseconds.
    pub cpu_before_us: u64,
}

impl Times {
    /// Now.
    pub fn now() -> Self {
        Self {
            started_us: clock::now_us(),
            cpu_before_us: 0,
        }
    }

    /// Adds what the calling process used, for one that is about to follow it.
    pub fn and_this_process(self) -> Self {
        Self {
            cpu_before_us: self.cpu_before_us + cpu_us(),
            ..self
        }
    }
}

/// CPU time of the calling process, in microseconds.
fn cpu_us() -> u64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

/// Becomes the program.
///
/// # Errors
/// execve(2)'s.
pub fn execute(options: &Options, name: &OsStr, times: &Times) -> Result<Infallible, PeerError> {
    let mut path = OsString::from("/");
    path.push(name);
    let cpu = cpu_us();
    let own = [
        path.clone(),
        "--id".into(),
        options.id.as_str().into(),
        "--start-time-us".into(),
        times.started_us.to_string().into(),
        "--start-time-cpu-us".into(),
        cpu.to_string().into(),
        "--parent-cpu-time-us".into(),
        (times.cpu_before_us + cpu).to_string().into(),
    ];
    let failed = |e: &dyn std::fmt::Display, remedy| {
        PeerError::step(format!("executing {}", path.display()), e, remedy)
    };
    let arguments: Vec<CString> = own
        .iter()
        .chain(&options.arguments)
        .map(|argument| CString::new(argument.as_bytes()))
        .collect::<Result<_, _>>()
        .map_err(|e| failed(&e, "take the NUL out of the arguments"))?;
    let none: [CString; 0] = [];
    match nix::unistd::execve(&arguments[0], &arguments, &none) {
        Ok(never) => Ok(never),
        Err(e) => {
            let remedy = match e {
                nix::errno::Errno::EACCES => {
                    "let the jail's user execute it (chmod 755), on a file system that is not \
                     mounted noexec"
                }
                nix::errno::Errno::ENOENT => {
                    "use one that is statically linked: the jail has no loader"
                }
                nix::errno::Errno::ENOEXEC => "use one built for this machine",
                nix::errno::Errno::E2BIG => "give fewer arguments after --",
                _ => "see that it is a program",
            };
            Err(failed(&e, remedy))
        }
    }
}
