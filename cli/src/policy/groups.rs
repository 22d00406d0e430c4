//! What a system call is about, for those who read an explanation.

/// A part of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    Files,
    OpenFiles,
    Network,
    Processes,
    Signals,
    Ipc,
    Memory,
    Time,
    Devices,
    Identity,
    Machine,
    Confinement,
    Other,
}

impl Group {
    /// Every group, in the order of an explanation.
    pub const ALL: [Self; 13] = [
        Self::Files,
        Self::OpenFiles,
        Self::Network,
        Self::Processes,
        Self::Signals,
        Self::Ipc,
        Self::Memory,
        Self::Time,
        Self::Devices,
        Self::Identity,
        Self::Machine,
        Self::Confinement,
        Self::Other,
    ];

    /// Its headline.
    pub fn title(self) -> &'static str {
        match self {
            Self::Files => "Files, by path",
            Self::OpenFiles => "Open files and waiting",
            Self::Network => "Sockets",
            Self::Processes => "Processes and threads",
            Self::Signals => "Signals",
            Self::Ipc => "Shared memory, queues and keys",
            Self::Memory => "Memory",
            Self::Time => "Time",
            Self::Devices => "Devices and terminals",
            Self::Identity => "Users and rights",
            Self::Machine => "The machine",
            Self::Confinement => "Its own confinement",
            Self::Other => "Other",
        }
    }

    /// What a system call is about.
    pub fn of(call: &str) -> Self {
        match call {
            "open" | "openat" | "openat2" | "creat" | "stat" | "lstat" | "fstat" | "newfstatat"
            | "statx" | "statfs" | "fstatfs" | "access" | "faccessat" | "faccessat2"
            | "readlink" | "readlinkat" | "getdents" | "getdents64" | "getcwd" | "chdir"
            | "fchdir" | "umask" | "truncate" | "rename" | "renameat" | "renameat2" | "mkdir"
            | "mkdirat" | "rmdir" | "link" | "linkat" | "unlink" | "unlinkat" | "symlink"
            | "symlinkat" | "chmod" | "fchmod" | "fchmodat" | "fchmodat2" | "chown" | "fchown"
            | "lchown" | "fchownat" | "utime" | "utimes" | "utimensat" | "futimesat" | "mknod"
            | "mknodat" | "inotify_init" | "inotify_init1" | "inotify_add_watch"
            | "inotify_rm_watch" | "sync" | "syncfs" | "name_to_handle_at" | "file_getattr"
            | "file_setattr" | "mount" | "umount2" | "pivot_root" | "chroot" => Self::Files,
            call if call.contains("xattr") => Self::Files,
            "read" | "readv" | "pread64" | "preadv" | "preadv2" | "write" | "writev"
            | "pwrite64" | "pwritev" | "pwritev2" | "lseek" | "sendfile" | "close"
            | "close_range" | "dup" | "dup2" | "dup3" | "fsync" | "fdatasync" | "flock"
            | "fadvise64" | "readahead" | "fcntl" | "pipe" | "pipe2" | "eventfd" | "eventfd2"
            | "poll" | "ppoll" | "select" | "pselect6" | "fallocate" | "ftruncate"
            | "copy_file_range" | "sync_file_range" | "splice" | "tee" | "vmsplice"
            | "io_setup" | "io_destroy" | "io_submit" | "io_cancel" | "io_getevents"
            | "io_pgetevents" => Self::OpenFiles,
            call if call.starts_with("epoll_") || call.starts_with("io_uring_") => Self::OpenFiles,
            "socket" | "socketpair" | "connect" | "bind" | "listen" | "accept" | "accept4"
            | "getsockname" | "getpeername" | "sendto" | "recvfrom" | "sendmsg" | "recvmsg"
            | "sendmmsg" | "recvmmsg" | "shutdown" | "getsockopt" | "setsockopt" => Self::Network,
            "clone" | "clone3" | "fork" | "vfork" | "execve" | "execveat" | "exit"
            | "exit_group" | "wait4" | "waitid" | "setpgid" | "setsid" | "set_tid_address"
            | "set_robust_list" | "rseq" | "futex" | "membarrier" | "getpriority"
            | "setpriority" | "ioprio_get" | "ioprio_set" | "getcpu" | "arch_prctl" | "prctl"
            | "personality" | "unshare" | "setns" | "ptrace" => Self::Processes,
            call if call.starts_with("sched_")
                || call.starts_with("futex_")
                || call.starts_with("pidfd_") =>
            {
                Self::Processes
            }
            "kill" | "tkill" | "tgkill" | "sigaltstack" | "pause" | "signalfd" | "signalfd4"
            | "restart_syscall" => Self::Signals,
            call if call.starts_with("rt_") => Self::Signals,
            "add_key" | "request_key" | "keyctl" => Self::Ipc,
            call if ["shm", "sem", "msgget", "msgsnd", "msgrcv", "msgctl", "mq_"]
                .iter()
                .any(|prefix| call.starts_with(prefix)) =>
            {
                Self::Ipc
            }
            "brk" | "mmap" | "munmap" | "mremap" | "mprotect" | "madvise" | "msync" | "mincore"
            | "mlock" | "mlock2" | "mlockall" | "munlock" | "munlockall" | "memfd_create"
            | "memfd_secret" | "mseal" | "map_shadow_stack" | "remap_file_pages" | "mbind"
            | "get_mempolicy" | "set_mempolicy" | "cachestat" | "userfaultfd" => Self::Memory,
            call if call.starts_with("pkey_") => Self::Memory,
            "time" | "times" | "nanosleep" | "gettimeofday" | "settimeofday" | "adjtimex"
            | "alarm" | "getitimer" | "setitimer" => Self::Time,
            call if call.starts_with("clock_") || call.starts_with("timer") => Self::Time,
            "ioctl" => Self::Devices,
            "capget" | "capset" => Self::Identity,
            call if call.starts_with("get") && (call.contains("uid") || call.contains("gid")) => {
                Self::Identity
            }
            call if call.starts_with("set") && (call.contains("uid") || call.contains("gid")) => {
                Self::Identity
            }
            "getpid" | "gettid" | "getppid" | "getpgrp" | "getsid" | "getgroups" | "setgroups" => {
                Self::Identity
            }
            "uname" | "sysinfo" | "getrusage" | "getrlimit" | "setrlimit" | "prlimit64"
            | "getrandom" | "statmount" | "listmount" => Self::Machine,
            "seccomp" => Self::Confinement,
            call if call.starts_with("landlock_") || call.starts_with("lsm_") => Self::Confinement,
            _ if call.starts_with("setfs") => Self::Identity,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use casemate_policy_compiler::AnyPolicy;
    use std::ffi::OsStr;

    #[test]
    fn everything_that_a_shipped_policy_names_has_its_place() {
        for name in super::super::load::names() {
            let rules = match super::super::load::any(OsStr::new(name)).unwrap() {
                AnyPolicy::Whole(whole) => whole.rules,
                AnyPolicy::Rules(rules) => rules.rules,
            };
            for rule in rules {
                assert_ne!(
                    Group::of(rule.call.name),
                    Group::Other,
                    "{}",
                    rule.call.name
                );
            }
        }
    }
}
