//! Filters that tell instead of killing (seccomp_unotify(2)): for people who write policies.
//!
//! [`reporting`] turns a filter into one that asks a listener wherever the filter would kill;
//! [`everything`] asks about every call. The process under it installs it with
//! [`install_with_listener`] and its parent takes the listener over with [`Listener::adopt`].

use casemate_policy::{Filter, Instruction};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;

/// What `/proc/PID/fd/N` of a listener links to.
const LISTENER: &str = "anon_inode:seccomp notify";

/// The filter, asking its listener where it would kill.
pub fn reporting(filter: &Filter) -> Filter {
    let told = |instruction: &Instruction| match (instruction.code, instruction.k) {
        (RETURN, libc::SECCOMP_RET_KILL_PROCESS) => Instruction {
            k: libc::SECCOMP_RET_USER_NOTIF,
            ..*instruction
        },
        _ => *instruction,
    };
    Filter {
        program: filter.program.iter().map(told).collect(),
    }
}

/// Whether the filter asks a listener about some call.
pub fn asks(filter: &Filter) -> bool {
    let asks = |i: &Instruction| i.code == RETURN && i.k == libc::SECCOMP_RET_USER_NOTIF;
    filter.program.iter().any(asks)
}

/// A filter that asks about every call.
pub fn everything() -> Filter {
    Filter {
        program: vec![Instruction {
            code: RETURN,
            jt: 0,
            jf: 0,
            k: libc::SECCOMP_RET_USER_NOTIF,
        }]
        .into(),
    }
}

/// Confines the calling thread; the number of the listener's fd. Makes two system calls and
/// allocates nothing, so that it can be used between fork and exec.
///
/// # Errors
/// Those of the calls.
pub fn install_with_listener(filter: &Filter) -> io::Result<RawFd> {
    let program = libc::sock_fprog {
        len: filter.program.len() as u16,
        filter: filter
            .program
            .as_ptr()
            .cast::<libc::sock_filter>()
            .cast_mut(),
    };
    // SAFETY: takes no pointers; unused arguments must be 0.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `program` points to as many instructions as it says, of the layout of
    // `struct sock_filter`; the kernel copies them and writes nothing.
    let listener = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    match listener {
        -1 => Err(io::Error::last_os_error()),
        fd => Ok(fd as RawFd),
    }
}

/// The end at which calls are told.
#[derive(Debug)]
pub struct Listener(OwnedFd);

/// A call that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    id: u64,
    /// The thread, as the listener's pid namespace numbers it.
    pub thread: i32,
    /// Number of the call.
    pub number: i64,
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// Its arguments.
    pub args: [u64; 6],
}

