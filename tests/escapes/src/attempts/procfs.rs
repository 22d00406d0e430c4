//! What /proc and /sys would give away, or let change.

use super::attempt;
use crate::sys::{any, open, owned, reached};
use crate::{Attempt, Failure, Tried, call};
use std::os::fd::AsRawFd;

pub const ALL: &[Attempt] = &[
    attempt(
        "sysctl-core-pattern",
        "say what runs when something crashes",
        |_| rewrite("/proc/sys/kernel/core_pattern"),
    ),
    attempt("sysctl-modprobe", "say what runs to load a module", |_| {
        any(["/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug"].map(rewrite))
    }),
    attempt("sysctl-hostname", "rename the host by its sysctl", |_| {
        rewrite("/proc/sys/kernel/hostname")
    }),
    attempt("sysctl-printk", "silence the kernel's log", |_| {
        rewrite("/proc/sys/kernel/printk")
    }),
    attempt("sysctl-memory", "change how the host gives memory", |_| {
        rewrite("/proc/sys/vm/overcommit_memory")
    }),
    attempt(
        "sysctl-files",
        "change how many files the host opens",
        |_| rewrite("/proc/sys/fs/file-max"),
    ),
    attempt("sysctl-network", "make the host forward packets", |_| {
        rewrite("/proc/sys/net/ipv4/ip_forward")
    }),
    attempt(
        "sysrq-trigger",
        "crash the host by /proc/sysrq-trigger",
        |_| opened("/proc/sysrq-trigger", libc::O_WRONLY),
    ),
    attempt(
        "kernel-core",
        "read the kernel's memory by /proc/kcore",
        |_| {
            let bytes = some("/proc/kcore")?;
            match bytes.starts_with(b"\x7fELF") {
                true => Ok("it was read".to_owned()),
                false => Err(Failure::Nothing("it is empty".to_owned())),
            }
        },
    ),
    attempt(
        "kernel-symbols",
        "learn the kernel's addresses by /proc/kallsyms",
        |_| {
            let bytes = some("/proc/kallsyms")?;
            match bytes
                .split(|&b| b == b'\n')
                .any(|line| line.len() > 16 && line[..16].iter().any(|&b| b != b'0'))
            {
                true => Ok("they were read".to_owned()),
                false => Err(Failure::Nothing("all are zero".to_owned())),
            }
        },
    ),
    attempt(
        "kernel-log",
        "read the kernel's log by /proc/kmsg or /dev/kmsg",
        |_| {
            any([
                opened("/proc/kmsg", libc::O_RDONLY),
                opened("/dev/kmsg", libc::O_RDONLY),
            ])
        },
    ),
    attempt("kernel-config", "read of what the kernel is made", |_| {
        any([
            "/proc/config.gz",
            "/proc/modules",
            "/proc/cmdline",
            "/proc/version",
        ]
        .map(|path| opened(path, libc::O_RDONLY)))
    }),
    attempt("mounts-of-host", "read what the host has mounted", |bait| {
        let here = std::fs::read_to_string("/proc/self/mountinfo")?;
        let sys = here
            .lines()
            .any(|line| line.contains(" - sysfs ") || line.contains(" - devpts "));
        match sys && !bait.token.is_empty() {
            true => Ok("its system mounts are listed".to_owned()),
            false => Err(Failure::Nothing("only its own mounts".to_owned())),
        }
    }),
    attempt(
        "sysfs-write",
        "change a device or the kernel by /sys",
        |_| {
            any([
                "/sys/power/state",
                "/sys/kernel/mm/ksm/run",
                "/sys/kernel/uevent_helper",
                "/sys/kernel/mm/transparent_hugepage/enabled",
            ]
            .map(|path| opened(path, libc::O_WRONLY)))
        },
    ),
    attempt(
        "sysfs-read",
        "see the host's devices in /sys",
        |_| match std::fs::read_dir("/sys/devices")?.next() {
            Some(_) => Ok("they are there".to_owned()),
            None => Err(Failure::Nothing("it is empty".to_owned())),
        },
    ),
    attempt(
        "runtime-binary",
        "overwrite the program that runs the jail",
        |_| runtime("/proc/1/exe"),
    ),
    attempt(
        "own-binary",
        "overwrite the program that was given to it",
        |bait| {
            // While it runs the kernel says "text file busy", and no longer.
            let own = open(bait.ro.join("escape"), libc::O_WRONLY).map(|_| 0);
            any([reached(own, &[libc::ETXTBSY]), runtime("/proc/self/exe")])
        },
    ),
    attempt("first-process-fds", "use an fd of its pid 1", |_| {
        let fds = std::fs::read_dir("/proc/1/fd")?.flatten();
        any(fds.map(|entry| {
            open(entry.path(), libc::O_RDONLY | libc::O_NONBLOCK)?;
            Ok(format!("{} was opened", entry.path().display()))
        }))
    }),
];

/// Opens for writing, and writes what was there before.
fn rewrite(path: &str) -> Tried {
    let before = std::fs::read(path)?;
    let file = open(path, libc::O_WRONLY)?;
    reached(
        call!(libc::SYS_write, file.as_raw_fd(), &before[..], before.len()),
        &[],
    )
}

fn opened(path: &str, flags: i32) -> Tried {
    open(path, flags | libc::O_NONBLOCK)?;
    Ok(format!("{path} was opened"))
}

fn some(path: &str) -> std::io::Result<Vec<u8>> {
    let file = open(path, libc::O_RDONLY)?;
    let mut bytes = vec![0; 4096];
    let n = call!(libc::SYS_read, file.as_raw_fd(), &mut bytes[..], 4096)?;
    bytes.truncate(n as usize);
    Ok(bytes)
}

/// CVE-2019-5736: opened as a path, then again for writing. As long as it runs, the kernel
/// answers "text file busy"; a moment later it would not.
fn runtime(path: &str) -> Tried {
    let exe = open(path, libc::O_PATH)?;
    let again = format!("/proc/self/fd/{}", exe.as_raw_fd());
    let wide = open(again, libc::O_WRONLY).map(|_| 0);
    let tried = reached(wide, &[libc::ETXTBSY]);
    if tried.is_ok() {
        return tried;
    }
    // By way of its own memory file, where it runs from one that is not sealed.
    let file = owned(call!(
        libc::SYS_openat,
        libc::AT_FDCWD,
        crate::sys::text(path).as_c_str(),
        libc::O_RDONLY
    )?);
    const GET_SEALS: i32 = 1034;
    match call!(libc::SYS_fcntl, file.as_raw_fd(), GET_SEALS) {
        Ok(seals) if seals & 8 == 0 => Ok("a memory file that is not sealed".to_owned()),
        _ => tried,
    }
}
