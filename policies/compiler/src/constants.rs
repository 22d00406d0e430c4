//! The constants that policies may use, by their names in the C headers.

use crate::kvm::IOCTLS;

macro_rules! constants {
    ($($name:ident)*) => { &[$((stringify!($name), libc::$name as i64 as u64)),*] };
}

/// Names and values.
static CONSTANTS: &[(&str, u64)] = constants! {
    PROT_NONE PROT_READ PROT_WRITE PROT_EXEC PROT_GROWSDOWN PROT_GROWSUP
    MAP_SHARED MAP_PRIVATE MAP_FIXED MAP_FIXED_NOREPLACE MAP_ANONYMOUS MAP_NORESERVE MAP_STACK
    MAP_POPULATE MAP_HUGETLB MAP_GROWSDOWN MAP_LOCKED MAP_SHARED_VALIDATE MAP_SYNC MFD_CLOEXEC
    MFD_ALLOW_SEALING MFD_HUGETLB MFD_NOEXEC_SEAL MFD_EXEC SHM_HUGETLB
    MREMAP_MAYMOVE MREMAP_FIXED MREMAP_DONTUNMAP
    MADV_NORMAL MADV_DONTNEED MADV_FREE MADV_HUGEPAGE MADV_NOHUGEPAGE MADV_DONTDUMP MADV_DONTFORK
    MADV_MERGEABLE MADV_UNMERGEABLE MADV_REMOVE MADV_WILLNEED MADV_HWPOISON
    MADV_SOFT_OFFLINE
    FUTEX_WAIT FUTEX_WAKE FUTEX_WAIT_BITSET FUTEX_WAKE_BITSET FUTEX_REQUEUE FUTEX_CMP_REQUEUE
    FUTEX_PRIVATE_FLAG FUTEX_CLOCK_REALTIME
    CLONE_VM CLONE_FS CLONE_FILES CLONE_SIGHAND CLONE_THREAD CLONE_SYSVSEM CLONE_SETTLS
    CLONE_PARENT_SETTID CLONE_CHILD_CLEARTID CLONE_NEWNS CLONE_NEWUTS CLONE_NEWIPC CLONE_NEWUSER
    CLONE_NEWPID CLONE_NEWNET CLONE_NEWCGROUP CLONE_CHILD_SETTID CLONE_VFORK CLONE_PIDFD CLONE_DETACHED
    CLONE_IO CLONE_PARENT CLONE_PTRACE CLONE_UNTRACED
    O_RDONLY O_WRONLY O_RDWR O_CLOEXEC O_NONBLOCK O_PATH O_DIRECT O_CREAT O_TRUNC O_APPEND O_EXCL
    O_DIRECTORY O_NOFOLLOW O_TMPFILE O_NOCTTY O_LARGEFILE O_NOATIME O_SYNC O_DSYNC O_ASYNC
    FD_CLOEXEC F_DUPFD F_DUPFD_CLOEXEC F_GETFD F_SETFD F_GETFL F_SETFL F_GET_SEALS F_ADD_SEALS
    F_GETLK F_SETLK F_SETLKW F_OFD_GETLK F_OFD_SETLK F_OFD_SETLKW F_GETOWN F_SETOWN F_GETPIPE_SZ
    F_SETPIPE_SZ
    CLOSE_RANGE_CLOEXEC CLOSE_RANGE_UNSHARE
    SEEK_SET SEEK_CUR SEEK_END SEEK_DATA SEEK_HOLE
    AT_EMPTY_PATH AT_SYMLINK_NOFOLLOW S_IFIFO S_IFREG S_IFSOCK
    FALLOC_FL_KEEP_SIZE FALLOC_FL_PUNCH_HOLE FALLOC_FL_ZERO_RANGE
    RWF_DSYNC RWF_HIPRI RWF_NOWAIT
    EFD_CLOEXEC EFD_NONBLOCK EFD_SEMAPHORE EPOLL_CLOEXEC
    EPOLL_CTL_ADD EPOLL_CTL_MOD EPOLL_CTL_DEL
    TFD_CLOEXEC TFD_NONBLOCK TFD_TIMER_ABSTIME TIMER_ABSTIME
    CLOCK_REALTIME CLOCK_MONOTONIC CLOCK_BOOTTIME CLOCK_MONOTONIC_RAW CLOCK_MONOTONIC_COARSE
    CLOCK_THREAD_CPUTIME_ID CLOCK_PROCESS_CPUTIME_ID
    MSG_DONTWAIT MSG_NOSIGNAL MSG_PEEK MSG_TRUNC MSG_CMSG_CLOEXEC MSG_WAITALL
    SHUT_RD SHUT_WR SHUT_RDWR SOL_SOCKET SO_ERROR SO_TYPE SO_PEERCRED SO_RCVBUF SO_SNDBUF
    SO_REUSEADDR SO_REUSEPORT SO_KEEPALIVE SO_BROADCAST SO_LINGER SO_RCVTIMEO SO_SNDTIMEO SO_PASSCRED
    SO_TIMESTAMP SO_OOBINLINE SO_PRIORITY SO_INCOMING_CPU SO_DONTROUTE SO_RCVLOWAT
    AF_UNSPEC AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET AF_VSOCK AF_ALG
    SOCK_STREAM SOCK_DGRAM SOCK_RAW SOCK_SEQPACKET SOCK_CLOEXEC SOCK_NONBLOCK
    IPPROTO_IP IPPROTO_TCP IPPROTO_UDP IPPROTO_IPV6 IPPROTO_MPTCP
    TCP_NODELAY TCP_CORK TCP_KEEPIDLE TCP_KEEPINTVL TCP_KEEPCNT TCP_DEFER_ACCEPT TCP_QUICKACK
    TCP_USER_TIMEOUT TCP_FASTOPEN TCP_FASTOPEN_CONNECT TCP_MAXSEG TCP_SYNCNT TCP_LINGER2
    TCP_WINDOW_CLAMP TCP_CONGESTION TCP_NOTSENT_LOWAT TCP_ULP
    IP_TOS IP_TTL IP_RECVERR IP_MTU_DISCOVER IP_PKTINFO IP_RECVTTL IP_RECVTOS IP_MULTICAST_TTL
    IP_MULTICAST_LOOP IP_MULTICAST_IF IP_ADD_MEMBERSHIP IP_DROP_MEMBERSHIP IP_BIND_ADDRESS_NO_PORT
    IP_FREEBIND
    IPV6_V6ONLY IPV6_RECVERR IPV6_RECVPKTINFO IPV6_MTU_DISCOVER IPV6_TCLASS IPV6_UNICAST_HOPS
    IPV6_MULTICAST_HOPS IPV6_MULTICAST_LOOP IPV6_MULTICAST_IF IPV6_ADD_MEMBERSHIP
    IPV6_DROP_MEMBERSHIP IPV6_RECVTCLASS IPV6_RECVHOPLIMIT
    GRND_NONBLOCK GRND_RANDOM
    SIGABRT SIGBUS SIGCHLD SIGHUP SIGINT SIGKILL SIGQUIT SIGSEGV SIGPIPE SIGSYS SIGTERM SIGUSR1
    SIGUSR2 SIGWINCH SIG_BLOCK SIG_UNBLOCK SIG_SETMASK
    PR_SET_NAME PR_GET_NAME PR_GET_NO_NEW_PRIVS PR_SET_NO_NEW_PRIVS PR_GET_SECCOMP PR_SET_PDEATHSIG
    PR_GET_DUMPABLE PR_SET_DUMPABLE PR_SET_VMA PR_SET_VMA_ANON_NAME PR_SET_TIMERSLACK
    PR_GET_TIMERSLACK PR_GET_PDEATHSIG PR_CAPBSET_READ PR_GET_KEEPCAPS PR_GET_SECUREBITS
    PR_SET_THP_DISABLE PR_GET_THP_DISABLE PR_SET_CHILD_SUBREAPER PR_GET_CHILD_SUBREAPER PR_GET_TSC
    PR_GET_SPECULATION_CTRL PR_CAP_AMBIENT PR_CAP_AMBIENT_IS_SET PR_SET_PTRACER PR_SET_SECCOMP
    PR_SCHED_CORE PR_SET_MM
    P_ALL P_PID P_PGID P_PIDFD
    TCGETS TCSETS TCSETSW TCSETSF TCGETS2 TCSETS2 TCSETSW2 TCSETSF2 TCSBRK TCXONC TCFLSH
    TIOCGWINSZ TIOCSWINSZ TIOCGPGRP TIOCSPGRP TIOCGSID TIOCNOTTY TIOCSCTTY TIOCOUTQ TIOCGPTN
    TIOCSPTLCK TIOCSTI TIOCLINUX FIONREAD FIONBIO FIOASYNC FIOCLEX FIONCLEX FICLONE FICLONERANGE
    RLIMIT_NOFILE RLIMIT_STACK RLIMIT_AS RLIMIT_MEMLOCK
    SECCOMP_SET_MODE_FILTER SECCOMP_GET_ACTION_AVAIL
};

