//! What a compiled policy decides, call by call.

use casemate_policy_compiler::{
    AUDIT_ARCH_I386, AUDIT_ARCH_X86_64, Call, Compiled, Verdict, compile, decide,
};

/// `__X32_SYSCALL_BIT` of `<asm/unistd.h>`.
const X32: u32 = 0x4000_0000;

const POLICY: &str = r#"
own = ["vcpu"]

[[rule]]
syscall = "exit"
why = "w"

[[rule]]
syscall = "ioctl"
fd = ["vm", "vcpu"]
args = { cmd = ["KVM_RUN", "KVM_SET_MSRS"] }
why = "w"

[[rule]]
syscall = "pread64"
fd = "disk"
why = "w"

[[rule]]
syscall = "mprotect"
args = { prot = { only = "PROT_READ|PROT_WRITE" } }
why = "w"

[[rule]]
syscall = "recvmsg"
args = { flags = { none-of = "MSG_PEEK|MSG_TRUNC" } }
why = "w"

[[rule]]
syscall = "statx"
args = { flags = { all-of = "AT_EMPTY_PATH" } }
why = "w"

[[rule]]
syscall = "clone3"
errno = "ENOSYS"
why = "w"

[[rule]]
syscall = "openat"
errno = "ENOENT"
why = "w"

[[rule]]
syscall = "socket"
why = "w"

[[rule]]
syscall = "socket"
args = { domain = "AF_UNIX" }
errno = "EAFNOSUPPORT"
why = "w"
"#;

fn compiled() -> Compiled {
    compile("p.toml", &|_: &str| Ok(POLICY.to_owned())).unwrap()
}

fn ask(number: i64, args: [u64; 3]) -> Verdict {
    let mut all = [0; 6];
    all[..3].copy_from_slice(&args);
    let call = Call {
        number: number as u32,
        arch: AUDIT_ARCH_X86_64,
        args: all,
    };
    decide(&compiled().program, &call)
}

#[test]
fn what_is_not_named_kills() {
    assert_eq!(ask(libc::SYS_exit, [0; 3]), Verdict::Allow);
    assert_eq!(ask(libc::SYS_exit_group, [0; 3]), Verdict::KillProcess);
    assert_eq!(ask(libc::SYS_execve, [0; 3]), Verdict::KillProcess);
}

#[test]
fn other_ways_into_the_kernel_kill() {
    let program = compiled().program;
    for number in 0..600 {
        let mut call = Call {
            number: number | X32,
            arch: AUDIT_ARCH_X86_64,
            args: [0; 6],
        };
        assert_eq!(
            decide(&program, &call),
            Verdict::KillProcess,
            "x32 {number}"
        );
        call.number = number;
        call.arch = AUDIT_ARCH_I386;
        assert_eq!(
            decide(&program, &call),
            Verdict::KillProcess,
            "i386 {number}"
        );
    }
}

#[test]
fn alternatives_and_fds_are_exact() {
    let run = 0xae80;
    assert_eq!(ask(libc::SYS_ioctl, [7, run, 0]), Verdict::Allow);
    assert_eq!(ask(libc::SYS_ioctl, [7, 0x4008_ae89, 5]), Verdict::Allow);
    assert_eq!(ask(libc::SYS_ioctl, [8, run, 0]), Verdict::KillProcess);
    assert_eq!(ask(libc::SYS_ioctl, [7, 0xae81, 0]), Verdict::KillProcess);
    // The kernel looks at 32 bits of these: so does the filter.
    let high = 1 << 32;
    assert_eq!(
        ask(libc::SYS_ioctl, [high | 7, high | run, 0]),
        Verdict::Allow
    );
    for (fd, verdict) in [
        (15, Verdict::KillProcess),
        (16, Verdict::Allow),
        (23, Verdict::Allow),
        (24, Verdict::KillProcess),
        (u64::MAX, Verdict::KillProcess),
    ] {
        assert_eq!(ask(libc::SYS_pread64, [fd, 0, 0]), verdict, "fd {fd}");
    }
}

#[test]
fn an_own_fd_is_none_until_it_is_bound() {
    let Compiled {
        mut program, holes, ..
    } = compiled();
    let call = |fd| Call {
        number: libc::SYS_ioctl as u32,
        arch: AUDIT_ARCH_X86_64,
        args: [fd, 0xae80, 0, 0, 0, 0],
    };
    for fd in 32..64 {
        assert_eq!(decide(&program, &call(fd)), Verdict::KillProcess);
    }
    assert_eq!(holes.len(), 2, "one for each ioctl");
    for hole in holes {
        program[hole.index].k = 40;
    }
    for fd in 32..64 {
        let verdict = decide(&program, &call(fd));
        assert_eq!(verdict == Verdict::Allow, fd == 40);
    }
}

#[test]
fn bits() {
    let mprotect = |prot| ask(libc::SYS_mprotect, [0, 4096, prot]);
    assert_eq!(mprotect(0), Verdict::Allow);
    assert_eq!(mprotect(3), Verdict::Allow);
    assert_eq!(mprotect(4), Verdict::KillProcess);
    assert_eq!(mprotect(7), Verdict::KillProcess);
    // The kernel takes a long here.
    assert_eq!(mprotect(3 | 1 << 32), Verdict::KillProcess);

    let recvmsg = |flags: i32| ask(libc::SYS_recvmsg, [3, 0, flags as u64]);
    assert_eq!(recvmsg(libc::MSG_DONTWAIT), Verdict::Allow);
    assert_eq!(recvmsg(libc::MSG_TRUNC), Verdict::KillProcess);
    assert_eq!(
        recvmsg(libc::MSG_PEEK | libc::MSG_DONTWAIT),
        Verdict::KillProcess
    );

    let statx = |flags: i32| ask(libc::SYS_statx, [3, 0, flags as u64]);
    assert_eq!(statx(0), Verdict::KillProcess);
    assert_eq!(statx(libc::AT_EMPTY_PATH | 0x2000), Verdict::Allow);
}

#[test]
fn errnos_come_before_what_is_allowed() {
    let errno = |number: i32| Verdict::Errno(number as u16);
    assert_eq!(ask(libc::SYS_clone3, [0; 3]), errno(libc::ENOSYS));
    assert_eq!(ask(libc::SYS_openat, [0; 3]), errno(libc::ENOENT));
    let socket = |domain: i32| ask(libc::SYS_socket, [domain as u64, 0, 0]);
    assert_eq!(socket(libc::AF_UNIX), errno(libc::EAFNOSUPPORT));
    assert_eq!(socket(libc::AF_INET), Verdict::Allow);
}
