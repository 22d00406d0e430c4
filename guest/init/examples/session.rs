//! The init's session as the first process of a pid namespace, for tests: the
//! control connection is fd 0, the connection for port P is fd P - 1000 (see `tests/`).

use casemate_init::session::control::Control;
use casemate_init::session::{Timing, run};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, getuid};
use std::error::Error;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::process::exit;

fn main() -> Result<(), Box<dyn Error>> {
    let user = if getuid().is_root() {
        CloneFlags::empty()
    } else {
        CloneFlags::CLONE_NEWUSER
    };
    unshare(user | CloneFlags::CLONE_NEWPID)?;
    // SAFETY: this process has a single thread.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            // Or the sockets would have a second owner.
            // SAFETY: nothing in this process owns an fd above 2.
            unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
            match waitpid(child, None)? {
                WaitStatus::Exited(_, code) => exit(code),
                other => Err(format!("session: {other:?}").into()),
            }
        }
        ForkResult::Child => {
            set_pdeathsig(Signal::SIGKILL)?;
            let mut control = Control::new(take(0)?)?;
            let up = Timing {
                kernel_us: 1,
                init_us: 2,
            };
            let mut connect = |port: u32| take(port as RawFd - 1000);
            Ok(run(&mut control, up, &mut connect)?)
        }
    }
}

/// A close-on-exec copy of an inherited fd, which is closed.
fn take(fd: RawFd) -> io::Result<std::os::fd::OwnedFd> {
    // SAFETY: `fcntl` and `close` take integers, and nothing else here owns `fd`:
    // it was inherited for this one use.
    unsafe {
        let copy = BorrowedFd::borrow_raw(fd).try_clone_to_owned()?;
        if fd > 2 {
            libc::close(fd);
        }
        Ok(copy)
    }
}
