//! The fds the CLI hands over: each is checked to be what its role says.

use casemate_proto::cell::{FdRole, Launch};
use casemate_proto::fds::{MAX_DISKS, MAX_STREAMS};
use nix::sys::socket::{AddressFamily, SockType, UnixAddr, getpeername, getsockopt, sockopt};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat, major, minor};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use thiserror::Error;

/// Device number of `/dev/kvm` (Linux' devices.txt: misc major 10, minor 232).
const KVM_DEVICE: (u32, u32) = (10, 232);

/// Why the fds are refused.
#[derive(Debug, Error)]
pub enum PassedError {
    /// Not as many fds as roles.
    #[error("the launch names {roles} roles and brings {fds} fds: send one fd for each role")]
    Count {
        /// Roles named.
        roles: usize,
        /// Fds attached.
        fds: usize,
    },
    /// The same role two times.
    #[error("two fds have the role {0:?}: send one")]
    Twice(FdRole),
    /// A role that the configuration needs and nobody sent.
    #[error("no fd has the role {0:?}: send one")]
    Missing(FdRole),
    /// A role that the configuration has no use for.
    #[error("an fd has the role {0:?}, which the configuration does not name: leave it out")]
    Stray(FdRole),
    /// The fd is not of the kind its role asks for.
    #[error("the fd with the role {role:?} is {found}: it must be {want}")]
    Wrong {
        /// Which.
        role: FdRole,
        /// What it is.
        found: String,
        /// What it should be.
        want: &'static str,
    },
    /// The kernel does not tell about it.
    #[error("the fd with the role {role:?} cannot be looked at: {source}; send an open fd")]
    Look {
        /// Which.
        role: FdRole,
        /// Why.
        source: rustix::io::Errno,
    },
}

/// A disk with, if it is a regular file, its size in bytes.
#[derive(Debug)]
pub struct Disk {
    /// Opened as its configuration says.
    pub fd: OwnedFd,
    /// Size of a regular file; `None` for a block device, which no `RLIMIT_FSIZE` concerns.
    pub file_size: Option<u64>,
}

/// All fds of one cell, each known to be of its kind.
#[derive(Debug)]
pub struct Passed {
    /// The VMM's binary.
    pub vmm: OwnedFd,
    /// `/dev/kvm`.
    pub kvm: OwnedFd,
    /// The kernel image.
    pub kernel: OwnedFd,
    /// The initramfs.
    pub initrd: Option<OwnedFd>,
    /// In order.
    pub disks: Vec<Disk>,
    /// In order.
    pub streams: Vec<OwnedFd>,
    /// Console pipe, now non-blocking.
    pub console: OwnedFd,
    /// Log pipe, now non-blocking.
    pub log: OwnedFd,
}

impl Passed {
    /// Sorts and checks `fds`, which came with `launch` in the order of `launch.roles`.
    ///
    /// # Errors
    /// The first fd that is missing, doubled, superfluous or of the wrong kind.
    pub fn check(launch: &Launch, fds: Vec<OwnedFd>) -> Result<Self, PassedError> {
        if fds.len() != launch.roles.len() {
            return Err(PassedError::Count {
                roles: launch.roles.len(),
                fds: fds.len(),
            });
        }
        let mut by_role = BTreeMap::new();
        for (&role, fd) in launch.roles.iter().zip(fds) {
            if by_role.insert(role, fd).is_some() {
                return Err(PassedError::Twice(role));
            }
        }
        let mut take = |role| by_role.remove(&role).ok_or(PassedError::Missing(role));

        let vm = &launch.vm;
        let passed = Self {
            vmm: executable(take(FdRole::Vmm)?)?,
            kvm: kvm(take(FdRole::Kvm)?)?,
            kernel: image(FdRole::Kernel, take(FdRole::Kernel)?)?,
            initrd: match vm.initrd {
                true => Some(image(FdRole::Initrd, take(FdRole::Initrd)?)?),
                false => None,
            },
            disks: vm
                .disks
                .iter()
                .take(MAX_DISKS)
                .enumerate()
                .map(|(n, config)| {
                    let role = FdRole::Disk(n as u8);
                    disk(role, take(role)?, config.read_only)
                })
                .collect::<Result<_, _>>()?,
            streams: (0..vm.streams.len().min(MAX_STREAMS))
                .map(|n| {
                    let role = FdRole::Stream(n as u8);
                    stream(role, take(role)?)
                })
                .collect::<Result<_, _>>()?,
            console: pipe(FdRole::Console, take(FdRole::Console)?)?,
            log: pipe(FdRole::Log, take(FdRole::Log)?)?,
        };
        match by_role.into_keys().next() {
            Some(role) => Err(PassedError::Stray(role)),
            None => Ok(passed),
        }
    }
}

/// What fstat(2) and fcntl(2) say of an fd.
struct Look {
    kind: FileType,
    device: (u32, u32),
    size: u64,
    flags: OFlags,
}

