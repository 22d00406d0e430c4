//! A stand-in for the VMM in the jailer's own tests: it speaks the supervisor's protocol,
//! holds the fds a VMM holds, and does what the words on its kernel command line say.
//!
//! `no-filter`: installs no filter. `leak`: opens one fd too many. `mute`: never ready.
//! `exit`: exits before it is ready. `junk`, `twice`, `fds`: breaks the protocol.
//! After the go, `end-reset`: says that the guest reset; `end-lingers`: the same, but does
//! not end; `sigsys`: calls what its filter kills for; `crash`: faults; `allocate`: takes
//! memory without end; `fork`: makes threads without end; `dump`: writes to the log what it
//! can still do. Otherwise it sleeps.

use casemate_proto::control::{Ended, FromVmm, Ready, ToVmm};
use casemate_proto::fds::{CONTROL, INITRD, KERNEL, KVM, VCPU_BASE, VM};
use casemate_proto::seqpacket;
use std::fs::File;
use std::io::Write;
use std::os::fd::{BorrowedFd, FromRawFd};
use std::time::Duration;

const KVM_CREATE_VM: u64 = 0xae01;
const KVM_CREATE_VCPU: u64 = 0xae41;

fn main() {
    let entered_us = casemate_jailer::clock::now_us();
    // SAFETY: the jailer placed it, and it stays open to the end.
    let control = unsafe { BorrowedFd::borrow_raw(CONTROL) };
    let (message, _) = seqpacket::recv::<ToVmm>(control)
        .expect("control")
        .expect("a configuration");
    let ToVmm::Configure(config) = message else {
        panic!("not a configuration");
    };
    let words: Vec<&str> = config.cmdline.split(' ').collect();
    let told = |word: &str| words.contains(&word);

    make_vm(config.vcpus, config.initrd);
    let filter = !told("no-filter") && !std::env::args().any(|a| a == "--leave-out=seccomp");
    if filter {
        install_filter();
    }
    std::thread::Builder::new()
        .name("vcpu0".to_owned())
        .spawn(|| {
            loop {
                std::thread::sleep(Duration::from_secs(3600));
            }
        })
        .expect("a thread");
    if told("leak") {
        // SAFETY: plain dup; the copy is meant to leak.
        unsafe { libc::dup(CONTROL) };
    }
    let say = |message: &FromVmm| {
        let _ = seqpacket::send(control, message, &[]);
    };
    if told("mute") {
        sleep();
    }
    if told("exit") {
        std::process::exit(3);
    }
    if told("junk") {
        let _ = seqpacket::send(control, &"junk", &[]);
        sleep();
    }
    let ready = FromVmm::Ready(Ready {
        threads: vec!["main".to_owned(), "vcpu0".to_owned()],
        guest_memory: Vec::new(),
        entered_us,
        ready_us: casemate_jailer::clock::now_us(),
    });
    if told("fds") {
        let _ = seqpacket::send(control, &ready, &[control]);
        sleep();
    }
    say(&ready);
    match seqpacket::recv::<ToVmm>(control) {
        Ok(Some((ToVmm::Go, _))) => {}
        other => panic!("no go: {other:?}"),
    }
    if told("twice") {
        say(&ready);
    } else if told("end-reset") {
        say(&FromVmm::Ended(Ended::Reset));
        return;
    } else if told("end-lingers") {
        say(&FromVmm::Ended(Ended::TripleFault));
    } else if told("sigsys") {
        // SAFETY: takes no memory; the filter kills the process for it.
        unsafe { libc::syscall(libc::SYS_swapoff, 0) };
    } else if told("crash") {
        // SAFETY: not sound at all, and meant to fault.
        unsafe { std::ptr::null_mut::<u8>().write_volatile(1) };
    } else if told("allocate") {
        let mut kept = Vec::new();
        loop {
            kept.push(vec![1u8; 1 << 20]);
        }
    } else if told("fork") {
        fork_without_end();
    } else if told("dump") {
        dump();
    }
    sleep();
}

