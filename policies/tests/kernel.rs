//! The filters in the kernel: children install them and make calls.

use casemate_policies::{Filter, Role, ThreadClass, filter};
use casemate_proto::fds;
use std::panic::{AssertUnwindSafe, catch_unwind};

const KVM_RUN: libc::c_ulong = 0xae80;
const KVM_GET_REGS: libc::c_ulong = 0x8090_ae81;

#[derive(Debug, PartialEq, Eq)]
enum End {
    Exit(i32),
    Signal(i32),
}

const KILLED: End = End::Signal(libc::SIGSYS);
const DONE: End = End::Exit(0);

/// Runs `work` in a child that can gain no privileges; how the child ended.
fn in_child(work: impl FnOnce()) -> End {
    // SAFETY: the child has this thread alone; glibc makes malloc usable there, and
    // nothing else that other threads may hold is used.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            no_core_dump();
            // SAFETY: takes no pointers.
            unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
            let code = i32::from(catch_unwind(AssertUnwindSafe(work)).is_err());
            // SAFETY: ends the child without running the harness's exit handlers.
            unsafe { libc::_exit(code) }
        }
        pid => {
            let mut status = 0;
            // SAFETY: `status` outlives the call; `pid` is our child.
            assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
            match libc::WIFSIGNALED(status) {
                true => End::Signal(libc::WTERMSIG(status)),
                false => End::Exit(libc::WEXITSTATUS(status)),
            }
        }
    }
}

fn no_core_dump() {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `none` outlives the call.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) };
}

/// The filter of a class, bound to the first fds.
fn bound(class: ThreadClass) -> Filter {
    match class {
        ThreadClass::Vcpu => filter(class).bind(Role::Vcpu, fds::VCPU_BASE),
        ThreadClass::Block => filter(class).bind(Role::Disk, fds::DISK_BASE),
        _ => filter(class),
    }
}

/// Puts `/dev/null` at `fd`.
fn null_at(fd: i32) {
    // SAFETY: a literal path; fds of this child only.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        assert_ne!(libc::dup2(null, fd), -1);
    }
}

fn call(number: i64, args: [u64; 3]) -> i64 {
    // SAFETY: the tests' calls pass no pointers, or null ones.
    unsafe { libc::syscall(number, args[0], args[1], args[2]) }
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

#[test]
fn every_class_kills_what_it_does_not_name() {
    for class in ThreadClass::ALL {
        for number in [
            libc::SYS_socket,
            libc::SYS_execve,
            libc::SYS_fork,
            libc::SYS_ptrace,
            libc::SYS_open,
            libc::SYS_kill,
            libc::SYS_unshare,
            libc::SYS_io_uring_setup,
            libc::SYS_bpf,
            libc::SYS_getuid,
        ] {
            let end = in_child(|| {
                bound(class).install().unwrap();
                call(number, [0; 3]);
            });
            assert_eq!(end, KILLED, "{class}: syscall {number}");
        }
    }
}

#[test]
fn every_class_aborts_as_rust_does() {
    for class in ThreadClass::ALL {
        let aborts = in_child(|| {
            bound(class).install().unwrap();
            std::process::abort();
        });
        assert_eq!(aborts, End::Signal(libc::SIGABRT), "{class}");
    }
}

#[test]
fn no_memory_becomes_executable() {
    for class in ThreadClass::ALL {
        for prot in [libc::PROT_EXEC, libc::PROT_READ | libc::PROT_EXEC] {
            let mapped = in_child(|| {
                bound(class).install().unwrap();
                // SAFETY: a new mapping, where the kernel likes.
                unsafe {
                    libc::mmap(
                        std::ptr::null_mut(),
                        4096,
                        prot,
                        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                        -1,
                        0,
                    )
                };
            });
            assert_eq!(mapped, KILLED, "{class}");
            let protected = in_child(|| {
                bound(class).install().unwrap();
                call(libc::SYS_mprotect, [0, 0, prot as u64]);
            });
            assert_eq!(protected, KILLED, "{class}");
        }
    }
}

#[test]
fn a_vcpu_runs_its_own_vcpu_only() {
    let ioctl = |fd: i32, cmd: libc::c_ulong| {
        in_child(|| {
            null_at(fd);
            bound(ThreadClass::Vcpu).install().unwrap();
            assert_eq!(call(libc::SYS_ioctl, [fd as u64, cmd, 0]), -1);
            assert_eq!(errno(), libc::ENOTTY, "the kernel looked at the fd");
        })
    };
    assert_eq!(ioctl(fds::VCPU_BASE, KVM_RUN), DONE);
    assert_eq!(ioctl(fds::VCPU_BASE + 1, KVM_RUN), KILLED);
    assert_eq!(ioctl(fds::VM, KVM_RUN), KILLED);
    assert_eq!(ioctl(fds::VCPU_BASE, KVM_GET_REGS), KILLED);
    assert_eq!(ioctl(fds::VCPU_BASE, libc::TIOCSTI), KILLED);
}

#[test]
fn a_block_worker_has_its_own_disk_only() {
    let preadv = |fd: i32| {
        in_child(|| {
            null_at(fd);
            bound(ThreadClass::Block).install().unwrap();
            assert_eq!(call(libc::SYS_preadv, [fd as u64, 0, 0]), 0);
        })
    };
    assert_eq!(preadv(fds::DISK_BASE), DONE);
    assert_eq!(preadv(fds::DISK_BASE + 1), KILLED);
    assert_eq!(preadv(fds::CONTROL), KILLED);
}

#[test]
fn setup_makes_threads_that_confine_themselves() {
    let end = in_child(|| {
        null_at(fds::VCPU_BASE);
        filter(ThreadClass::Setup).install().unwrap();
        let vcpu = std::thread::Builder::new().name("vcpu0".into()).spawn(|| {
            bound(ThreadClass::Vcpu).install().unwrap();
            call(libc::SYS_ioctl, [fds::VCPU_BASE as u64, KVM_RUN, 0]);
        });
        vcpu.unwrap().join().unwrap();
        // The vCPU's filter was for its thread alone.
        // SAFETY: takes no pointers.
        assert_ne!(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }, -1);
    });
    assert_eq!(end, DONE);
}

