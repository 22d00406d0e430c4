//! One call in a child of its own, under a filter.

use casemate_policy_compiler::{Call, sock_filter};
use std::arch::asm;

/// How the child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The call returned this.
    Returned(i64),
    /// The call ended the child.
    Exited,
    /// A signal ended the child.
    Signal(i32),
}

/// A child that waits for longer than this is ended by SIGALRM.
pub const PATIENCE_US: i64 = 100_000;
/// What the child exits with where it cannot be confined.
const NOT_CONFINED: i32 = 77;
/// What it exits with where the call returned.
const RETURNED: i32 = 78;

/// Memory that parent and child share.
struct Shared(*mut i64);

impl Shared {
    fn new() -> Self {
        // SAFETY: a new mapping of one page, where the kernel likes.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(page, libc::MAP_FAILED);
        Self(page.cast())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: mapped above.
        unsafe { libc::munmap(self.0.cast(), 4096) };
    }
}

/// Makes `call` under `program`, in a child; one that `waits` is ended after a while.
pub fn make(program: &[sock_filter], call: &Call, waits: bool) -> End {
    let shared = Shared::new();
    // SAFETY: the child has this thread alone, allocates nothing, and ends in `confined`.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        // SAFETY: this is the child.
        0 => unsafe { confined(program, call, waits, shared.0) },
        pid => {
            let mut status = 0;
            // SAFETY: `status` outlives the call; `pid` is our child.
            assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
            if libc::WIFSIGNALED(status) {
                return End::Signal(libc::WTERMSIG(status));
            }
            match libc::WEXITSTATUS(status) {
                NOT_CONFINED => panic!("the filter was not installed"),
                // SAFETY: the child has written it, and is gone.
                RETURNED => End::Returned(unsafe { shared.0.read_volatile() }),
                _ => End::Exited,
            }
        }
    }
}

/// # Safety
/// For a child of fork: closes all fds, makes the call, ends the process.
unsafe fn confined(program: &[sock_filter], call: &Call, waits: bool, result: *mut i64) -> ! {
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        // The same layout: `struct sock_filter`.
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    let soon = libc::itimerval {
        it_interval: libc::timeval {
            tv_sec: 0,
            tv_usec: 0,
        },
        it_value: libc::timeval {
            tv_sec: 0,
            tv_usec: PATIENCE_US,
        },
    };
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a child of fork: what these calls change is its own; the pointers outlive them.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &none);
        libc::setpgid(0, 0);
        // Not Rust's handler, which makes calls.
        libc::signal(libc::SIGSEGV, libc::SIG_DFL);
        libc::close_range(0, u32::MAX, 0);
        if waits {
            libc::setitimer(libc::ITIMER_REAL, &soon, std::ptr::null_mut());
        }
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        let installed = libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const filter,
        );
        if installed != 0 {
            libc::_exit(NOT_CONFINED);
        }
        // From here on no function is called: another process or thread may come out of the
        // call on the same stack, and thread-local storage may be gone. A child of the call
        // ends at once; in the caller the result is written down and the process ends, by
        // exit_group. Without a stack, so that rt_sigreturn finds no frame.
        asm!(
            "xor esp, esp",
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "cmp r12d, 56",
            "je 3f",
            "cmp r12d, 57",
            "je 3f",
            "cmp r12d, 58",
            "je 3f",
            "2:",
            "mov [r13], rax",
            "mov edi, 78",
            "jmp 4f",
            "3:",
            "xor edi, edi",
            "4:",
            "mov eax, 231",
            "cmp edi, 0",
            "jne 5f",
            // A thread ends alone.
            "mov eax, 60",
            "5:",
            "syscall",
            "ud2",
            in("rax") u64::from(call.number),
            in("rdi") call.args[0],
            in("rsi") call.args[1],
            in("rdx") call.args[2],
            in("r10") call.args[3],
            in("r8") call.args[4],
            in("r9") call.args[5],
            in("r12") u64::from(call.number),
            in("r13") result,
            options(noreturn),
        )
    }
}
