//! The cell's cgroup: found, made, limited, read back, removed (cgroups(7)).
//!
//! The limits need the controllers memory, cpu and pids. Each is used where the host has
//! it: in the one tree of v2, or in a hierarchy of its own in v1, or, on a hybrid host, in
//! either. In each hierarchy so found the cell gets `casemate/TENANT/ID`.

mod delegated;
mod hierarchy;
mod leaf;
mod settings;
mod stale;

pub use delegated::{Aside, delegated};
pub(crate) use hierarchy::unescape;
pub use hierarchy::{Controller, Hierarchy, Mount, Version, detect, detect_for, detect_in, mounts};
pub use leaf::Leaf;
pub use settings::{Setting, settings};
pub use stale::{clear, kill_all};

use crate::state::CgroupRecord;
use casemate_policy::CgroupLimits;
use casemate_proto::id::{CellId, TenantId};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Name of the directory above all tenants', in each hierarchy.
const TOP: &str = "casemate";

/// What can be wrong with cgroups.
#[derive(Debug, Error)]
pub enum CgroupError {
    /// A controller is in no hierarchy.
    #[error(
        "the cgroup controller {controller} is neither in a v1 hierarchy nor in the v2 tree: \
         mount cgroup2 at /sys/fs/cgroup, or boot without cgroup_disable={controller}"
    )]
    NoController {
        /// Which.
        controller: Controller,
    },
    /// A controller cannot be handed down.
    #[error(
        "cannot hand the cgroup controllers {controllers} down in {path}: {source}; on a v2 \
         tree that is not the host's own, move its processes into a child first",
        path = path.display()
    )]
    Delegate {
        /// In which cgroup.
        path: PathBuf,
        /// What was written to its `cgroup.subtree_control`.
        controllers: String,
        /// Why.
        source: io::Error,
    },
    /// An ordinary user has no cgroup to make others in.
    #[error(
        "the cgroup {path} is not this user's to limit {controllers} in: start it in one that \
         was handed to it (where systemd has cgroup v2: systemd-run --user --scope -p \
         Delegate=yes casemate jail ...), name one with --parent-cgroup, or give \
         --allow-missing cgroup and go without those limits",
        path = path.display()
    )]
    NotDelegated {
        /// Its own.
        path: PathBuf,
        /// Which of them are needed.
        controllers: String,
    },
    /// A file or directory of the cgroup file system.
    #[error("cannot {what} {path}: {source}", path = path.display())]
    File {
        /// "read", "write", "create", "remove".
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A cgroup of that name has processes of somebody else.
    #[error(
        "the cgroup {path} is in use, though no cell of this run directory has it: \
         stop the cell of the other run directory, or choose another --id",
        path = path.display()
    )]
    Taken {
        /// Which.
        path: PathBuf,
    },
    /// The kernel took a limit and shows another.
    #[error("{path} was set to {wanted} and reads {found}: the limit cannot be given", path = path.display())]
    NotAsSet {
        /// Which file.
        path: PathBuf,
        /// Written.
        wanted: String,
        /// Read.
        found: String,
    },
    /// Swap is on and cannot be limited.
    #[error(
        "{path} is missing while the host has swap, so the cell could use it: boot with \
         swapaccount=1, or switch swap off (swapoff -a)",
        path = path.display()
    )]
    Swap {
        /// Which file.
        path: PathBuf,
    },
    /// Processes that do not die.
    #[error("the cgroup {path} still has processes after they were killed: see what holds them", path = path.display())]
    Alive {
        /// Which.
        path: PathBuf,
    },
}

impl CgroupError {
    fn file(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File {
            what,
            path: path.to_owned(),
            source,
        }
    }
}

/// Writes a value to a file that is there: with `O_CREAT`, which `fs::write` gives, the
/// kernel answers a missing file with another error than `ENOENT`.
fn write(path: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .open(path)?
        .write_all(value.as_bytes())
}

/// The cell's cgroups, one in each hierarchy that is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellCgroup {
    leaves: Vec<Leaf>,
    /// What the limits read as, once they were looked at.
    #[serde(skip)]
    checked: Option<Result<Vec<String>, String>>,
}

