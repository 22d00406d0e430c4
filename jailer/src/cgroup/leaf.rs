//! One cgroup of the cell in one hierarchy.

use super::settings::{Setting, settings};
use super::{CgroupError, Controller, Hierarchy, TOP, Version, stale, write};
use crate::state::CgroupRecord;
use casemate_policy::CgroupLimits;
use casemate_proto::id::{CellId, TenantId};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Tries to make a directory whose parent another cell's end keeps removing.
const ATTEMPTS: u32 = 1000;

/// The cell's cgroup in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    path: PathBuf,
    inode: u64,
    version: Version,
    controllers: Vec<Controller>,
    set: Vec<Setting>,
}

impl Leaf {
    /// Makes it, with its parents, and hands the controllers down on v2.
    ///
    /// # Errors
    /// [`CgroupError::Taken`] where it is there and has processes; calls' own.
    pub fn create(
        hierarchy: &Hierarchy,
        tenant: &TenantId,
        id: &CellId,
    ) -> Result<Self, CgroupError> {
        let path = hierarchy.cell_path(tenant, id);
        for _ in 0..ATTEMPTS {
            match make(hierarchy, tenant, &path) {
                Ok(()) => {}
                // The end of the tenant's last other cell removed a parent just now.
                Err(e) if e.is_gone() => continue,
                Err(e) if e.is_there() => {
                    stale::remove_unused(&path)?;
                    continue;
                }
                Err(e) => return Err(e),
            }
            let inode = fs::symlink_metadata(&path)
                .map_err(|e| CgroupError::file("stat", &path, e))?
                .ino();
            return Ok(Self {
                path,
                inode,
                version: hierarchy.version,
                controllers: hierarchy.controllers.clone(),
                set: Vec::new(),
            });
        }
        Err(CgroupError::Taken { path })
    }

    /// Sets the limits. Whether they hold is read back before anything untrusted runs.
    ///
    /// # Errors
    /// What cannot be set.
    pub fn limit(&mut self, limits: &CgroupLimits) -> Result<(), CgroupError> {
        for &controller in &self.controllers {
            for setting in settings(self.version, controller, limits) {
                let path = self.path.join(&*setting.file);
                match write(&path, &setting.value) {
                    Ok(()) => {}
                    Err(e) if e.kind() == ErrorKind::NotFound && setting.only_swap => {
                        if host_has_swap() {
                            return Err(CgroupError::Swap { path });
                        }
                        continue;
                    }
                    Err(e) => return Err(CgroupError::file("write", &path, e)),
                }
                self.set.push(setting);
            }
        }
        Ok(())
    }

    /// Reads every limit that was set, and returns them as "file value" pairs.
    ///
    /// # Errors
    /// [`CgroupError::NotAsSet`], and calls' own.
    pub fn check_limits(&self) -> Result<Vec<String>, CgroupError> {
        self.set
            .iter()
            .map(|setting| {
                let path = self.path.join(&*setting.file);
                let found =
                    crate::read::text(&path).map_err(|e| CgroupError::file("read", &path, e))?;
                match found.lines().any(|line| line.trim_end() == setting.shown) {
                    true => Ok(format!("{} {}", setting.file, setting.value)),
                    false => Err(CgroupError::NotAsSet {
                        path,
                        wanted: setting.value.clone(),
                        found: found.trim_end().to_owned(),
                    }),
                }
            })
            .collect()
    }

    /// What was set, as "file value" pairs.
    pub fn declared(&self) -> Vec<String> {
        self.set
            .iter()
            .map(|setting| format!("{} {}", setting.file, setting.value))
            .collect()
    }

