//! The fixed file descriptors of the VMM.
//!
//! The jailer places every fd the VMM is given at a number from this table and
//! closes all others; the VMM moves the fds it makes itself to their numbers.
//! Fixed numbers let seccomp rules name the fd a call is meant for, and let the
//! read-back compare the whole list (`docs/architecture.md` shows it).

use crate::control::VmConfig;
use std::collections::BTreeMap;

/// `/dev/null`, read-only.
pub const NULL: i32 = 0;
/// Write end of the guest's console pipe, non-blocking.
pub const CONSOLE: i32 = 1;
/// Write end of the VMM's own log pipe, non-blocking.
pub const LOG: i32 = 2;
/// The control socket to the supervisor (`SOCK_SEQPACKET`).
pub const CONTROL: i32 = 3;
/// `/dev/kvm`; closed once the VM and its vCPUs exist.
pub const KVM: i32 = 4;
/// The kernel image, read-only; closed once loaded.
pub const KERNEL: i32 = 5;
/// The initramfs, read-only; closed once loaded.
pub const INITRD: i32 = 6;
/// The VM (made by the VMM from [`KVM`]).
pub const VM: i32 = 7;
/// First disk; disk `n` is at `DISK_BASE + n`.
pub const DISK_BASE: i32 = 16;
/// Most disks one VM can have.
pub const MAX_DISKS: usize = 8;
/// First vsock stream; stream `n` is at `STREAM_BASE + n`.
pub const STREAM_BASE: i32 = 24;
/// Most pre-connected vsock streams.
pub const MAX_STREAMS: usize = 8;
/// First vCPU; vCPU `n` is at `VCPU_BASE + n`.
pub const VCPU_BASE: i32 = 32;
/// Most vCPUs one VM can have.
pub const MAX_VCPUS: usize = 32;
/// First of the event fds (eventfd, epoll, timerfd) that the VMM makes.
pub const EVENT_BASE: i32 = 64;

/// What `/proc/PID/fd/N` must link to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FdKind {
    /// `/dev/null`.
    Null,
    /// `pipe:[inode]`.
    Pipe,
    /// `socket:[inode]`.
    Socket,
    /// `anon_inode:kvm-vm`.
    KvmVm,
    /// `anon_inode:kvm-vcpu:N`.
    KvmVcpu,
    /// A regular file or block device given as a disk.
    Disk,
    /// `anon_inode:[eventfd]`, `[eventpoll]` or `[timerfd]`.
    Event,
}

impl FdKind {
    /// Tells the kind from the text of a `/proc/PID/fd` link (proc(5)), or
    /// `None` where the VMM may hold no such fd.
    pub fn of_link(fd: i32, link: &str) -> Option<Self> {
        let disk = (DISK_BASE..DISK_BASE + MAX_DISKS as i32).contains(&fd);
        Some(match link {
            _ if disk && (link.starts_with('/') || link.starts_with("memfd:")) => Self::Disk,
            "/dev/null" => Self::Null,
            "anon_inode:kvm-vm" => Self::KvmVm,
            "anon_inode:[eventfd]" | "anon_inode:[eventpoll]" | "anon_inode:[timerfd]" => {
                Self::Event
            }
            _ if link.starts_with("anon_inode:kvm-vcpu:") => Self::KvmVcpu,
            _ if link.starts_with("pipe:[") => Self::Pipe,
            _ if link.starts_with("socket:[") => Self::Socket,
            _ => return None,
        })
    }
}

/// The fds below [`EVENT_BASE`] that a VMM with this configuration holds when it
/// says it is ready. From [`EVENT_BASE`] on, only [`FdKind::Event`] may stand.
pub fn expected(config: &VmConfig) -> BTreeMap<i32, FdKind> {
    let mut fds = BTreeMap::from([
        (NULL, FdKind::Null),
        (CONSOLE, FdKind::Pipe),
        (LOG, FdKind::Pipe),
        (CONTROL, FdKind::Socket),
        (VM, FdKind::KvmVm),
    ]);
    fds.extend((0..config.disks.len()).map(|n| (DISK_BASE + n as i32, FdKind::Disk)));
    fds.extend((0..config.streams.len()).map(|n| (STREAM_BASE + n as i32, FdKind::Socket)));
    fds.extend((0..config.vcpus as usize).map(|n| (VCPU_BASE + n as i32, FdKind::KvmVcpu)));
    fds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_do_not_meet() {
        const {
            assert!(VM < DISK_BASE);
            assert!(DISK_BASE + MAX_DISKS as i32 <= STREAM_BASE);
            assert!(STREAM_BASE + MAX_STREAMS as i32 <= VCPU_BASE);
            assert!(VCPU_BASE + MAX_VCPUS as i32 <= EVENT_BASE);
        }
    }

    #[test]
    fn a_path_is_only_expected_where_a_disk_may_be() {
        assert_eq!(FdKind::of_link(16, "/images/a.ext4"), Some(FdKind::Disk));
        assert_eq!(FdKind::of_link(5, "/images/a.ext4"), None);
        assert_eq!(FdKind::of_link(70, "/"), None);
    }
}