#[test]
fn setup_makes_no_processes_and_no_namespaces() {
    let clone = |flags: i32| {
        in_child(|| {
            filter(ThreadClass::Setup).install().unwrap();
            call(libc::SYS_clone, [flags as u64, 0, 0]);
        })
    };
    assert_eq!(clone(libc::SIGCHLD), KILLED);
    assert_eq!(clone(libc::CLONE_NEWUSER | libc::SIGCHLD), KILLED);
    assert_eq!(clone(libc::CLONE_VM | libc::CLONE_THREAD), KILLED);
    let clone3 = in_child(|| {
        filter(ThreadClass::Setup).install().unwrap();
        assert_eq!(call(libc::SYS_clone3, [0; 3]), -1);
        assert_eq!(errno(), libc::ENOSYS);
    });
    assert_eq!(clone3, DONE);
}

#[test]
fn a_filter_cannot_be_widened() {
    let end = in_child(|| {
        filter(ThreadClass::Entropy).install().unwrap();
        _ = filter(ThreadClass::Setup).install();
    });
    assert_eq!(end, KILLED);
}

#[test]
fn x32_and_int80_are_killed() {
    let x32 = in_child(|| {
        filter(ThreadClass::Setup).install().unwrap();
        call(libc::SYS_getpid | 0x4000_0000, [0; 3]);
    });
    assert_eq!(x32, KILLED);
    let int80 = || {
        // SAFETY: getpid (20 of i386) takes nothing; int 0x80 may clobber r8 to r11.
        unsafe {
            std::arch::asm!("int 0x80", inlateout("eax") 20 => _,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _)
        };
    };
    let end = in_child(|| {
        filter(ThreadClass::Setup).install().unwrap();
        int80();
    });
    // Where the kernel has no 32-bit calls at all, the instruction faults.
    let without = if in_child(int80) == DONE {
        KILLED
    } else {
        End::Signal(libc::SIGSEGV)
    };
    assert_eq!(end, without);
}

#[test]
fn no_filter_without_no_new_privs() {
    // This process has not given up privileges; install() refuses before it confines.
    let error = filter(ThreadClass::Entropy).install().unwrap_err();
    assert!(error.to_string().contains("no_new_privs is off"), "{error}");
}
