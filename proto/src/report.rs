//! What `casemate run --report FILE` and `casemate jail --report FILE` write.

use crate::cell::{Layer, LayerReport, Limits, Usage};
use crate::status::Outcome;
use casemate_policy::CgroupLimits;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Version of the report's layout.
pub const VERSION: u32 = 1;

/// The report of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// Version of Casemate.
    pub casemate: String,
    /// Tenant.
    pub tenant: String,
    /// Cell.
    pub id: String,
    /// Program and arguments (lossy where not UTF-8).
    pub command: Vec<String>,
    /// Which kernel, by name and digest.
    pub kernel: Option<Artifact>,
    /// Which root, by name and digest.
    pub rootfs: Option<Artifact>,
    /// vCPUs; 0 for a jail.
    pub vcpus: u8,
    /// Guest memory in MiB; 0 for a jail.
    pub memory_mib: u32,
    /// Limits of the process around a guest.
    pub limits: Option<Limits>,
    /// Which policy a jail is held to.
    #[serde(default)]
    pub policy: Option<PolicyUsed>,
    /// Limits of a jail.
    #[serde(default)]
    pub cgroup: Option<CgroupLimits>,
    /// How it ended.
    pub outcome: Outcome,
    /// What `casemate run` exited with.
    pub exit_status: u8,
    /// Times the guest's OOM killer ran, by the guest's own account; for a jail, times the
    /// host's kernel killed in it for want of memory.
    pub guest_oom_kills: u32,
    /// Times.
    pub phases: Phases,
    /// Resources used.
    pub usage: Usage,
    /// Every layer, declared beside observed; empty where no guest was started.
    pub confinement: Vec<LayerReport>,
    /// Layers that the user let be missing.
    pub allow_missing: BTreeSet<Layer>,
}

/// A policy, as it was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyUsed {
    /// Its name.
    pub name: String,
    /// BLAKE3 over all that it enforces; options of the command line came on top.
    pub digest: String,
}

/// A file that went into a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Path or name as given.
    pub name: String,
    /// What it is: `elf`, `bzimage`, `ext4`, `erofs`, `squashfs`.
    pub format: String,
}

/// Times of one run's phases, in microseconds. A phase that was not reached is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Phases {
    /// CLI: from its start to the launch of the jailer.
    pub cli_us: Option<u64>,
    /// Jailer: from its launch to the VMM's `main`.
    pub jailer_us: Option<u64>,
    /// VMM: from its `main` to ready.
    pub vmm_us: Option<u64>,
    /// Read-back: from ready to the guest's first instruction.
    pub readback_us: Option<u64>,
    /// Kernel: from the first instruction to the init, by the guest's account of its own time.
    pub kernel_us: Option<u64>,
    /// Init: from its start to the program's.
    pub init_us: Option<u64>,
    /// The program.
    pub command_us: Option<u64>,
    /// From the program's end to everything cleaned up.
    pub teardown_us: Option<u64>,
    /// All of it.
    pub total_us: u64,
}
