//! What a policy declares, every name resolved: plain data.
//!
//! The compiler (`policies/compiler`) makes a [`Policy`] of TOML files; the build embeds
//! the shipped ones as constants (`policies`), which is why everything borrows or owns;
//! the jailer (`jailer`) applies one and reads back from the kernel whether it holds.
//! Nothing in here knows a file, a line or a name that would still have to be looked up.

mod filter;
mod limits;
mod names;
mod view;

pub use filter::{Filter, Instruction};
pub use limits::{CgroupLimits, IoLimit, RlimitValue};
pub use names::{Capabilities, Namespace, Resource};
pub use view::{Environment, Filesystem, Mount, MountKind, Network, Proc};

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// A list that a shipped policy borrows and a compiled one owns.
pub type List<T> = Cow<'static, [T]>;
/// A text that a shipped policy borrows and a compiled one owns.
pub type Text = Cow<'static, str>;

/// All that one jail is held to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Name: that of its file, without `.toml`.
    pub name: Text,
    /// BLAKE3 over all that is enforced, 64 hex digits. The audit log names policies by it.
    pub digest: Text,
    /// Namespaces of its own, in the order of [`Namespace::ALL`].
    pub namespaces: List<Namespace>,
    /// What it sees of the network.
    pub network: Network,
    /// Its root.
    pub filesystem: Filesystem,
    /// Capabilities that are left, in its own user namespace at most; none in shipped ones.
    pub capabilities: Capabilities,
    /// Landlock.
    pub landlock: Landlock,
    /// Resource limits (getrlimit(2)), soft and hard alike.
    pub rlimits: List<RlimitValue>,
    /// cgroup limits.
    pub cgroup: CgroupLimits,
    /// Wall-clock limit, in milliseconds.
    pub wall_clock_ms: Option<u64>,
    /// Environment.
    pub environment: Environment,
    /// Fds that are kept beside 0, 1 and 2, ascending.
    pub keep_fds: List<i32>,
    /// Devices a guest may have; empty for a jail of a plain process.
    pub devices: List<Device>,
    /// The seccomp filter of a plain process. `None` where threads install their own
    /// (the VMM's, by class).
    pub seccomp: Option<Filter>,
}

/// Landlock (landlock(7)): all that the kernel's ABI can forbid is forbidden, but this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Landlock {
    /// Least ABI that will do; the start is refused below it.
    pub min_abi: u32,
    /// TCP ports that may be bound.
    pub bind_tcp: List<u16>,
    /// TCP ports that may be connected to; where `connect_any`, not restricted.
    pub connect_tcp: List<u16>,
    /// Connecting to TCP ports is not restricted.
    pub connect_any: bool,
    /// ioctls on device files are allowed (`LANDLOCK_ACCESS_FS_IOCTL_DEV`).
    pub ioctl_dev: bool,
    /// Abstract unix sockets outside of the jail are out of reach.
    pub scope_abstract_socket: bool,
    /// Signals to processes outside of the jail are refused.
    pub scope_signal: bool,
}

/// A device that a guest may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// virtio-blk.
    Block,
    /// virtio-vsock.
    Vsock,
    /// virtio-rng.
    Entropy,
    /// 8250 serial console.
    Serial,
}

impl Device {
    /// Every device.
    pub const ALL: [Self; 4] = [Self::Block, Self::Vsock, Self::Entropy, Self::Serial];

    /// Its name in policies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Vsock => "vsock",
            Self::Entropy => "entropy",
            Self::Serial => "serial",
        }
    }
}

impl Policy {
    /// Whether it has a namespace of this kind of its own.
    pub fn unshares(&self, namespace: Namespace) -> bool {
        self.namespaces.contains(&namespace)
    }
}
