//! What ordinary programs expect of a machine: device nodes, terminals,
//! places for temporary files, a host name, a loopback interface, usual limits.

use super::memory::Memory;
use super::mount::{MountError, Mounted, mount};
use nix::mount::MsFlags;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::sethostname;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use thiserror::Error;

/// The guest's host name.
pub const HOSTNAME: &str = "casemate";

/// What could not be furnished.
#[derive(Debug, Error)]
pub enum FurnishError {
    /// A mount failed.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// Something else failed.
    #[error("{what}: {source}")]
    Step {
        /// What was tried.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
}

fn step<E: Into<io::Error>>(what: &'static str, result: Result<(), E>) -> Result<(), FurnishError> {
    result.map_err(|e| FurnishError::Step {
        what,
        source: e.into(),
    })
}

/// Furnishes `/`, where `/dev`, `/proc` and `/sys` are mounted.
pub fn furnish(memory: &Memory) -> Result<(), FurnishError> {
    let private = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Mounted {
        source: "devpts",
        at: "/dev/pts",
        kind: "devpts",
        flags: MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
        data: "mode=0620,gid=5,ptmxmode=0666",
    })?;
    memory.bind("shm", "/dev/shm", 0o1777, private)?;
    memory.bind("run", "/run", 0o755, private)?;
    memory.bind("tmp", "/tmp", 0o1777, private)?;
    for (target, link) in [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
    ] {
        match symlink(target, link) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            made => step("links in /dev", made)?,
        }
    }
    step("host name", sethostname(HOSTNAME))?;
    step("loopback interface", loopback_up())?;
    limits()
}

/// The limits that programs find on a usual distribution. The kernel starts
/// its init with 4096 fds at most and inherits that to everybody.
fn limits() -> Result<(), FurnishError> {
    step(
        "limit of open files",
        setrlimit(Resource::RLIMIT_NOFILE, 1024, 524_288),
    )
}

/// Brings `lo` up. A kernel without TCP/IP has none, and programs do without.
fn loopback_up() -> io::Result<()> {
    let Ok(any) = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    ) else {
        return Ok(());
    };
    // SAFETY: all zeroes is a valid `ifreq`: integers, and a union of such.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed() as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: `request` is an `ifreq` that outlives the call (netdevice(7)).
    match unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            e => Err(e),
        },
    }
}