fn sleep() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn make_vm(vcpus: u8, initrd: bool) {
    // SAFETY: ioctls without memory arguments on fds that the jailer placed; the numbers
    // moved to and closed are this program's own by the protocol.
    unsafe {
        let vm = libc::ioctl(KVM, KVM_CREATE_VM, 0);
        assert!(vm >= 0, "KVM_CREATE_VM");
        assert_eq!(libc::dup3(vm, VM, libc::O_CLOEXEC), VM);
        libc::close(vm);
        for n in 0..i32::from(vcpus) {
            let vcpu = libc::ioctl(VM, KVM_CREATE_VCPU, n);
            assert!(vcpu >= 0, "KVM_CREATE_VCPU");
            assert_eq!(
                libc::dup3(vcpu, VCPU_BASE + n, libc::O_CLOEXEC),
                VCPU_BASE + n
            );
            libc::close(vcpu);
        }
        libc::close(KVM);
        libc::close(KERNEL);
        if initrd {
            libc::close(INITRD);
        }
    }
}

/// A filter that allows all but swapoff(2).
fn install_filter() {
    let op = |code: u32, k: u32, jt, jf| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let mut program = [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            libc::SYS_swapoff as u32,
            0,
            1,
        ),
        op(libc::BPF_RET, libc::SECCOMP_RET_KILL_PROCESS, 0, 0),
        op(libc::BPF_RET, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: `filter` points to a program that outlives the call, which copies it.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const filter,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

fn fork_without_end() {
    let mut log = log();
    for made in 0.. {
        // SAFETY: a child that only sleeps; it is killed with the pid namespace.
        match unsafe { libc::fork() } {
            0 => sleep(),
            -1 => {
                let _ = writeln!(log, "forks {made}");
                return;
            }
            _ => {}
        }
    }
}

/// One line for each thing tried: `name ok` or `name ERRNO`.
fn dump() {
    let mut log = log();
    let mut line = |name: &str, result: std::io::Result<String>| {
        let text = result.unwrap_or_else(|e| format!("errno {}", e.raw_os_error().unwrap_or(0)));
        let _ = writeln!(log, "{name} {text}");
    };
    line("root", std::fs::read_dir("/").map(|_| "ok".to_owned()));
    line(
        "shadow",
        std::fs::read("/etc/shadow").map(|_| "ok".to_owned()),
    );
    line(
        "proc",
        std::fs::read("/proc/self/status").map(|_| "ok".to_owned()),
    );
    line("write", std::fs::write("/x", "").map(|()| "ok".to_owned()));
    let call = |result: i64| match result {
        -1 => Err(std::io::Error::last_os_error()),
        n => Ok(n.to_string()),
    };
    // SAFETY: none of these calls takes memory, or null where it would.
    unsafe {
        line("pid", call(libc::getpid().into()));
        line("session", call(libc::getsid(0).into()));
        line("umask", call(libc::umask(0o77).into()));
        line(
            "unshare-user",
            call(libc::unshare(libc::CLONE_NEWUSER).into()),
        );
        line("setuid", call(libc::setuid(0).into()));
        line("parent-death", {
            let mut signal = 0;
            libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut signal);
            Ok(signal.to_string())
        });
        line(
            "securebits",
            call(libc::prctl(libc::PR_GET_SECUREBITS).into()),
        );
        line(
            "session-keyring",
            call(libc::syscall(
                libc::SYS_keyctl,
                libc::KEYCTL_GET_KEYRING_ID,
                -3,
                0,
            )),
        );
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        let to = libc::sockaddr_in {
            sin_family: libc::AF_INET as u16,
            sin_port: 80u16.to_be(),
            sin_addr: libc::in_addr {
                s_addr: u32::from_ne_bytes([127, 0, 0, 1]),
            },
            sin_zero: [0; 8],
        };
        line(
            "connect",
            call(
                libc::connect(
                    socket,
                    (&raw const to).cast(),
                    std::mem::size_of_val(&to) as u32,
                )
                .into(),
            ),
        );
        let mut name = [0u8; 64];
        libc::gethostname(name.as_mut_ptr().cast(), name.len());
        let name = std::ffi::CStr::from_bytes_until_nul(&name).map(|n| n.to_string_lossy());
        line("hostname", Ok(name.unwrap_or_default().into_owned()));
        let blocked = (1..=64).filter(|&signal| {
            let mut mask = std::mem::zeroed();
            libc::sigprocmask(libc::SIG_SETMASK, std::ptr::null(), &raw mut mask);
            libc::sigismember(&raw const mask, signal) == 1
        });
        line("blocked-signals", Ok(blocked.count().to_string()));
        line("console-flags", call(libc::fcntl(1, libc::F_GETFL).into()));
    }
    line("done", Ok("ok".to_owned()));
}

fn log() -> File {
    // SAFETY: fd 2 is the log's, and this is the only owner.
    unsafe { File::from_raw_fd(2) }
}
