//! What a supervisor would have to undo, written down before it does it.

use crate::cgroup::CellCgroup;
use crate::clock;
use crate::plan::Plan;
use casemate_proto::cell::Layer;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The journal of one cell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    /// `/proc/sys/kernel/random/boot_id`: what an earlier boot made is gone.
    pub boot: String,
    /// Folder of the audit log that knows of the cell, if one does.
    #[serde(default)]
    pub audit: Option<PathBuf>,
    /// cgroups that are about to be made, or were.
    pub cgroups: Vec<CgroupRecord>,
    /// The cell's first process, once there is one.
    pub process: Option<ProcessRecord>,
    /// What was declared, for `casemate inspect`.
    pub declared: Option<Declared>,
}

/// What a running cell is held to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// Everything but the cgroups.
    pub plan: Plan,
    /// The cgroups.
    pub cgroup: Option<CellCgroup>,
    /// Layers that are not in force, and why.
    pub missing: BTreeMap<Layer, String>,
    /// Optional mounts that are not there.
    pub absent: BTreeSet<usize>,
    /// Mounts of the host's that are covered.
    pub covered: BTreeSet<String>,
}

impl Journal {
    /// The journal of a cell that has nothing yet.
    pub fn new() -> Self {
        Self {
            boot: clock::boot_id(),
            ..Self::default()
        }
    }

    /// Whether this boot wrote it.
    pub fn is_of_this_boot(&self) -> bool {
        self.boot == clock::boot_id()
    }
}

/// One cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CgroupRecord {
    /// Its directory.
    pub path: PathBuf,
    /// The directory's inode once it was made by us. Without it nothing in it is ever
    /// killed: a cell of another run directory may have made it.
    pub inode: Option<u64>,
}

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessRecord {
    /// Its pid in the host's pid namespace.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: tells it from a later process with the same pid.
    pub start_time: u64,
}
