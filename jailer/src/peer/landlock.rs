//! Landlock (landlock(7)): everything below the jail's root is the program's, as the layout
//! promises; what lies beyond is not, whatever the host mounts or fds passed in lead to.
//!
//! What it takes away, from a process that has no capability anyway: mounting, tracing
//! processes outside, and from ABI 6 on signals and abstract sockets to the outside. TCP is
//! left alone: a program may have been given a network namespace for it.

use super::Addition;
use super::error::PeerError;
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, LandlockStatus, PathBeneath, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
};
use nix::errno::Errno as NixErrno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockname, listen,
    socket,
};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Oldest ABI that will do: 1 denies every rename from one directory to another, which
/// programs need.
const MIN_ABI: ABI = ABI::V2;
/// Newest ABI known here.
const MAX_ABI: ABI = ABI::V7;

const REMEDY: &str = "run a kernel with CONFIG_SECURITY_LANDLOCK, with landlock in its lsm= \
                      list, Landlock ABI 2 (Linux 5.19) or later";

/// What is tried before and after.
#[derive(Debug)]
pub struct Probe {
    listener: OwnedFd,
}

impl Probe {
    /// Makes an abstract socket that belongs to the outside.
    ///
    /// # Errors
    /// The calls' own.
    pub fn new() -> Result<Self, PeerError> {
        let listener = unix_socket()?;
        // An address without a name makes the kernel choose an abstract one.
        bind(listener.as_raw_fd(), &UnixAddr::new_unnamed())
            .and_then(|()| listen(&listener, Backlog::MAXCONN))
            .map_err(|e| failed(&format!("a socket to try it with: {e}")))?;
        Ok(Self { listener })
    }

    /// Restricts the process to what is below `root`, and tries whether that holds. Asks for
    /// no_new_privs or CAP_SYS_ADMIN.
    ///
    /// # Errors
    /// Where the kernel has no Landlock, or does not do what it should.
    pub fn restrict(self, root: &impl AsFd) -> Result<(), PeerError> {
        let status = restrict(root).map_err(|e| failed(&e))?;
        let LandlockStatus::Available { effective_abi, .. } = status.landlock else {
            return Err(failed(&"the kernel has none"));
        };
        // As the mounts are already; only a process that may not mount is refused this.
        let change = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        match mount_change("/", change) {
            Err(Errno::PERM) => {}
            Ok(()) => return Err(failed(&"mounting is still allowed")),
            Err(e) => return Err(failed(&format!("mounting is answered with {e}"))),
        }
        if effective_abi < ABI::V6 {
            return Ok(());
        }
        let outside: UnixAddr = getsockname(self.listener.as_raw_fd())
            .map_err(|e| failed(&format!("the socket to try it with: {e}")))?;
        match connect(unix_socket()?.as_raw_fd(), &outside) {
            Err(NixErrno::EPERM) => Ok(()),
            Ok(()) => Err(failed(&"abstract sockets outside are still reached")),
            Err(e) => Err(failed(&format!("an abstract socket answers with {e}"))),
        }
    }
}

fn unix_socket() -> Result<OwnedFd, PeerError> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Stream, flags, None)
        .map_err(|e| failed(&format!("a socket to try it with: {e}")))
}

fn failed(why: &dyn std::fmt::Display) -> PeerError {
    PeerError::layer(
        Addition::Landlock,
        format!("cannot be applied: {why}"),
        REMEDY,
    )
}

fn restrict(root: &impl AsFd) -> Result<landlock::RestrictionStatus, RulesetError> {
    let all = AccessFs::from_all(MAX_ABI);
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(MIN_ABI))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .scope(Scope::from_all(MAX_ABI))?
        .create()?
        .add_rule(PathBeneath::new(root, all))?
        // A layer of its own, which may be off.
        .no_new_privs(false)
        .restrict_self()
}
