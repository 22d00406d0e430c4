//! One program's run: from `Exec` to `Ended`.
//!
//! A single thread and one poll(2):
//!
//! ```text
//! control ──── Signal, Resize ──► program's process group, terminal
//! stdin stream ─────► pipe ─────► program
//! stdout, stderr streams ◄─ pipes ◄─ program     (tty: one master for both ways)
//! signalfd ─── SIGCHLD ─────────► reap everybody's orphans too
//! ```
//! When the program ends, everything else is killed, what was written is sent to
//! its end, the streams are half-closed, and only then `Ended` is sent.

pub mod control;
pub mod lookup;
pub mod oom;
pub mod pump;
pub mod reap;
pub mod spawn;
pub mod tty;

use casemate_proto::agent::{
    Exec, ExitedHow, FromInit, PORT_STDERR, PORT_STDIN, PORT_STDOUT, ToInit, VERSION,
};
use control::{Control, ControlError};
use lookup::Prepared;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Pid, pipe2};
use oom::OomCounter;
use pump::{Pump, Sink};
use reap::{Children, kill_all_others};
use spawn::{StartFailure, Stdio, spawn};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use thiserror::Error;
use tty::Tty;

/// When the init came up.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Microseconds from the kernel's start to the init's.
    pub kernel_us: u64,
    /// Microseconds from the init's start to now.
    pub init_us: u64,
}

/// Opens a connection to a port of the host.
pub type Connect<'a> = dyn FnMut(u32) -> io::Result<OwnedFd> + 'a;

/// Why a run could not be brought to its end.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The control connection.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The host did not keep to the protocol.
    #[error("the host sent {0} out of turn")]
    OutOfTurn(&'static str),
    /// A system call that does not fail.
    #[error("{what}: {errno}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The kernel's reason.
        errno: Errno,
    },
}

fn system<T>(what: &'static str, result: nix::Result<T>) -> Result<T, SessionError> {
    result.map_err(|errno| SessionError::System { what, errno })
}

/// Says Hello, runs the program that the host names, and reports its end.
///
/// Must be the only thread of a process that has no children but the program's.
pub fn run(control: &mut Control, up: Timing, connect: &mut Connect) -> Result<(), SessionError> {
    control.send(&FromInit::Hello {
        version: VERSION,
        kernel_us: up.kernel_us,
        init_us: up.init_us,
    })?;
    let exec = match control.wait_message()? {
        ToInit::Exec(exec) => exec,
        ToInit::Signal(_) => return Err(SessionError::OutOfTurn("Signal before Exec")),
        ToInit::Resize(_) => return Err(SessionError::OutOfTurn("Resize before Exec")),
    };
    let children = system("signalfd", Children::watch())?;
    let mut oom = OomCounter::start();
    match Running::start(&exec, connect) {
        Ok(mut running) => {
            drop(exec);
            control.send(&FromInit::Started)?;
            let ended = running.until_end(control, &children);
            if ended.is_err() {
                kill_all_others(running.leader);
            }
            control.send(&FromInit::Ended {
                status: ended?,
                oom_kills: oom.kills(),
            })?;
            // The streams close with `running`: after the host has read them.
            control.wait_closed();
        }
        Err(StartFailure { error, errno }) => {
            control.send(&FromInit::Failed {
                error,
                errno: errno as i32,
            })?;
            control.wait_closed();
        }
    }
    Ok(())
}

/// A program and its streams.
struct Running {
    leader: Pid,
    /// Set when the leader was reaped; its pid may be another's from then on.
    status: Option<ExitedHow>,
    stdin: Option<Pump>,
    outputs: Vec<Pump>,
    tty: Option<Tty>,
}

impl Running {
    /// Opens the streams and starts the program.
    fn start(exec: &Exec, connect: &mut Connect) -> Result<Self, StartFailure> {
        let mut stream = |port| {
            connect(port)
                .map_err(|e| StartFailure::init(Errno::from_raw(e.raw_os_error().unwrap_or(0))))
        };
        let stdin = stream(PORT_STDIN)?;
        let stdout = stream(PORT_STDOUT)?;
        match exec.tty {
            Some(size) => {
                let tty = Tty::open(size).map_err(StartFailure::init)?;
                Self::on_tty(exec, stdin, stdout, tty)
            }
            None => Self::on_pipes(exec, stdin, stdout, stream(PORT_STDERR)?),
        }
    }