impl Look {
    fn at(role: FdRole, fd: BorrowedFd<'_>) -> Result<Self, PassedError> {
        let look = |source| PassedError::Look { role, source };
        let stat = fstat(fd).map_err(look)?;
        Ok(Self {
            kind: FileType::from_raw_mode(stat.st_mode),
            device: (major(stat.st_rdev), minor(stat.st_rdev)),
            size: stat.st_size as u64,
            flags: fcntl_getfl(fd).map_err(look)?,
        })
    }

    /// In words, for errors.
    fn words(&self) -> String {
        let kind = match self.kind {
            FileType::RegularFile => "a regular file",
            FileType::Directory => "a directory",
            FileType::Fifo => "a pipe",
            FileType::Socket => "a socket",
            FileType::Symlink => "a symbolic link",
            FileType::BlockDevice => "a block device",
            FileType::CharacterDevice => {
                return format!(
                    "the character device {}:{} {}",
                    self.device.0,
                    self.device.1,
                    self.access()
                );
            }
            _ => "no file",
        };
        format!("{kind} {}", self.access())
    }

    fn access(&self) -> &'static str {
        if self.flags.contains(OFlags::PATH) {
            return "opened O_PATH";
        }
        match self.flags & OFlags::RWMODE {
            OFlags::RDONLY => "opened read-only",
            OFlags::WRONLY => "opened write-only",
            _ => "opened read-write",
        }
    }

    fn mode_is(&self, mode: OFlags) -> bool {
        !self.flags.contains(OFlags::PATH) && self.flags & OFlags::RWMODE == mode
    }

    /// The fd, if `good`.
    fn accept(
        &self,
        good: bool,
        role: FdRole,
        fd: OwnedFd,
        want: &'static str,
    ) -> Result<OwnedFd, PassedError> {
        match good {
            true => Ok(fd),
            false => Err(PassedError::Wrong {
                role,
                found: self.words(),
                want,
            }),
        }
    }
}

fn executable(fd: OwnedFd) -> Result<OwnedFd, PassedError> {
    let look = Look::at(FdRole::Vmm, fd.as_fd())?;
    let good = look.kind == FileType::RegularFile
        && (look.flags.contains(OFlags::PATH) || look.mode_is(OFlags::RDONLY));
    look.accept(good, FdRole::Vmm, fd, "a regular file opened O_PATH")
}

fn kvm(fd: OwnedFd) -> Result<OwnedFd, PassedError> {
    let look = Look::at(FdRole::Kvm, fd.as_fd())?;
    let good = look.kind == FileType::CharacterDevice
        && look.device == KVM_DEVICE
        && look.mode_is(OFlags::RDWR);
    look.accept(good, FdRole::Kvm, fd, "/dev/kvm (10:232) opened read-write")
}

fn image(role: FdRole, fd: OwnedFd) -> Result<OwnedFd, PassedError> {
    let look = Look::at(role, fd.as_fd())?;
    let good = look.kind == FileType::RegularFile && look.mode_is(OFlags::RDONLY);
    look.accept(good, role, fd, "a regular file opened read-only")
}

fn disk(role: FdRole, fd: OwnedFd, read_only: bool) -> Result<Disk, PassedError> {
    let look = Look::at(role, fd.as_fd())?;
    let (mode, want) = match read_only {
        true => (
            OFlags::RDONLY,
            "a regular file or block device opened read-only",
        ),
        false => (
            OFlags::RDWR,
            "a regular file or block device opened read-write",
        ),
    };
    let regular = look.kind == FileType::RegularFile;
    let good = (regular || look.kind == FileType::BlockDevice) && look.mode_is(mode);
    Ok(Disk {
        fd: look.accept(good, role, fd, want)?,
        file_size: regular.then_some(look.size),
    })
}

fn stream(role: FdRole, fd: OwnedFd) -> Result<OwnedFd, PassedError> {
    let look = Look::at(role, fd.as_fd())?;
    let raw = fd.as_raw_fd();
    let good = look.kind == FileType::Socket
        && getsockopt(&fd, sockopt::SockType) == Ok(SockType::Stream)
        && getpeername::<UnixAddr>(raw).is_ok()
        && nix::sys::socket::getsockname::<nix::sys::socket::SockaddrStorage>(raw).is_ok_and(
            |name| {
                use nix::sys::socket::SockaddrLike;
                name.family() == Some(AddressFamily::Unix)
            },
        );
    look.accept(good, role, fd, "a connected SOCK_STREAM unix socket")
}

fn pipe(role: FdRole, fd: OwnedFd) -> Result<OwnedFd, PassedError> {
    let look = Look::at(role, fd.as_fd())?;
    let good = look.kind == FileType::Fifo && look.mode_is(OFlags::WRONLY);
    let fd = look.accept(good, role, fd, "the write end of a pipe")?;
    fcntl_setfl(&fd, look.flags | OFlags::NONBLOCK)
        .map_err(|source| PassedError::Look { role, source })?;
    Ok(fd)
}