/// Signals that have no constant in C, by the names that strace gives them: the first two
/// real-time ones are glibc's own (`SIGCANCEL`, `SIGSETXID`), the third is its `SIGRTMIN`.
static SIGNALS: &[(&str, u64)] = &[("SIGRT_0", 32), ("SIGRT_1", 33), ("SIGRT_2", 34)];

/// Constants of headers that the libc crate does not have: `<asm/prctl.h>`,
/// `<linux/fs.h>` and `<linux/personality.h>`.
static HEADERS: &[(&str, u64)] = &[
    ("ARCH_SET_GS", 0x1001),
    ("ARCH_SET_FS", 0x1002),
    ("ARCH_GET_FS", 0x1003),
    ("ARCH_GET_GS", 0x1004),
    ("ARCH_CET_STATUS", 0x3001),
    ("ARCH_SHSTK_ENABLE", 0x5001),
    ("ARCH_SHSTK_STATUS", 0x5005),
    ("PER_LINUX", 0),
    ("FIDEDUPERANGE", 0xC018_9436),
    ("FS_IOC_GETFLAGS", 0x8008_6601),
    ("FS_IOC_FIEMAP", 0xC020_660B),
];

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
        all()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| bits | value)
            .ok_or_else(|| name.to_owned())
    })
}

