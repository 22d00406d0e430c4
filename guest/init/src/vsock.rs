//! Connections to the host.

use nix::errno::Errno;
use nix::libc::VMADDR_CID_HOST;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, VsockAddr, connect as sys, socket};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long the vsock device may take to appear after its driver is loaded.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connects to `port` of the host (CID 2). Blocking; close-on-exec.
///
/// `ENODEV` after five seconds: there is no vsock device or no driver for it.
/// `ECONNRESET`: the host does not listen on this port.
pub fn connect(port: u32) -> io::Result<OwnedFd> {
    let start = Instant::now();
    loop {
        match attempt(port) {
            Err(Errno::ENODEV | Errno::EAFNOSUPPORT) if start.elapsed() < PATIENCE => {
                sleep(Duration::from_millis(1));
            }
            other => return other.map_err(io::Error::from),
        }
    }
}

fn attempt(port: u32) -> nix::Result<OwnedFd> {
    let fd = socket(
        AddressFamily::Vsock,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    sys(fd.as_raw_fd(), &VsockAddr::new(VMADDR_CID_HOST, port))?;
    Ok(fd)
}
