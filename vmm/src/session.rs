//! The VMM's main thread: from the first message to the last.
//!
//! ```text
//! check fds ─> Landlock ─> Setup filter ─> Configure ─> build (threads confine
//! themselves) ─> Main filter ─> Ready ─> Go ─> wait for the end ─> Ended
//! ```

use crate::event::{EventError, epoll};
use crate::exit::Exit;
use crate::layer_off::install;
use crate::memory;
use crate::process::{self, ProcessError};
use crate::vm::{BuildError, Vm};
use casemate_policies::{InstallError, ThreadClass, filter};
use casemate_proto::control::{Ended, FromVmm, Ready, ToVmm, VmConfig};
use casemate_proto::fds;
use casemate_proto::seqpacket::{self, SeqpacketError};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};
use nix::time::{ClockId, clock_gettime};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use thiserror::Error;

/// The name of the main thread: comm(5) is otherwise that of the binary.
const MAIN: &std::ffi::CStr = c"main";
/// epoll's data for each fd.
const CONTROL: u64 = 0;
const EXIT: u64 = 1;

/// Why the main thread stops.
#[derive(Debug, Error)]
enum SessionError {
    /// The process is not as it must be.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A filter is not on.
    #[error("layer {0}")]
    Filter(#[from] InstallError),
    /// The supervisor's messages.
    #[error(transparent)]
    Control(#[from] SeqpacketError),
    /// A message at the wrong time.
    #[error("control socket: {got} where {want} was due")]
    Unexpected {
        got: &'static str,
        want: &'static str,
    },
    /// The VM.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// An event fd.
    #[error(transparent)]
    Event(#[from] EventError),
    /// Waiting failed.
    #[error("epoll: {0}")]
    Epoll(#[from] Errno),
}

impl From<SessionError> for Ended {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Build(error) => error.into(),
            error => Self::Failed {
                message: error.to_string(),
            },
        }
    }
}

/// Runs one VM on the fds of [`casemate_proto::fds`]. Gives the process's exit
/// status: 0 when the supervisor was told how it ended or is gone, 1 when it
/// could not be told.
///
/// The caller ends the process with it at once: a VM is never taken apart.
pub fn run() -> i32 {
    let entered_us = now_us();
    // SAFETY: the number is the supervisor's socket by contract; where it is not
    // even open, sending fails.
    let control = unsafe { BorrowedFd::borrow_raw(fds::CONTROL) };
    let ended = match session(control, entered_us) {
        Ok(None) => return 0,
        Ok(Some(ended)) => ended,
        Err(error) => error.into(),
    };
    if let Ended::Refused { message } | Ended::Failed { message } = &ended {
        log(message);
    }
    match seqpacket::send(control, &FromVmm::Ended(ended), &[]) {
        Ok(()) => 0,
        Err(error) => {
            log(&format!("cannot tell the supervisor: {error}"));
            1
        }
    }
}

/// A line to the log pipe. A reader that is gone or slow loses it, and that is all.
fn log(line: &str) {
    let _ = writeln!(io::stderr(), "casemate-vmm: {line}");
}

/// `None`: the supervisor closed the socket.
fn session(control: BorrowedFd<'_>, entered_us: u64) -> Result<Option<Ended>, SessionError> {
    let present = process::check_fds()?;
    process::give_up_privileges()?;
    install(filter(ThreadClass::Setup))?;
    process::set_thread_name(MAIN);

    let Some(config) = receive_config(control)? else {
        return Ok(None);
    };
    let given = process::take_fds(&config, present)?;
    let exit = Exit::new()?;
    let vm = Vm::build(&config, given, &exit)?;
    // From here on the VM lasts as long as the process: dropping it would wait for
    // threads that only the process's end ends.
    let vm = std::mem::ManuallyDrop::new(vm);
    let events = watch(control, &exit)?;
    install(filter(ThreadClass::Main))?;

    let mut threads = vec![MAIN.to_string_lossy().into_owned()];
    threads.extend_from_slice(&vm.threads);
    let ready = Ready {
        threads,
        guest_memory: memory::host_ranges(&vm.memory),
        entered_us,
        ready_us: now_us(),
    };
    seqpacket::send(control, &FromVmm::Ready(ready), &[])?;
    match seqpacket::recv::<ToVmm>(control)? {
        None => return Ok(None),
        Some((ToVmm::Go, _)) => vm.release(),
        Some((other, _)) => return Err(unexpected(&other, "Go")),
    }
    wait_for_end(control, &events, &exit)
}

fn receive_config(control: BorrowedFd<'_>) -> Result<Option<VmConfig>, SessionError> {
    match seqpacket::recv::<ToVmm>(control)? {
        None => Ok(None),
        Some((ToVmm::Configure(config), _)) => Ok(Some(config)),
        Some((other, _)) => Err(unexpected(&other, "Configure")),
    }
}

fn unexpected(got: &ToVmm, want: &'static str) -> SessionError {
    let got = match got {
        ToVmm::Configure(_) => "Configure",
        ToVmm::Go => "Go",
    };
    SessionError::Unexpected { got, want }
}

fn watch(control: BorrowedFd<'_>, exit: &Exit) -> Result<Epoll, SessionError> {
    let events = epoll()?;
    // SAFETY: the eventfd lives as long as `exit`, which outlives this call.
    let exit = unsafe { BorrowedFd::borrow_raw(exit.event().as_raw_fd()) };
    for (fd, data) in [(control, CONTROL), (exit, EXIT)] {
        events.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, data))?;
    }
    Ok(events)
}

/// Sleeps until the guest ends, or the supervisor closes the socket.
fn wait_for_end(
    control: BorrowedFd<'_>,
    events: &Epoll,
    exit: &Exit,
) -> Result<Option<Ended>, SessionError> {
    let mut ready = [EpollEvent::empty(); 2];
    loop {
        let count = match events.wait(&mut ready, EpollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        // The guest's own end comes first: a supervisor that closes right after is told.
        if let Some(ended) = exit.reason() {
            return Ok(Some(ended.clone()));
        }
        if ready[..count].iter().any(|event| event.data() == CONTROL) {
            return match seqpacket::recv::<ToVmm>(control)? {
                None => Ok(None),
                Some((other, _)) => Err(unexpected(&other, "nothing")),
            };
        }
    }
}

/// Microseconds of `CLOCK_MONOTONIC`.
fn now_us() -> u64 {
    // The clock always exists; 0 would only spoil a report.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        time.tv_sec() as u64 * 1_000_000 + time.tv_nsec() as u64 / 1000
    })
}
