//! System calls that open a wide door into the kernel, or change the whole host.

use super::attempt;
use crate::sys::{open, reached, text, words};
use crate::{Attempt, Failure, Tried, call};
use std::os::fd::AsRawFd;

pub const ALL: &[Attempt] = &[
    attempt("bpf", "make a BPF map", |_| {
        // BPF_MAP_CREATE of an array: type, key size, value size, entries.
        let mut attr = [0u8; 72];
        for (at, value) in [2u32, 4, 8, 1].into_iter().enumerate() {
            attr[at * 4..at * 4 + 4].copy_from_slice(&value.to_ne_bytes());
        }
        reached(call!(libc::SYS_bpf, 0, &attr[..], 72), &[])
    }),
    attempt("userfaultfd", "handle its own page faults", |_| {
        const USER_MODE_ONLY: i32 = 1;
        reached(call!(libc::SYS_userfaultfd, USER_MODE_ONLY), &[])
    }),
    attempt(
        "userfaultfd-kernel",
        "handle the kernel's page faults too",
        |_| reached(call!(libc::SYS_userfaultfd, 0), &[]),
    ),
    attempt("io-uring", "set up an io_uring", |_| {
        let mut parameters = [0; 120];
        reached(call!(libc::SYS_io_uring_setup, 8, &mut parameters[..]), &[])
    }),
    attempt("perf-event", "count events of its own", |_| perf(0, -1)),
    attempt("perf-event-cpu", "count events of a whole CPU", |_| {
        perf(-1, 0)
    }),
    attempt("kexec", "load another kernel", |_| {
        reached(
            call!(libc::SYS_kexec_load, 0, 0, 0, 0xffff),
            &[libc::EINVAL],
        )
    }),
    attempt("kexec-file", "load another kernel from a file", |_| {
        let passed = [libc::EINVAL, libc::EBADF];
        reached(
            call!(libc::SYS_kexec_file_load, -1, -1, 0, c"", 0xffff),
            &passed,
        )
    }),
    attempt("init-module", "load a kernel module from memory", |_| {
        module(call!(libc::SYS_init_module, &b"no module"[..], 9, c""))
    }),
    attempt("finit-module", "load a kernel module from a file", |bait| {
        let file = open(bait.ro.join("open"), libc::O_RDONLY)?;
        module(call!(libc::SYS_finit_module, file.as_raw_fd(), c"", 0))
    }),
    attempt("delete-module", "unload a kernel module", |_| {
        module(call!(
            libc::SYS_delete_module,
            c"casemate_no_such_module",
            0
        ))
    }),
    attempt("x32", "make a system call of the x32 ABI", |_| {
        const X32: i64 = 0x4000_0000;
        match call!(X32 + libc::SYS_getpid) {
            Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => {
                // A kernel without the ABI answers so, and so may a filter.
                Err(Failure::Errno(libc::ENOSYS))
            }
            other => reached(other, &[]),
        }
    }),
    attempt("int80", "make a 32-bit system call by int 0x80", int80),
    attempt("personality-aslr", "turn address randomisation off", |_| {
        const ADDR_NO_RANDOMIZE: u64 = 0x004_0000;
        reached(call!(libc::SYS_personality, ADDR_NO_RANDOMIZE), &[])
    }),
    attempt(
        "personality-exec",
        "make readable memory executable",
        |_| {
            const READ_IMPLIES_EXEC: u64 = 0x040_0000;
            reached(call!(libc::SYS_personality, READ_IMPLIES_EXEC), &[])
        },
    ),
    attempt("swapon", "swap to a file", |_| {
        reached(
            call!(libc::SYS_swapon, c"/casemate-no-such-file", 0),
            &[libc::ENOENT],
        )
    }),
    attempt("swapoff", "end swapping", |_| {
        reached(
            call!(libc::SYS_swapoff, c"/casemate-no-such-file"),
            &[libc::ENOENT],
        )
    }),
    attempt("quotactl", "work with disk quotas", |_| {
        const Q_SYNC: u32 = 0x80_0001 << 8;
        reached(call!(libc::SYS_quotactl, Q_SYNC, 0, 0, 0), &[])
    }),
    attempt("syslog", "read the kernel's log", |_| {
        const READ_ALL: i32 = 3;
        let mut bytes = vec![0; 4096];
        reached(call!(libc::SYS_syslog, READ_ALL, &mut bytes[..], 4096), &[])
    }),
    attempt("reboot", "reboot the host", |_| {
        // A wrong magic number: only whoever may reboot is told so.
        reached(call!(libc::SYS_reboot, 1, 2, 3, 0), &[libc::EINVAL])
    }),
    attempt("settimeofday", "set the host's time zone", |_| {
        let mut zone = [0; 8];
        call!(libc::SYS_gettimeofday, 0, &mut zone[..])?;
        reached(call!(libc::SYS_settimeofday, 0, &zone[..]), &[])
    }),
    attempt("clock-settime", "set the host's clock", |_| {
        let mut now = [0; 16];
        call!(libc::SYS_clock_gettime, 0, &mut now[..])?;
        reached(call!(libc::SYS_clock_settime, 0, &now[..]), &[])
    }),
    attempt("adjtimex", "steer the host's clock", |_| {
        // struct timex: modes, then longs; ADJ_TICK sets the tick to what it is.
        let mut timex = [0; 208];
        call!(libc::SYS_adjtimex, &mut timex[..])?;
        timex[..4].copy_from_slice(&0x4000_u32.to_ne_bytes());
        reached(call!(libc::SYS_adjtimex, &mut timex[..]), &[])
    }),
    attempt("acct", "account for every process of the host's", |_| {
        reached(
            call!(libc::SYS_acct, c"/casemate-no-such-file"),
            &[libc::ENOENT],
        )
    }),
    attempt("iopl", "reach the host's I/O ports", |_| {
        reached(call!(libc::SYS_iopl, 3), &[])
    }),
    attempt("ioperm", "reach one of the host's I/O ports", |_| {
        reached(call!(libc::SYS_ioperm, 0x80, 1, 1), &[])
    }),
    attempt("modify-ldt", "change its segments", |_| {
        let mut table = [0; 64];
        reached(call!(libc::SYS_modify_ldt, 0, &mut table[..], 64), &[])
    }),
    attempt("sethostname", "rename the host", |_| {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or("x".to_owned());
        let name = text(name.trim());
        let len = name.as_bytes().len();
        reached(call!(libc::SYS_sethostname, name.as_c_str(), len), &[])
    }),
    attempt("fanotify", "watch a whole file system", |_| {
        reached(call!(libc::SYS_fanotify_init, 0, 0), &[])
    }),
    attempt("seccomp-listener", "supervise system calls", |_| {
        // A filter that allows everything, with a listener; for a child's sake.
        crate::sys::in_child(|| listener().map_or_else(|e| e.raw_os_error().unwrap_or(1), |()| 0))
            .map_err(Failure::from)
            .and_then(child)
    }),
    attempt("ptrace-child", "trace a child of its own", |_| {
        crate::sys::in_child(|| {
            call!(libc::SYS_ptrace, 0, 0, 0, 0)
                .map_or_else(|e| e.raw_os_error().unwrap_or(1), |_| 0)
        })
        .map_err(Failure::from)
        .and_then(child)
    }),
    attempt("memfd-secret", "hide memory from the kernel", |_| {
        reached(call!(libc::SYS_memfd_secret, 0), &[])
    }),
];

