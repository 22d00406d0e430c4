//! Things of the kernel's that policies name.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A kind of namespace (namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Namespace {
    /// User and group ids.
    User,
    /// Mounts.
    Mount,
    /// Process ids.
    Pid,
    /// Network.
    Net,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host and domain name.
    Uts,
    /// View of the cgroup tree.
    Cgroup,
    /// Boot and monotonic clocks.
    Time,
}

impl Namespace {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::User,
        Self::Mount,
        Self::Pid,
        Self::Net,
        Self::Ipc,
        Self::Uts,
        Self::Cgroup,
        Self::Time,
    ];

    /// Its name in policies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Mount => "mount",
            Self::Pid => "pid",
            Self::Net => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }

    /// Its link in `/proc/PID/ns`.
    pub const fn link(self) -> &'static str {
        match self {
            Self::Mount => "mnt",
            other => other.name(),
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of capabilities (capabilities(7)), by number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Capabilities(pub u64);

macro_rules! resources {
    ($($(#[$doc:meta])* $name:ident: $policy:literal, $limits:literal;)*) => {
        /// A resource that setrlimit(2) limits.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Resource { $($(#[$doc])* $name),* }

        impl Resource {
            /// Every resource.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its name in policies.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $policy),* }
            }

            /// Its line in `/proc/PID/limits`.
            pub const fn line(self) -> &'static str {
                match self { $(Self::$name => $limits),* }
            }
        }
    };
}

resources! {
    /// Address space, bytes.
    As: "as", "Max address space";
    /// Core file, bytes.
    Core: "core", "Max core file size";
    /// CPU time, seconds.
    Cpu: "cpu", "Max cpu time";
    /// Data segment, bytes.
    Data: "data", "Max data size";
    /// Size of a file written, bytes.
    Fsize: "fsize", "Max file size";
    /// File locks.
    Locks: "locks", "Max file locks";
    /// Locked memory, bytes.
    Memlock: "memlock", "Max locked memory";
    /// POSIX message queues, bytes.
    Msgqueue: "msgqueue", "Max msgqueue size";
    /// 20 minus the least nice value.
    Nice: "nice", "Max nice priority";
    /// Open files.
    Nofile: "nofile", "Max open files";
    /// Processes of the user.
    Nproc: "nproc", "Max processes";
    /// Resident memory, bytes (of no effect since Linux 2.4.30).
    Rss: "rss", "Max resident set";
    /// Real-time priority.
    Rtprio: "rtprio", "Max realtime priority";
    /// Real-time CPU time without a pause, microseconds.
    Rttime: "rttime", "Max realtime timeout";
    /// Queued signals.
    Sigpending: "sigpending", "Max pending signals";
    /// Stack, bytes.
    Stack: "stack", "Max stack size";
}

impl Capabilities {
    /// The names of all, each at its number.
    pub const NAMES: [&str; 41] = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_DAC_READ_SEARCH",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETPCAP",
        "CAP_LINUX_IMMUTABLE",
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_BROADCAST",
        "CAP_NET_ADMIN",
        "CAP_NET_RAW",
        "CAP_IPC_LOCK",
        "CAP_IPC_OWNER",
        "CAP_SYS_MODULE",
        "CAP_SYS_RAWIO",
        "CAP_SYS_CHROOT",
        "CAP_SYS_PTRACE",
        "CAP_SYS_PACCT",
        "CAP_SYS_ADMIN",
        "CAP_SYS_BOOT",
        "CAP_SYS_NICE",
        "CAP_SYS_RESOURCE",
        "CAP_SYS_TIME",
        "CAP_SYS_TTY_CONFIG",
        "CAP_MKNOD",
        "CAP_LEASE",
        "CAP_AUDIT_WRITE",
        "CAP_AUDIT_CONTROL",
        "CAP_SETFCAP",
        "CAP_MAC_OVERRIDE",
        "CAP_MAC_ADMIN",
        "CAP_SYSLOG",
        "CAP_WAKE_ALARM",
        "CAP_BLOCK_SUSPEND",
        "CAP_AUDIT_READ",
        "CAP_PERFMON",
        "CAP_BPF",
        "CAP_CHECKPOINT_RESTORE",
    ];

    /// The names of those in the set, in the order of their numbers.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .into_iter()
            .enumerate()
            .filter(move |(number, _)| self.0 & (1 << number) != 0)
            .map(|(_, name)| name)
    }
}
