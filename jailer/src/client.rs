//! The CLI's side: starts a jailer and talks to it.
//!
//! ```text
//! let mut fds = Attached::new();
//! fds.push(FdRole::Vmm, vmm_fd);            // and the others; order is kept
//! let jailer = Jailer::start(&path)?;
//! jailer.launch(launch, &fds)?;             // fills in Launch::roles
//! drop(fds);                                // else their peers never see an end of file
//! while let Some(event) = jailer.next()? {} // Running, then Ended; or Refused
//! jailer.wait()?;
//! ```

use casemate_proto::cell::{FdRole, FromJailer, JAILER_SOCKET, Launch, ToJailer};
use casemate_proto::seqpacket::{self, SeqpacketError};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use thiserror::Error;

/// What can go wrong between the CLI and the jailer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The jailer's binary does not start.
    #[error("cannot start the jailer {path}: {source}; install it beside `casemate`", path = path.display())]
    Start {
        /// Which binary.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The socket to the jailer failed.
    #[error("talking to the jailer: {0}")]
    Talk(#[from] SeqpacketError),
    /// The jailer sent fds, which it never does.
    #[error("the jailer sent file descriptors, which it never does: the binary is not ours")]
    UnexpectedFds,
    /// The jailer's process cannot be waited for.
    #[error("waiting for the jailer: {0}")]
    Wait(#[source] io::Error),
}

/// Fds to hand over, each with its role.
#[derive(Debug, Default)]
pub struct Attached {
    roles: Vec<FdRole>,
    fds: Vec<OwnedFd>,
}

impl Attached {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn push(&mut self, role: FdRole, fd: impl Into<OwnedFd>) -> &mut Self {
        self.roles.push(role);
        self.fds.push(fd.into());
        self
    }

    /// The roles, in order.
    pub fn roles(&self) -> &[FdRole] {
        &self.roles
    }

    /// The fds, in the same order.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.fds.iter().map(AsFd::as_fd).collect()
    }
}

/// A running jailer. Dropping it closes the socket, which ends the cell.
#[derive(Debug)]
pub struct Jailer {
    // Before `child`: closed first when dropped.
    socket: OwnedFd,
    child: Child,
}

impl Jailer {
    /// Starts `binary supervise` with its socket at [`JAILER_SOCKET`]. Standard input and
    /// output are `/dev/null`, standard error is shared.
    pub fn start(binary: &Path) -> Result<Self, ClientError> {
        let (socket, far) = seqpacket::pair()?;
        let raw = far.as_raw_fd();
        let mut command = Command::new(binary);
        command
            .arg("supervise")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        // SAFETY: between fork and exec only dup2(2) and fcntl(2) are called, which are
        // async-signal-safe and touch no memory; `raw` is open until `far` is dropped below.
        unsafe {
            command.pre_exec(move || {
                if raw == JAILER_SOCKET {
                    // dup2 onto itself would leave close-on-exec set.
                    return check(libc::fcntl(raw, libc::F_SETFD, 0));
                }
                check(libc::dup2(raw, JAILER_SOCKET))
            });
        }
        let child = command.spawn().map_err(|source| ClientError::Start {
            path: binary.to_owned(),
            source,
        })?;
        drop(far);
        Ok(Self { socket, child })
    }

    /// Process id of the supervisor.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends the cell. `launch.roles` is set from `attached`, so that the two agree.
    pub fn launch(&self, mut launch: Launch, attached: &Attached) -> Result<(), ClientError> {
        launch.roles = attached.roles.clone();
        let message = ToJailer::Launch(Box::new(launch));
        Ok(seqpacket::send(
            self.socket.as_fd(),
            &message,
            &attached.fds(),
        )?)
    }

    /// Asks for the cell's end. [`FromJailer::Ended`] follows.
    pub fn stop(&self) -> Result<(), ClientError> {
        Ok(seqpacket::send(self.socket.as_fd(), &ToJailer::Stop, &[])?)
    }

    /// Waits for the jailer's next word; `None` when it is gone.
    pub fn next(&self) -> Result<Option<FromJailer>, ClientError> {
        match seqpacket::recv(self.socket.as_fd())? {
            None => Ok(None),
            Some((event, fds)) if fds.is_empty() => Ok(Some(event)),
            Some(_) => Err(ClientError::UnexpectedFds),
        }
    }

    /// The socket, to poll for what [`Self::next`] would return at once.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Closes the socket (which ends a cell that still runs) and waits for the supervisor's end.
    pub fn wait(self) -> Result<ExitStatus, ClientError> {
        let Self { socket, mut child } = self;
        drop(socket);
        child.wait().map_err(ClientError::Wait)
    }
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