impl Told {
    /// The thread's name; empty where it is gone.
    pub fn name(&self) -> String {
        let comm = std::fs::read_to_string(format!("/proc/{}/comm", self.thread));
        comm.map_or_else(|_| String::new(), |name| name.trim_end().to_owned())
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Listener {
    /// Takes over the listener that process `pid` has, or is about to have, at `fd`.
    ///
    /// # Errors
    /// Those of pidfd_open(2) and pidfd_getfd(2); `NotFound` where the process ended first.
    pub fn adopt(pid: i32, fd: RawFd) -> io::Result<Self> {
        // SAFETY: takes no pointers; the answer is a new fd of ours.
        let pidfd = unsafe { owned(libc::syscall(libc::SYS_pidfd_open, pid, 0)) }?;
        loop {
            // SAFETY: as above.
            let copy = unsafe {
                owned(libc::syscall(
                    libc::SYS_pidfd_getfd,
                    pidfd.as_raw_fd(),
                    fd,
                    0,
                ))
            };
            match copy {
                Ok(copy) if is_listener(&copy) => return Ok(Self(copy)),
                Ok(_) => {}
                // Not there yet, or no process any more.
                Err(e) if e.raw_os_error() == Some(libc::EBADF) => {}
                Err(e) => return Err(e),
            }
            if wait(&pidfd, 1)? != 0 {
                return Err(io::ErrorKind::NotFound.into());
            }
        }
    }

    /// The listener that process `pid` has.
    ///
    /// # Errors
    /// `NotFound` where it has none, and those of the calls.
    pub fn of_process(pid: i32) -> io::Result<Self> {
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
            let entry = entry?;
            let link = std::fs::read_link(entry.path());
            if link.is_ok_and(|link| link.as_os_str() == LISTENER)
                && let Some(fd) = entry.file_name().to_str().and_then(|fd| fd.parse().ok())
            {
                return Self::adopt(pid, fd);
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    /// The next call if one waits; `Err(WouldBlock)` if none does, `None` as [`Self::next`].
    ///
    /// # Errors
    /// Those of the calls.
    pub fn try_next(&self) -> io::Result<Option<Told>> {
        match wait(&self.0, 0)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            _ => self.next(),
        }
    }

    /// Waits for the next call; `None` once nobody is left under the filter.
    ///
    /// # Errors
    /// Those of the calls.
    pub fn next(&self) -> io::Result<Option<Told>> {
        loop {
            if wait(&self.0, -1)? & libc::POLLIN == 0 {
                return Ok(None);
            }
            let mut told = MaybeUninit::<libc::seccomp_notif>::zeroed();
            // SAFETY: the kernel wants the structure zeroed, and writes one of that size.
            let answer = unsafe {
                libc::ioctl(
                    self.0.as_raw_fd(),
                    libc::SECCOMP_IOCTL_NOTIF_RECV,
                    told.as_mut_ptr(),
                )
            };
            if answer == 0 {
                // SAFETY: the kernel has filled it in; zeroes are valid, too.
                let told = unsafe { told.assume_init() };
                return Ok(Some(Told {
                    id: told.id,
                    thread: told.pid as i32,
                    number: told.data.nr.into(),
                    arch: told.data.arch,
                    args: told.data.args,
                }));
            }
            match io::Error::last_os_error() {
                // The caller was killed or interrupted while we were on our way.
                e if [Some(libc::ENOENT), Some(libc::EINTR)].contains(&e.raw_os_error()) => {}
                e => return Err(e),
            }
        }
    }

    /// Lets the kernel make the call. What pointers lead to may have changed since: this
    /// confines nobody.
    ///
    /// # Errors
    /// Those of the ioctl; a caller that is gone is none.
    pub fn proceed(&self, told: &Told) -> io::Result<()> {
        self.answer(told, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32)
    }

    /// The call is not made, and fails with `errno`.
    ///
    /// # Errors
    /// Those of the ioctl; a caller that is gone is none.
    pub fn refuse(&self, told: &Told, errno: i32) -> io::Result<()> {
        self.answer(told, -errno, 0)
    }

    fn answer(&self, told: &Told, error: i32, flags: u32) -> io::Result<()> {
        let mut answer = libc::seccomp_notif_resp {
            id: told.id,
            val: 0,
            error,
            flags,
        };
        // SAFETY: the structure outlives the call.
        let done = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_SEND,
                &raw mut answer,
            )
        };
        match (done, io::Error::last_os_error().raw_os_error()) {
            (0, _) | (_, Some(libc::ENOENT)) => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// # Safety
/// `answer` is that of a call that makes a new fd.
unsafe fn owned(answer: libc::c_long) -> io::Result<OwnedFd> {
    match answer {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: by the caller's word, nobody else has it.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }),
    }
}

fn is_listener(fd: &OwnedFd) -> bool {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    link.is_ok_and(|link| link.as_os_str() == LISTENER)
}

/// Waits so many milliseconds for something to be read, or for the end.
fn wait(fd: &OwnedFd, milliseconds: i32) -> io::Result<i16> {
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    loop {
        // SAFETY: one structure, which outlives the call.
        match unsafe { libc::poll(&raw mut poll, 1, milliseconds) } {
            -1 => match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::Interrupted => {}
                e => return Err(e),
            },
            _ => return Ok(poll.revents),
        }
    }
}

/// The lowest fd that is free: the number that the next one gets.
pub fn next_fd() -> io::Result<RawFd> {
    // SAFETY: a literal path; the fd is closed again.
    unsafe {
        let fd = libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        match fd {
            -1 => Err(io::Error::last_os_error()),
            fd => {
                libc::close(fd);
                Ok(fd)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_death_is_told() {
        let filter = crate::jail("default").unwrap().seccomp.as_ref().unwrap();
        let told = reporting(filter);
        let count = |filter: &Filter, k: u32| {
            let answers = filter.program.iter().filter(|i| i.code == RETURN);
            answers.filter(|i| i.k == k).count()
        };
        let deaths = count(filter, libc::SECCOMP_RET_KILL_PROCESS);
        assert!(deaths > 0);
        assert_eq!(count(&told, libc::SECCOMP_RET_USER_NOTIF), deaths);
        assert_eq!(count(&told, libc::SECCOMP_RET_KILL_PROCESS), 0);
        assert!(asks(&told) && !asks(filter));
        let allowed = libc::SECCOMP_RET_ALLOW;
        assert_eq!(count(&told, allowed), count(filter, allowed));
    }
}
