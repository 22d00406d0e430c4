//! What the CLI asks of the jailer, and what the jailer answers.
//!
//! One jailer process serves one cell: it is started with a `SOCK_SEQPACKET`
//! socket at fd 3, receives one [`ToJailer::Launch`] with the fds of
//! [`Launch::roles`] attached in that order, builds the jail, and stays as the
//! supervisor until the VMM is gone and cleaned up after. Closing the socket
//! ends the cell.

use crate::control::{Ended, VmConfig};
use crate::id::{CellId, TenantId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The fd at which the jailer finds its socket to the CLI.
pub const JAILER_SOCKET: i32 = 3;

/// One layer of the jail. Its name is what errors, reports and
/// `--allow-missing` use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// Own mount namespace.
    MountNs,
    /// Own pid namespace.
    PidNs,
    /// Own network namespace, without any interface up.
    NetNs,
    /// Own System V and POSIX message queue namespace.
    IpcNs,
    /// Own host name.
    UtsNs,
    /// Own view of the cgroup tree.
    CgroupNs,
    /// Own user namespace, in which the host's root is nobody.
    UserNs,
    /// Own boot and monotonic clocks.
    TimeNs,
    /// A fresh read-only root with the declared mounts and nothing else.
    Root,
    /// cgroup limits.
    Cgroup,
    /// Resource limits (getrlimit(2)).
    Rlimits,
    /// A user and group of the cell's own, no supplementary groups.
    User,
    /// All five capability sets empty.
    Capabilities,
    /// no_new_privs.
    NoNewPrivs,
    /// Landlock denies every path, TCP port, abstract socket and outside signal.
    Landlock,
    /// A seccomp filter on every thread.
    Seccomp,
    /// No variable of the launcher's that is not declared.
    Environment,
    /// No fd but the declared ones.
    Fds,
    /// An empty session keyring of its own.
    Keyring,
    /// A session of its own, without a terminal to type into.
    Session,
    /// What it makes is its own alone.
    Umask,
    /// Signals at their default, none blocked.
    Signals,
    /// Shares a core with no other tenant (where asked for).
    CoreScheduling,
    /// Runs on the named CPUs only (where asked for).
    CpuPinning,
    /// A KVM that can run a stock kernel (a property of the host).
    FullKvm,
}

impl Layer {
    /// Every layer, in the order in which reports list them.
    pub const ALL: [Self; 25] = [
        Self::MountNs,
        Self::PidNs,
        Self::NetNs,
        Self::IpcNs,
        Self::UtsNs,
        Self::CgroupNs,
        Self::TimeNs,
        Self::Root,
        Self::Cgroup,
        Self::Rlimits,
        Self::User,
        Self::UserNs,
        Self::Capabilities,
        Self::NoNewPrivs,
        Self::Landlock,
        Self::Seccomp,
        Self::Environment,
        Self::Fds,
        Self::Keyring,
        Self::Session,
        Self::Umask,
        Self::Signals,
        Self::CoreScheduling,
        Self::CpuPinning,
        Self::FullKvm,
    ];

    /// The layer's name, as in `--allow-missing`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MountNs => "mount-ns",
            Self::PidNs => "pid-ns",
            Self::NetNs => "net-ns",
            Self::IpcNs => "ipc-ns",
            Self::UtsNs => "uts-ns",
            Self::CgroupNs => "cgroup-ns",
            Self::UserNs => "user-ns",
            Self::TimeNs => "time-ns",
            Self::Root => "root",
            Self::Cgroup => "cgroup",
            Self::Rlimits => "rlimits",
            Self::User => "user",
            Self::Capabilities => "capabilities",
            Self::NoNewPrivs => "no-new-privs",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
            Self::Environment => "environment",
            Self::Fds => "fds",
            Self::Keyring => "keyring",
            Self::Session => "session",
            Self::Umask => "umask",
            Self::Signals => "signals",
            Self::CoreScheduling => "core-scheduling",
            Self::CpuPinning => "cpu-pinning",
            Self::FullKvm => "full-kvm",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A layer's name that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no layer is called {0:?}; there are: {names}", names = Layer::ALL.map(Layer::name).join(", "))]
pub struct UnknownLayer(pub String);

impl FromStr for Layer {
    type Err = UnknownLayer;
    fn from_str(name: &str) -> Result<Self, UnknownLayer> {
        Self::ALL
            .into_iter()
            .find(|layer| layer.name() == name)
            .ok_or_else(|| UnknownLayer(name.to_owned()))
    }
}

/// What an fd attached to [`ToJailer::Launch`] is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FdRole {
    /// The VMM's binary, `O_PATH`: executed, never handed on.
    Vmm,
    /// `/dev/kvm`, read-write.
    Kvm,
    /// The kernel image, read-only.
    Kernel,
    /// The initramfs, read-only.
    Initrd,
    /// Disk `n`, opened as its configuration says.
    Disk(u8),
    /// vsock stream `n`, a connected `SOCK_STREAM` unix socket.
    Stream(u8),
    /// Write end of the guest's console pipe.
    Console,
    /// Write end of the VMM's log pipe.
    Log,
}