/// Where the cell's cgroups will be: for the journal, before anything is made.
pub fn planned(hierarchies: &[Hierarchy], tenant: &TenantId, id: &CellId) -> Vec<CgroupRecord> {
    hierarchies
        .iter()
        .map(|hierarchy| CgroupRecord {
            path: hierarchy.cell_path(tenant, id),
            inode: None,
        })
        .collect()
}

impl CellCgroup {
    /// Makes the cell's cgroups and sets their limits.
    ///
    /// # Errors
    /// What could not be made or set; what was made is removed again.
    pub fn create(
        hierarchies: &[Hierarchy],
        tenant: &TenantId,
        id: &CellId,
        limits: &CgroupLimits,
    ) -> Result<Self, CgroupError> {
        let mut made = Self {
            leaves: Vec::new(),
            checked: None,
        };
        for hierarchy in hierarchies {
            match Leaf::create(hierarchy, tenant, id) {
                Ok(leaf) => {
                    made.leaves.push(leaf);
                    let leaf = made.leaves.last_mut().expect("just pushed");
                    if let Err(e) = leaf.limit(limits) {
                        let _ = made.remove();
                        return Err(e);
                    }
                }
                Err(e) => {
                    let _ = made.remove();
                    return Err(e);
                }
            }
        }
        Ok(made)
    }

    /// Reads all limits, which nobody but us can set, and keeps what they read as.
    pub fn check(&mut self) {
        self.checked = Some(self.read_limits());
    }

    /// What the limits read as: as kept, or now. `Err` names one that is not as it was set.
    ///
    /// # Errors
    /// In words, for the report.
    pub fn limits(&self) -> Result<Vec<String>, String> {
        self.checked.clone().unwrap_or_else(|| self.read_limits())
    }

    fn read_limits(&self) -> Result<Vec<String>, String> {
        let mut all = Vec::new();
        for leaf in &self.leaves {
            all.extend(leaf.check_limits().map_err(|e| e.to_string())?);
        }
        Ok(all)
    }

    /// What was made, for the journal.
    pub fn records(&self) -> Vec<CgroupRecord> {
        self.leaves.iter().map(Leaf::record).collect()
    }

    /// The cgroups.
    pub fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// The v2 cgroup to clone the child into, if there is one.
    ///
    /// # Errors
    /// The call's own.
    pub fn clone_into(&self) -> Result<Option<File>, CgroupError> {
        let leaf = self
            .leaves
            .iter()
            .find(|leaf| leaf.version() == Version::V2);
        leaf.map(Leaf::open).transpose()
    }

    /// The files by which a process joins the v1 cgroups.
    ///
    /// # Errors
    /// The calls' own.
    pub fn join_files(&self) -> Result<Vec<File>, CgroupError> {
        self.leaves
            .iter()
            .filter(|leaf| leaf.version() == Version::V1)
            .map(Leaf::join_file)
            .collect()
    }

    /// How often the kernel killed for want of memory; `None` where it does not tell.
    pub fn oom_kills(&self) -> Option<u32> {
        self.leaves.iter().find_map(Leaf::oom_kills)
    }

    /// How often a task was refused because of the limit; `None` where the kernel does not tell.
    pub fn tasks_refused(&self) -> Option<u32> {
        self.leaves.iter().find_map(Leaf::tasks_refused)
    }

    /// Most memory the cell held, in bytes; `None` where the kernel does not tell.
    pub fn memory_peak(&self) -> Option<u64> {
        self.leaves.iter().find_map(Leaf::memory_peak)
    }

    /// Removes the cgroups, which must have no living process, and the directories above
    /// that nobody else uses.
    ///
    /// # Errors
    /// The first that cannot be removed; the others are removed all the same.
    pub fn remove(&self) -> Result<(), CgroupError> {
        let mut result = Ok(());
        for leaf in &self.leaves {
            result = result.and(stale::remove(leaf.path()));
        }
        result
    }
}