/// Every constant.
fn all() -> impl Iterator<Item = &'static (&'static str, u64)> {
    CONSTANTS.iter().chain(IOCTLS).chain(SIGNALS).chain(HEADERS)
}

/// The constant of this value, of those whose names begin so.
pub(crate) fn name(prefixes: &[&str], value: u64) -> Option<String> {
    all()
        .find(|(name, known)| {
            *known == value && prefixes.iter().any(|prefix| name.starts_with(prefix))
        })
        .map(|(name, _)| (*name).to_owned())
}

/// The constants that make up this value, of those whose names begin so, joined with `|`.
pub(crate) fn names(prefixes: &[&str], value: u64) -> Option<String> {
    if let Some(name) = name(prefixes, value) {
        return Some(name);
    }
    if value == 0 {
        return Some(ZERO.to_owned());
    }
    let mut left = value;
    let mut words = Vec::new();
    for (name, bits) in all() {
        let named = prefixes.iter().any(|prefix| name.starts_with(prefix));
        if named && *bits != 0 && left & bits == *bits {
            left &= !bits;
            words.push(*name);
        }
    }
    (left == 0).then(|| words.join("|"))
}

macro_rules! errnos {
    ($($name:ident)*) => { &[$((stringify!($name), libc::$name as u16)),*] };
}

/// Errors a rule may answer with instead of killing (errno(3)).
static ERRNOS: &[(&str, u16)] = errnos! {
    EPERM ENOENT EIO EBADF EAGAIN ENOMEM EACCES EINVAL ENOSYS EOPNOTSUPP
    EAFNOSUPPORT ENOTTY ENOPROTOOPT EPROTONOSUPPORT ENOSPC EXDEV ENOTSOCK ECHILD EROFS
};

/// The name of an errno number.
pub fn errno_name(number: u16) -> &'static str {
    ERRNOS
        .iter()
        .find(|(_, known)| *known == number)
        .map_or("an errno", |(name, _)| name)
}

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
        let mut names: Vec<_> = all().map(|(name, _)| name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
