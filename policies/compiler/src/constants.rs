//! The constants that policies may use, by their names in the C headers.

use crate::kvm::IOCTLS;

macro_rules! constants {
    ($($name:ident)*) => { &[$((stringify!($name), libc::$name as i64 as u64)),*] };
}

/// Names and values.
static CONSTANTS: &[(&str, u64)] = constants! {
    PROT_NONE PROT_READ PROT_WRITE PROT_EXEC
    MAP_SHARED MAP_PRIVATE MAP_FIXED MAP_FIXED_NOREPLACE MAP_ANONYMOUS MAP_NORESERVE MAP_STACK
    MAP_POPULATE MAP_HUGETLB
    MREMAP_MAYMOVE MREMAP_FIXED
    MADV_NORMAL MADV_DONTNEED MADV_FREE MADV_HUGEPAGE MADV_NOHUGEPAGE MADV_DONTDUMP MADV_DONTFORK
    MADV_MERGEABLE MADV_UNMERGEABLE MADV_REMOVE MADV_WILLNEED
    FUTEX_WAIT FUTEX_WAKE FUTEX_WAIT_BITSET FUTEX_WAKE_BITSET FUTEX_REQUEUE FUTEX_CMP_REQUEUE
    FUTEX_PRIVATE_FLAG FUTEX_CLOCK_REALTIME
    CLONE_VM CLONE_FS CLONE_FILES CLONE_SIGHAND CLONE_THREAD CLONE_SYSVSEM CLONE_SETTLS
    CLONE_PARENT_SETTID CLONE_CHILD_CLEARTID CLONE_NEWNS CLONE_NEWUTS CLONE_NEWIPC CLONE_NEWUSER
    CLONE_NEWPID CLONE_NEWNET CLONE_NEWCGROUP
    O_RDONLY O_WRONLY O_RDWR O_CLOEXEC O_NONBLOCK O_PATH O_DIRECT O_CREAT
    FD_CLOEXEC F_DUPFD F_DUPFD_CLOEXEC F_GETFD F_SETFD F_GETFL F_SETFL F_GET_SEALS F_ADD_SEALS
    CLOSE_RANGE_CLOEXEC CLOSE_RANGE_UNSHARE
    SEEK_SET SEEK_CUR SEEK_END SEEK_DATA SEEK_HOLE
    AT_EMPTY_PATH AT_SYMLINK_NOFOLLOW
    FALLOC_FL_KEEP_SIZE FALLOC_FL_PUNCH_HOLE FALLOC_FL_ZERO_RANGE
    RWF_DSYNC RWF_HIPRI RWF_NOWAIT
    EFD_CLOEXEC EFD_NONBLOCK EFD_SEMAPHORE EPOLL_CLOEXEC
    EPOLL_CTL_ADD EPOLL_CTL_MOD EPOLL_CTL_DEL
    TFD_CLOEXEC TFD_NONBLOCK TFD_TIMER_ABSTIME TIMER_ABSTIME
    CLOCK_REALTIME CLOCK_MONOTONIC CLOCK_BOOTTIME CLOCK_MONOTONIC_RAW CLOCK_MONOTONIC_COARSE
    CLOCK_THREAD_CPUTIME_ID CLOCK_PROCESS_CPUTIME_ID
    MSG_DONTWAIT MSG_NOSIGNAL MSG_PEEK MSG_TRUNC MSG_CMSG_CLOEXEC MSG_WAITALL
    SHUT_RD SHUT_WR SHUT_RDWR SOL_SOCKET SO_ERROR SO_TYPE SO_PEERCRED SO_RCVBUF SO_SNDBUF
    AF_UNIX SOCK_STREAM SOCK_SEQPACKET SOCK_CLOEXEC SOCK_NONBLOCK
    GRND_NONBLOCK GRND_RANDOM
    SIGABRT SIGBUS SIGSEGV SIGPIPE SIGSYS SIGTERM SIG_BLOCK SIG_UNBLOCK SIG_SETMASK
    PR_SET_NAME PR_GET_NAME PR_GET_NO_NEW_PRIVS PR_SET_NO_NEW_PRIVS PR_GET_SECCOMP PR_SET_PDEATHSIG
    PR_GET_DUMPABLE PR_SET_DUMPABLE PR_SET_VMA PR_SET_VMA_ANON_NAME PR_SET_TIMERSLACK
    RLIMIT_NOFILE RLIMIT_STACK RLIMIT_AS RLIMIT_MEMLOCK
    SECCOMP_SET_MODE_FILTER SECCOMP_GET_ACTION_AVAIL
};

/// Signals that have no constant in C, by the names that strace gives them: the first two
/// real-time ones are glibc's own (`SIGCANCEL`, `SIGSETXID`), the third is its `SIGRTMIN`.
static SIGNALS: &[(&str, u64)] = &[("SIGRT_0", 32), ("SIGRT_1", 33), ("SIGRT_2", 34)];

/// What an argument with no bit set is written as; the one number a policy may hold.
const ZERO: &str = "0";

/// The value of `expression`: constants joined with `|`, or `0`.
/// On failure, the name that is not known.
pub(crate) fn value(expression: &str) -> Result<u64, String> {
    if expression.trim() == ZERO {
        return Ok(0);
    }
    expression.split('|').try_fold(0, |bits, name| {
        let name = name.trim();
        CONSTANTS
            .iter()
            .chain(IOCTLS)
            .chain(SIGNALS)
            .find(|(known, _)| *known == name)
            .map(|(_, value)| bits | value)
            .ok_or_else(|| name.to_owned())
    })
}

macro_rules! errnos {
    ($($name:ident)*) => { &[$((stringify!($name), libc::$name as u16)),*] };
}

/// Errors a rule may answer with instead of killing (errno(3)).
static ERRNOS: &[(&str, u16)] = errnos! {
    EPERM ENOENT EIO EBADF EAGAIN ENOMEM EACCES EINVAL ENOSYS EOPNOTSUPP EAFNOSUPPORT
};

/// The number of an errno name.
pub(crate) fn errno(name: &str) -> Option<u16> {
    ERRNOS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_join_bits() {
        assert_eq!(value("FUTEX_WAKE | FUTEX_PRIVATE_FLAG"), Ok(0x81));
        assert_eq!(value("0"), Ok(0));
        assert_eq!(value("KVM_RUN"), Ok(0xae80));
    }

    #[test]
    fn numbers_and_typing_errors_are_refused() {
        for bad in ["44672", "0xae80", "KVM_RUM", "", "KVM_RUN|", "O_CLOEXEC|1"] {
            assert!(value(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_name_stands_twice() {
        let mut names: Vec<_> = CONSTANTS
            .iter()
            .chain(IOCTLS)
            .map(|(name, _)| name)
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