    fn on_pipes(
        exec: &Exec,
        stdin: OwnedFd,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> Result<Self, StartFailure> {
        let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(StartFailure::init);
        let (program_in, to_program) = pipe()?;
        let (from_stdout, program_out) = pipe()?;
        let (from_stderr, program_err) = pipe()?;
        let pump = |source, sink| Pump::new(source, sink).map_err(StartFailure::init);
        Ok(Self {
            stdin: Some(pump(stdin, Sink::Pipe(to_program))?),
            outputs: vec![
                pump(from_stdout, Sink::Stream(stdout))?,
                pump(from_stderr, Sink::Stream(stderr))?,
            ],
            tty: None,
            status: None,
            leader: spawn(
                &Prepared::new(exec)?,
                Stdio::Pipes([program_in, program_out, program_err]),
            )?,
        })
    }

    fn on_tty(
        exec: &Exec,
        stdin: OwnedFd,
        stdout: OwnedFd,
        tty: Tty,
    ) -> Result<Self, StartFailure> {
        let another = |fd: &OwnedFd| {
            fd.try_clone()
                .map_err(|_| StartFailure::init(Errno::EMFILE))
        };
        let pump = |source, sink| Pump::new(source, sink).map_err(StartFailure::init);
        Ok(Self {
            stdin: Some(pump(stdin, Sink::Tty(another(&tty.master)?))?),
            outputs: vec![pump(another(&tty.master)?, Sink::Stream(stdout))?],
            leader: spawn(&Prepared::new(exec)?, Stdio::Tty(another(&tty.slave)?))?,
            tty: Some(tty),
            status: None,
        })
    }

    /// The loop: until the program has ended and all its output was passed on.
    fn until_end(
        &mut self,
        control: &mut Control,
        children: &Children,
    ) -> Result<ExitedHow, SessionError> {
        loop {
            match self.status {
                Some(status) if self.outputs.iter().all(Pump::is_done) => return Ok(status),
                _ => {}
            }
            let ready = self.poll(control, children)?;
            let revents = |fd: i32| {
                ready
                    .iter()
                    .find(|(ready, _)| *ready == fd)
                    .map_or(PollFlags::empty(), |(_, flags)| *flags)
            };
            control.flush()?;
            while let Some(message) = control.receive()? {
                self.obey(&message)?;
            }
            if let Some(status) = children.reap(self.leader) {
                self.ended(status);
            }
            for pump in self.stdin.iter_mut().chain(&mut self.outputs) {
                pump.work(&revents);
            }
            self.hang_up();
        }
    }

    fn poll(
        &self,
        control: &Control,
        children: &Children,
    ) -> Result<Vec<(i32, PollFlags)>, SessionError> {
        let mut fds: Vec<PollFd> = vec![control.interest(), children.interest()];
        fds.extend(
            self.stdin
                .iter()
                .chain(&self.outputs)
                .flat_map(Pump::interest),
        );
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return system("poll", Err(errno)),
        }
        Ok(fds
            .iter()
            .map(|fd| {
                let flags = fd.revents().unwrap_or(PollFlags::empty());
                (fd.as_fd().as_raw_fd(), flags)
            })
            .collect())
    }

    fn obey(&self, message: &ToInit) -> Result<(), SessionError> {
        match message {
            ToInit::Exec(_) => return Err(SessionError::OutOfTurn("a second Exec")),
            ToInit::Signal(signal) => {
                if self.status.is_none() {
                    signal_group(self.leader, *signal);
                }
            }
            ToInit::Resize(size) => {
                if let Some(tty) = &self.tty {
                    system("size of the terminal", tty::resize(&tty.master, *size))?;
                }
            }
        }
        Ok(())
    }

    /// The program is gone: nobody else stays, and nobody reads its input any more.
    fn ended(&mut self, status: ExitedHow) {
        self.status = Some(status);
        kill_all_others(self.leader);
        self.stdin = None;
        // The last slave: the master reads as ended once it is empty.
        self.tty = None;
    }

    /// A terminal that nobody looks at any more is hung up, as by a lost connection.
    fn hang_up(&mut self) {
        if self.tty.is_some() && self.outputs.iter().all(Pump::is_done) {
            self.tty = None;
            self.stdin = None;
        }
    }
}

/// Signals the program's process group. A number that is no signal is ignored.
fn signal_group(leader: Pid, signal: u8) {
    // SAFETY: kill(2) takes integers. Not nix's: it knows no real-time signals.
    unsafe { libc::kill(-leader.as_raw(), i32::from(signal)) };
}
