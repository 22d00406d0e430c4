//! What one jail is to be: plain data that the layers apply and the read-back compares
//! with, kept beside the journal for `casemate inspect`.

use crate::rights::Rights;
use crate::state::Identity;
use casemate_policy::{Namespace, Policy};
use casemate_proto::cell::Layer;
use casemate_proto::control::VmConfig;
use casemate_proto::id::{CellId, TenantId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The host name inside.
pub const HOSTNAME: &str = "casemate";

/// User and group of a plain program as it sees itself. Outside it is the cell's slot, or the
/// launcher.
pub const INSIDE: Identity = Identity {
    uid: 1000,
    gid: 1000,
};

/// What the layers are to bring about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub id: CellId,
    /// All that it is held to.
    pub policy: Policy,
    /// What runs in it.
    pub subject: Subject,
    /// With whose rights it is made.
    pub rights: Rights,
    /// User and group, in the supervisor's user namespace and in one that an ordinary user
    /// made.
    pub identity: Identity,
    /// CPUs it may run on; empty: all.
    pub cpus: Vec<usize>,
    /// Shares a core with none but its own.
    pub core_scheduling: bool,
    /// Layers that may be missing where the host cannot give them.
    pub allow_missing: BTreeSet<Layer>,
    /// Layers left out on purpose, by a jailer that was built for it.
    pub leave_out: BTreeSet<Layer>,
}

/// What runs in a jail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// A VMM, as the first process of its pid namespace.
    Vm(VmConfig),
    /// Any program, under an init of ours.
    Program(Program),
}

/// A plain program. Its arguments and variables' values are not kept: they may be secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its working directory.
    pub workdir: Vec<u8>,
    /// Names of its environment's variables.
    pub variables: Vec<String>,
    /// How many seccomp filters the supervisor itself is under.
    pub outer_filters: u32,
}

impl Plan {
    /// Whether a layer is left out on purpose, for a test of the read-back.
    pub fn leaves_out(&self, layer: Layer) -> bool {
        cfg!(feature = "layer-off") && self.leave_out.contains(&layer)
    }

    /// Whether the user lets a layer be missing.
    pub fn may_miss(&self, layer: Layer) -> bool {
        self.allow_missing.contains(&layer)
    }

    /// Whether it has such a namespace of its own, or one that somebody made for it.
    pub fn unshares(&self, namespace: Namespace) -> bool {
        self.policy.unshares(namespace)
    }

    /// Whether this layer is declared at all.
    pub fn declares(&self, layer: Layer) -> bool {
        match layer {
            Layer::MountNs => self.unshares(Namespace::Mount),
            Layer::PidNs => self.unshares(Namespace::Pid),
            Layer::NetNs => self.unshares(Namespace::Net),
            Layer::IpcNs => self.unshares(Namespace::Ipc),
            Layer::UtsNs => self.unshares(Namespace::Uts),
            Layer::CgroupNs => self.unshares(Namespace::Cgroup),
            Layer::UserNs => self.unshares(Namespace::User),
            Layer::TimeNs => self.unshares(Namespace::Time),
            Layer::CoreScheduling => self.core_scheduling,
            Layer::CpuPinning => !self.cpus.is_empty(),
            // A property of the host, which the preflight looks at.
            Layer::FullKvm => false,
            _ => true,
        }
    }

    /// The VM, where one runs in it.
    pub fn vm(&self) -> Option<&VmConfig> {
        match &self.subject {
            Subject::Vm(vm) => Some(vm),
            Subject::Program(_) => None,
        }
    }

    /// The program, where one runs in it.
    pub fn program(&self) -> Option<&Program> {
        match &self.subject {
            Subject::Vm(_) => None,
            Subject::Program(program) => Some(program),
        }
    }

    /// User and group as seen from inside, with (`mapped`) or without a user namespace.
    pub fn inside(&self, mapped: bool) -> Identity {
        match self.subject {
            Subject::Program(_) if mapped => INSIDE,
            _ => self.identity,
        }
    }
}

/// Layers whose absence makes `layer` impossible: where one of them is missing, `layer` is
/// not tried, and reads back as missing too.
pub fn needs(layer: Layer) -> BTreeSet<Layer> {
    match layer {
        // Without an own mount namespace, a new root would be the whole host's.
        Layer::Root => BTreeSet::from([Layer::MountNs]),
        // Only that user can map itself.
        Layer::UserNs => BTreeSet::from([Layer::User]),
        // Both ask for it.
        Layer::Landlock | Layer::Seccomp => BTreeSet::from([Layer::NoNewPrivs]),
        _ => BTreeSet::new(),
    }
}
