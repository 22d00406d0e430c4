//! The layers that Firecracker's jailer lacks, by name. Each is on unless `--without`
//! names it, for tooling that depends on its absence.

use super::values::ValueError;
use std::ffi::OsStr;
use std::fmt;

/// One layer beyond the peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Addition {
    /// Own session, no terminal.
    Session,
    /// Empty session keyring.
    Keyring,
    /// umask 0077.
    Umask,
    /// Signals at their default, none blocked.
    Signals,
    /// Own IPC namespace.
    IpcNs,
    /// Own host name.
    UtsNs,
    /// Own view of the cgroup tree.
    CgroupNs,
    /// cgroup values read back.
    CgroupValues,
    /// No set-user-id programs in the root.
    Nosuid,
    /// The binary mounted instead of copied.
    ExecMount,
    /// No core dumps.
    CoreDumps,
    /// Bounding set and the other four sets empty.
    Capabilities,
    /// no_new_privs.
    NoNewPrivs,
    /// Landlock.
    Landlock,
}

impl Addition {
    /// All, in the order of the help.
    pub const ALL: [Self; 14] = [
        Self::Session,
        Self::Keyring,
        Self::Umask,
        Self::Signals,
        Self::IpcNs,
        Self::UtsNs,
        Self::CgroupNs,
        Self::CgroupValues,
        Self::Nosuid,
        Self::ExecMount,
        Self::CoreDumps,
        Self::Capabilities,
        Self::NoNewPrivs,
        Self::Landlock,
    ];

    /// As in `--without`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Keyring => "keyring",
            Self::Umask => "umask",
            Self::Signals => "signals",
            Self::IpcNs => "ipc-ns",
            Self::UtsNs => "uts-ns",
            Self::CgroupNs => "cgroup-ns",
            Self::CgroupValues => "cgroup-values",
            Self::Nosuid => "nosuid",
            Self::ExecMount => "exec-mount",
            Self::CoreDumps => "core-dumps",
            Self::Capabilities => "capabilities",
            Self::NoNewPrivs => "no-new-privs",
            Self::Landlock => "landlock",
        }
    }

    /// What it does, for the help.
    pub const fn what(self) -> &'static str {
        match self {
            Self::Session => "a session of its own, no controlling terminal",
            Self::Keyring => "an empty session keyring",
            Self::Umask => "umask 0077 (off: the caller's)",
            Self::Signals => "signals at their default, none blocked",
            Self::IpcNs => "an IPC namespace of its own",
            Self::UtsNs => "a host name of its own",
            Self::CgroupNs => "the jail's cgroup as the root of what is seen of cgroups",
            Self::CgroupValues => "every cgroup value is read back and compared",
            Self::Nosuid => "no set-user-id bits in the root",
            Self::ExecMount => "the exec file is mounted read-only (off: copied)",
            Self::CoreDumps => "no core dumps",
            Self::Capabilities => "all five capability sets empty, securebits locked",
            Self::NoNewPrivs => "no exec gives more rights",
            Self::Landlock => "no mounts, signals or abstract sockets beyond the jail",
        }
    }

    /// # Errors
    /// [`ValueError::Layer`].
    pub fn parse(value: &OsStr) -> Result<Self, ValueError> {
        Self::ALL
            .into_iter()
            .find(|addition| value == addition.name())
            .ok_or_else(|| ValueError::Layer {
                name: value.to_owned(),
                all: Self::ALL.map(Self::name).join(", "),
            })
    }
}

impl fmt::Display for Addition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
