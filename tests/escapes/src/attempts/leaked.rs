//! Fds that the launcher left open.

use super::attempt;
use crate::sys::{any, openat, owned, reached, read, token};
use crate::{Attempt, Bait, Failure, Tried, call};
use std::os::fd::RawFd;

const KVM_CREATE_VM: u64 = 0xae01;
const KVM_GET_API_VERSION: u64 = 0xae00;

pub const ALL: &[Attempt] = &[
    attempt(
        "leaked-directory",
        "reach the host's files by a directory fd",
        |bait| from_root(bait, bait.leaked.directory),
    ),
    attempt(
        "leaked-path-directory",
        "the same, by one with O_PATH",
        |bait| from_root(bait, bait.leaked.path_directory),
    ),
    attempt(
        "leaked-path-file",
        "the same, by an O_PATH fd of the file",
        |bait| {
            let mut stat = [0; 256];
            call!(libc::SYS_fstat, bait.leaked.path_file, &mut stat[..])?;
            // st_ino of struct stat.
            let inode = u64::from_ne_bytes(stat[8..16].try_into().unwrap_or_default());
            match inode == bait.marker_inode {
                true => Ok("the host's inode is there".to_owned()),
                false => Err(Failure::Nothing("another file".to_owned())),
            }
        },
    ),
    attempt("leaked-file", "the same, by an open file", |bait| {
        let mut bytes = [0; 256];
        let n = call!(libc::SYS_pread64, bait.leaked.file, &mut bytes[..], 256, 0)?;
        token(bait, &bytes[..n as usize])
    }),
    attempt(
        "leaked-descriptors",
        "any directory or file among all fds",
        any_fd,
    ),
    attempt(
        "leaked-socket",
        "speak to the host over a connected socket",
        |bait| {
            let mut bytes = [0; 256];
            let flags = libc::MSG_DONTWAIT | libc::MSG_PEEK;
            let n = call!(
                libc::SYS_recvfrom,
                bait.leaked.socket,
                &mut bytes[..],
                256,
                flags,
                0,
                0
            )?;
            token(bait, &bytes[..n as usize])
        },
    ),
    attempt(
        "leaked-pidfd",
        "signal a host process by its pidfd",
        |bait| {
            reached(
                call!(
                    libc::SYS_pidfd_send_signal,
                    bait.leaked.pidfd,
                    libc::SIGURG,
                    0,
                    0
                ),
                &[],
            )
        },
    ),
    attempt(
        "leaked-pidfd-getfd",
        "take an fd of a host process by its pidfd",
        |bait| {
            let fd = owned(call!(libc::SYS_pidfd_getfd, bait.leaked.pidfd, bait.fd, 0)?);
            let mut bytes = [0; 256];
            let n = call!(
                libc::SYS_pread64,
                std::os::fd::AsRawFd::as_raw_fd(&fd),
                &mut bytes[..],
                256,
                0
            )?;
            token(bait, &bytes[..n as usize])
        },
    ),
    attempt(
        "leaked-mount-namespace",
        "enter the host's mount namespace by its fd",
        |bait| {
            call!(
                libc::SYS_setns,
                bait.leaked.mount_namespace,
                libc::CLONE_NEWNS
            )?;
            crate::sys::read_token(bait, &bait.marker)
        },
    ),
    attempt(
        "leaked-net-namespace",
        "enter the host's network namespace by its fd",
        |bait| {
            reached(
                call!(
                    libc::SYS_setns,
                    bait.leaked.net_namespace,
                    libc::CLONE_NEWNET
                ),
                &[],
            )
        },
    ),
    attempt(
        "leaked-namespace-held",
        "hold an fd of a namespace of the host's",
        |bait| {
            // NS_GET_NSTYPE asks for no right.
            reached(
                call!(libc::SYS_ioctl, bait.leaked.mount_namespace, 0xb703),
                &[],
            )
        },
    ),
    attempt("leaked-kvm", "make a VM on an fd of /dev/kvm", |bait| {
        if bait.leaked.kvm < 0 {
            return Err(Failure::Absent("no /dev/kvm".to_owned()));
        }
        any([
            reached(
                call!(libc::SYS_ioctl, bait.leaked.kvm, KVM_CREATE_VM, 0),
                &[],
            ),
            reached(
                call!(libc::SYS_ioctl, bait.leaked.kvm, KVM_GET_API_VERSION, 0),
                &[],
            ),
        ])
    }),
    attempt("kvm-by-path", "make a VM by /dev/kvm", |bait| {
        if bait.leaked.kvm < 0 {
            return Err(Failure::Absent("no /dev/kvm".to_owned()));
        }
        let kvm = crate::sys::open("/dev/kvm", libc::O_RDWR)?;
        let fd = std::os::fd::AsRawFd::as_raw_fd(&kvm);
        reached(call!(libc::SYS_ioctl, fd, KVM_CREATE_VM, 0), &[])
    }),
];

fn from_root(bait: &Bait, dir: RawFd) -> Tried {
    let down = bait.marker.strip_prefix("/").unwrap_or(&bait.marker);
    token(bait, &read(&openat(dir, down, libc::O_RDONLY)?)?)
}

/// Every fd from 3 on: a directory leads upwards, a file may be read.
fn any_fd(bait: &Bait) -> Tried {
    let down = bait.marker.strip_prefix("/").unwrap_or(&bait.marker);
    let path = std::path::PathBuf::from("../".repeat(32)).join(down);
    any((3..256).map(|fd| token(bait, &read(&openat(fd, &path, libc::O_RDONLY)?)?)))
}
