//! Processes of the host's.

use super::attempt;
use crate::sys::{any, owned, reached, token, words};
use crate::{Attempt, Bait, Failure, Tried, call};
use std::os::fd::AsRawFd;

const PTRACE_SEIZE: i32 = 0x4206;

pub const ALL: &[Attempt] = &[
    attempt("signal-host", "signal a process of the host's", |bait| {
        reached(call!(libc::SYS_kill, bait.pid, libc::SIGURG), &[])
    }),
    attempt("signal-host-thread", "the same, by tgkill", |bait| {
        reached(
            call!(libc::SYS_tgkill, bait.pid, bait.pid, libc::SIGURG),
            &[],
        )
    }),
    attempt(
        "learn-of-host-process",
        "learn that a process of the host's exists",
        |bait| reached(call!(libc::SYS_kill, bait.pid, 0), &[libc::EPERM]),
    ),
    attempt(
        "list-host-processes",
        "see a process of the host's in /proc",
        |bait| {
            let line = std::fs::read(format!("/proc/{}/cmdline", bait.pid))?;
            match line.windows(6).any(|word| word == b"victim") {
                true => Ok("its command line was read".to_owned()),
                false => Err(Failure::Nothing("another process".to_owned())),
            }
        },
    ),
    attempt("ptrace-host", "trace a process of the host's", |bait| {
        reached(call!(libc::SYS_ptrace, PTRACE_SEIZE, bait.pid, 0, 0), &[])
    }),
    attempt(
        "read-host-memory",
        "process_vm_readv of a process of the host's",
        |bait| read_memory(bait, bait.pid, bait.address),
    ),
    attempt(
        "write-host-memory",
        "process_vm_writev to a process of the host's",
        write_memory,
    ),
    attempt(
        "read-host-proc-mem",
        "read /proc/PID/mem of a process of the host's",
        |bait| {
            let file = crate::sys::open(format!("/proc/{}/mem", bait.pid), libc::O_RDONLY)?;
            let mut bytes = vec![0; bait.token.len()];
            let len = bytes.len();
            call!(
                libc::SYS_pread64,
                file.as_raw_fd(),
                &mut bytes[..],
                len,
                bait.address
            )?;
            token(bait, &bytes)
        },
    ),
    attempt(
        "pidfd-open-host",
        "open a pidfd of a process of the host's",
        |bait| reached(call!(libc::SYS_pidfd_open, bait.pid, 0), &[]),
    ),
    attempt(
        "pidfd-getfd-host",
        "take an fd of a process of the host's",
        |bait| {
            let pidfd = owned(call!(libc::SYS_pidfd_open, bait.pid, 0)?);
            let fd = owned(call!(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), bait.fd, 0)?);
            let mut bytes = [0; 256];
            let n = call!(libc::SYS_pread64, fd.as_raw_fd(), &mut bytes[..], 256, 0)?;
            token(bait, &bytes[..n as usize])
        },
    ),
    attempt(
        "limit-host-process",
        "read the limits of a process of the host's",
        |bait| {
            let mut limit = [0; 16];
            reached(
                call!(libc::SYS_prlimit64, bait.pid, 7, 0, &mut limit[..]),
                &[],
            )
        },
    ),
    attempt(
        "renice-host-process",
        "change the priority of a process of the host's",
        |bait| reached(call!(libc::SYS_setpriority, 0, bait.pid, 1), &[]),
    ),
    attempt(
        "memory-of-first-process",
        "read the memory of its pid 1",
        |_| {
            let mut local = [0; 8];
            let local = words(&[local.as_mut_ptr() as u64, 8]);
            let remote = words(&[0x1000, 8]);
            // With an address that is not there: only the right to look is asked for.
            reached(
                call!(
                    libc::SYS_process_vm_readv,
                    1,
                    &local[..],
                    1,
                    &remote[..],
                    1,
                    0
                ),
                &[libc::EFAULT],
            )
        },
    ),
    attempt(
        "environment-of-first-process",
        "read the environment of its pid 1",
        |bait| crate::sys::read_token(bait, "/proc/1/environ"),
    ),
    attempt(
        "environment-of-launcher",
        "read the environment of the launcher",
        |bait| {
            any([bait.pid.to_string(), bait.launcher.to_string(), parent()]
                .map(|process| crate::sys::read_token(bait, format!("/proc/{process}/environ"))))
        },
    ),
];

fn parent() -> String {
    std::os::unix::process::parent_id().to_string()
}

fn read_memory(bait: &Bait, pid: i32, address: u64) -> Tried {
    let mut bytes = vec![0u8; bait.token.len()];
    let len = bytes.len() as u64;
    let local = words(&[bytes.as_mut_ptr() as u64, len]);
    let remote = words(&[address, len]);
    call!(
        libc::SYS_process_vm_readv,
        pid,
        &local[..],
        1,
        &remote[..],
        1,
        0
    )?;
    token(bait, std::hint::black_box(&bytes))
}

/// Writes what is there already.
fn write_memory(bait: &Bait) -> Tried {
    let len = bait.token.len() as u64;
    let local = words(&[bait.token.as_ptr() as u64, len]);
    let remote = words(&[bait.address, len]);
    let written = call!(
        libc::SYS_process_vm_writev,
        bait.pid,
        &local[..],
        1,
        &remote[..],
        1,
        0
    );
    reached(written, &[])
}