/// What a child's exit status, an errno, says.
fn child(status: i32) -> Tried {
    match (libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
        (true, 0) => Ok("the call was made".to_owned()),
        (true, errno) => Err(Failure::Errno(errno)),
        _ => Err(Failure::Nothing(format!(
            "killed by signal {}",
            libc::WTERMSIG(status)
        ))),
    }
}

fn module(result: std::io::Result<i64>) -> Tried {
    match result {
        Err(e)
            if e.raw_os_error() == Some(libc::ENOSYS)
                && !std::path::Path::new("/proc/modules").exists() =>
        {
            Err(Failure::Errno(libc::ENOSYS))
        }
        other => reached(other, &[libc::ENOEXEC, libc::ENOENT, libc::EINVAL]),
    }
}

fn perf(pid: i32, cpu: i32) -> Tried {
    // PERF_TYPE_SOFTWARE, size, PERF_COUNT_SW_DUMMY.
    let mut attr = [0u8; 128];
    attr[..4].copy_from_slice(&1u32.to_ne_bytes());
    attr[4..8].copy_from_slice(&128u32.to_ne_bytes());
    attr[8..16].copy_from_slice(&9u64.to_ne_bytes());
    reached(
        call!(libc::SYS_perf_event_open, &attr[..], pid, cpu, -1, 0),
        &[],
    )
}

fn listener() -> std::io::Result<()> {
    // BPF_RET | BPF_K with SECCOMP_RET_ALLOW.
    let program = words(&[0x7fff_0000_0000_0006]);
    let filter = words(&[1, program.as_ptr() as u64]);
    call!(libc::SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)?;
    const SET_MODE_FILTER: i32 = 1;
    const NEW_LISTENER: i32 = 1 << 3;
    call!(
        libc::SYS_seccomp,
        SET_MODE_FILTER,
        NEW_LISTENER,
        &filter[..]
    )
    .map(drop)
}

/// getpid(2) as i386 numbers it. What comes back is this process' number, or an errno.
fn int80(_: &crate::Bait) -> Tried {
    let mut result: i64 = 20;
    // SAFETY: getpid takes no arguments; the kernel keeps all other registers, but may
    // clear r8 to r11.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inlateout("rax") result,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    match result as i32 {
        pid if pid > 0 => Ok("the call was made".to_owned()),
        errno => Err(Failure::Errno(-errno)),
    }
}
