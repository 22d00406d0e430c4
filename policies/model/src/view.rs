//! What a jail sees: files, network, environment.

use crate::{List, Text};
use serde::{Deserialize, Serialize};

/// What is at the root: a fresh tmpfs, read-only once it is furnished.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filesystem {
    /// What is mounted, in this order.
    pub mounts: List<Mount>,
    /// `/proc`.
    pub proc: Proc,
    /// `/dev` with `null`, `zero`, `full`, `random`, `urandom` and nothing else.
    pub dev: bool,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// How.
    pub kind: MountKind,
    /// Absolute path on the host; empty for a tmpfs.
    pub host: Text,
    /// Absolute path in the jail.
    pub jail: Text,
    /// Left out without an error where the host has no such path.
    pub optional: bool,
}

/// How a path is mounted. All of them without set-user-id and devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountKind {
    /// The host's, read-only.
    Ro,
    /// The host's, writable; nothing in it can be executed.
    Rw,
    /// The host's, writable and executable.
    RwExec,
    /// An empty tmpfs, counted by the memory limit; nothing in it can be executed.
    Tmpfs {
        /// Most bytes.
        bytes: u64,
    },
}

/// Whether and how `/proc` is there (proc(5)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proc {
    /// Not at all.
    #[default]
    None,
    /// Processes of the jail only: `hidepid=invisible,subset=pid`, read-only.
    Pids,
}

/// The network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// A namespace without any interface up.
    #[default]
    None,
    /// The host's.
    Host,
    /// One that somebody made, by its path (`/run/netns/NAME`).
    Join(Text),
}

/// The environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Variables of the launcher's that are passed on, by name.
    pub keep: List<Text>,
    /// Variables that are set: name and value.
    pub set: List<(Text, Text)>,
}