    /// Ids of the threads in it, in the reader's pid namespace.
    ///
    /// # Errors
    /// The call's own.
    pub fn threads(&self) -> Result<Vec<i32>, CgroupError> {
        let path = self.path.join(match self.version {
            Version::V1 => "tasks",
            Version::V2 => "cgroup.threads",
        });
        let text = crate::read::text(&path).map_err(|e| CgroupError::file("read", &path, e))?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// The file by which a thread joins it.
    ///
    /// # Errors
    /// The call's own.
    pub fn join_file(&self) -> Result<File, CgroupError> {
        let path = self.path.join(match self.version {
            Version::V1 => "tasks",
            Version::V2 => "cgroup.procs",
        });
        OpenOptions::new()
            .write(true)
            .open(&path)
            .map_err(|e| CgroupError::file("open", &path, e))
    }

    /// Its directory, open.
    ///
    /// # Errors
    /// The call's own.
    pub fn open(&self) -> Result<File, CgroupError> {
        File::open(&self.path).map_err(|e| CgroupError::file("open", &self.path, e))
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// For the journal.
    pub fn record(&self) -> CgroupRecord {
        CgroupRecord {
            path: self.path.clone(),
            inode: Some(self.inode),
        }
    }

    /// Most memory held, in bytes (v2: from Linux 5.19 on).
    pub fn memory_peak(&self) -> Option<u64> {
        let file = match self.version {
            Version::V1 => "memory.max_usage_in_bytes",
            Version::V2 => "memory.peak",
        };
        let text = crate::read::text(self.path.join(file)).ok()?;
        text.trim_end().parse().ok()
    }

    /// How often the kernel killed for want of memory (v1: from Linux 4.13 on).
    pub fn oom_kills(&self) -> Option<u32> {
        let file = match self.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let text = crate::read::text(self.path.join(file)).ok()?;
        text.lines()
            .find_map(|line| line.strip_prefix("oom_kill "))?
            .parse()
            .ok()
    }

    /// How often a task was refused because of the limit (`pids.events`, from Linux 4.8 on).
    pub fn tasks_refused(&self) -> Option<u32> {
        let text = crate::read::text(self.path.join("pids.events")).ok()?;
        text.lines()
            .find_map(|line| line.strip_prefix("max "))?
            .parse()
            .ok()
    }
}

impl CgroupError {
    /// The directory was removed: `ENOENT`, or `ENODEV` where a file in it was open.
    fn is_gone(&self) -> bool {
        matches!(self, Self::File { source, .. } | Self::Delegate { source, .. }
            if matches!(source.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)))
    }

    fn is_there(&self) -> bool {
        matches!(self, Self::File { source, .. } if source.kind() == ErrorKind::AlreadyExists)
    }
}

fn make(hierarchy: &Hierarchy, tenant: &TenantId, leaf: &Path) -> Result<(), CgroupError> {
    let top = hierarchy.mount.join(TOP);
    let tenant = top.join(tenant.as_str());
    for (parent, dir) in [(hierarchy.mount.as_path(), &top), (top.as_path(), &tenant)] {
        delegate(hierarchy, parent)?;
        match fs::create_dir(dir) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(CgroupError::file("create", dir, e)),
        }
    }
    delegate(hierarchy, &tenant)?;
    fs::create_dir(leaf).map_err(|e| CgroupError::file("create", leaf, e))
}

/// On v2, a cgroup's children have the controllers that its `cgroup.subtree_control` names.
fn delegate(hierarchy: &Hierarchy, parent: &Path) -> Result<(), CgroupError> {
    if hierarchy.version == Version::V1 {
        return Ok(());
    }
    let path = parent.join("cgroup.subtree_control");
    let there = crate::read::text(&path).map_err(|e| CgroupError::file("read", &path, e))?;
    let missing: Vec<String> = hierarchy
        .controllers
        .iter()
        .filter(|c| {
            !there
                .split_ascii_whitespace()
                .any(|name| name == c.name(Version::V2))
        })
        .map(|c| format!("+{c}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let controllers = missing.join(" ");
    write(&path, &controllers).map_err(|source| CgroupError::Delegate {
        path: parent.to_owned(),
        controllers,
        source,
    })
}

/// Whether any swap is on (proc_swaps(5): one line a swap area, under one line of titles).
/// Where the kernel does not tell, it has none.
fn host_has_swap() -> bool {
    match crate::read::text("/proc/swaps") {
        Ok(text) => text.lines().count() > 1,
        Err(e) => e.kind() != io::ErrorKind::NotFound,
    }
}
