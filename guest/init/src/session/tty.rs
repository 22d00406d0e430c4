//! The program's terminal.

use casemate_proto::agent::TtySize;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{OpenptyResult, Winsize, openpty};
use std::os::fd::{AsRawFd, OwnedFd};

/// Both ends of a terminal.
#[derive(Debug)]
pub struct Tty {
    /// What the host reads and writes.
    pub master: OwnedFd,
    /// What the program has. Held by the init until the program ends: a
    /// terminal that nobody has open reads as ended.
    pub slave: OwnedFd,
}

impl Tty {
    /// Makes one on the guest's `/dev/pts`.
    pub fn open(size: TtySize) -> nix::Result<Self> {
        let OpenptyResult { master, slave } = openpty(&winsize(size), None)?;
        for fd in [&master, &slave] {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        }
        Ok(Self { master, slave })
    }
}

/// Tells the terminal's foreground processes of a new size (`SIGWINCH`).
pub fn resize(master: &OwnedFd, size: TtySize) -> nix::Result<()> {
    let size = winsize(size);
    // SAFETY: the argument is a `winsize` that outlives the call (ioctl_tty(2)).
    Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })
        .map(|_| ())
}

fn winsize(size: TtySize) -> Winsize {
    Winsize {
        ws_row: size.rows,
        ws_col: size.cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