/// What the cgroup and rlimits hold the cell to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory of the whole VMM, guest memory included, in bytes. No swap is given.
    pub memory_bytes: u64,
    /// CPU time per wall-clock time, in thousandths of one CPU.
    pub cpu_millis: u32,
    /// Most tasks (threads) of the VMM.
    pub pids: u32,
    /// Most open fds of the VMM.
    pub nofile: u32,
}

/// One cell, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// Whose cell.
    pub tenant: TenantId,
    /// Which cell.
    pub id: CellId,
    /// Folder of the run state (`/run/casemate`): locks and journals. Root's own, mode 0700.
    pub run_dir: PathBuf,
    /// Folder of the audit log; `None`: nothing is recorded.
    pub audit: Option<PathBuf>,
    /// The VM.
    pub vm: VmConfig,
    /// Its limits.
    pub limits: Limits,
    /// Wall-clock limit of the cell from the launch on, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Layers that may be missing where the host cannot give them.
    pub allow_missing: BTreeSet<Layer>,
    /// Layers to leave out on purpose. Refused unless the jailer was built with
    /// its `layer-off` feature, which only tests use.
    #[serde(default)]
    pub leave_out: BTreeSet<Layer>,
    /// What each attached fd is for, in order.
    pub roles: Vec<FdRole>,
}

/// From the CLI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum ToJailer {
    /// Start. Sent once, first, with fds.
    Launch(Box<Launch>),
    /// End the cell now.
    Stop,
}

/// How strong a layer is, beside what root can make of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Strength {
    /// As strong. Every layer that root makes is.
    #[default]
    Full,
    /// Less: an ordinary user cannot make it so.
    Weaker {
        /// What it lacks.
        why: String,
    },
}

/// One layer, declared beside observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerReport {
    /// Which layer.
    pub layer: Layer,
    /// What was asked for.
    pub declared: String,
    /// What the kernel says.
    pub observed: String,
    /// Whether the two agree. `false` only under `--allow-missing`.
    pub holds: bool,
    /// Whether what was asked for is all that it can be.
    #[serde(default)]
    pub strength: Strength,
}

/// Times of the jailer's and the VMM's part of a start, microseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StartTimes {
    /// The jailer's `main` was entered.
    pub jailer_entered: u64,
    /// The VMM's `main` was entered.
    pub vmm_entered: u64,
    /// The VMM was ready.
    pub vmm_ready: u64,
    /// The read-back was done and the guest let go.
    pub go: u64,
}

/// What the cell used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time of the VMM with its vCPUs, user mode (guest time included), microseconds.
    pub cpu_user_us: u64,
    /// CPU time in kernel mode, microseconds.
    pub cpu_system_us: u64,
    /// Most memory the cell's cgroup held, bytes; 0 where the kernel does not tell.
    pub memory_peak_bytes: u64,
    /// Resident memory of the VMM outside of guest memory, bytes, at the read-back.
    pub vmm_rss_bytes: u64,
}

/// How the VMM's process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum VmEnd {
    /// The VMM said so itself.
    Itself {
        /// What it said.
        ended: Ended,
    },
    /// We were asked to stop it ([`ToJailer::Stop`] or a closed socket).
    Stopped,
    /// The time limit.
    Timeout,
    /// It died without a word.
    Died {
        /// The wait status in words ("killed by SIGSYS: a seccomp filter refused a system call").
        how: String,
    },
}

/// From the jailer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum FromJailer {
    /// The guest was let go, with this confinement.
    Running {
        /// Process id of the VMM, in the host's pid namespace.
        pid: i32,
        /// Every layer, read back.
        confinement: Vec<LayerReport>,
        /// When.
        times: StartTimes,
        /// Resident memory of the VMM outside of guest memory, bytes.
        vmm_rss_bytes: u64,
    },
    /// The start was refused; everything was undone. Sent last.
    Refused {
        /// The layer that could not be applied or did not read back.
        layer: Option<Layer>,
        /// One line: what failed, on which object, and what to do.
        message: String,
    },
    /// The cell is gone and cleaned up. Sent last.
    Ended {
        /// How.
        end: VmEnd,
        /// What it used.
        usage: Usage,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layer_names_match_serde_and_round_trip() {
        for layer in Layer::ALL {
            assert_eq!(serde_json::to_value(layer).unwrap(), layer.name());
            assert_eq!(layer.name().parse(), Ok(layer));
        }
        assert!("mnt".parse::<Layer>().is_err());
    }
}
