//! Which cgroup hierarchies the host has, and which of them the limits need.

use super::{CgroupError, TOP};
use crate::read;
use casemate_proto::id::{CellId, TenantId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A controller that a cell is limited by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Controller {
    /// Memory and swap.
    Memory,
    /// CPU time.
    Cpu,
    /// Number of tasks.
    Pids,
    /// I/O bandwidth.
    Io,
}

impl Controller {
    /// All that a cell can be limited by.
    pub const ALL: [Self; 4] = [Self::Memory, Self::Cpu, Self::Pids, Self::Io];
    /// Those that every cell has.
    pub const BASE: [Self; 3] = [Self::Memory, Self::Cpu, Self::Pids];

    /// The kernel's name for it.
    pub const fn name(self, version: Version) -> &'static str {
        match (self, version) {
            (Self::Memory, _) => "memory",
            (Self::Cpu, _) => "cpu",
            (Self::Pids, _) => "pids",
            (Self::Io, Version::V2) => "io",
            (Self::Io, Version::V1) => "blkio",
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name(Version::V2))
    }
}

/// Version of a hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// Own hierarchies of one or some controllers each.
    V1,
    /// The one tree.
    V2,
}

/// One mounted hierarchy, with the controllers that are used in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted; or the cgroup in it below which ours are to be.
    pub mount: PathBuf,
    /// The cgroup of the host's that is mounted there.
    pub root: PathBuf,
    /// Its version.
    pub version: Version,
    /// What is used of it; not empty.
    pub controllers: Vec<Controller>,
}

impl Hierarchy {
    /// The same, with everything below this cgroup of it.
    pub fn below(mut self, parent: Option<&str>) -> Self {
        if let Some(parent) = parent {
            self.mount.push(parent);
        }
        self
    }

    /// The cell's directory in it.
    pub fn cell_path(&self, tenant: &TenantId, id: &CellId) -> PathBuf {
        self.mount.join(TOP).join(tenant.as_str()).join(id.as_str())
    }
}

/// Finds the hierarchies of this host, for the controllers that every cell has.
///
/// # Errors
/// [`CgroupError::NoController`].
pub fn detect() -> Result<Vec<Hierarchy>, CgroupError> {
    detect_for(&Controller::BASE)
}

/// Finds the hierarchies of this host, for these controllers.
///
/// # Errors
/// [`CgroupError::NoController`].
pub fn detect_for(controllers: &[Controller]) -> Result<Vec<Hierarchy>, CgroupError> {
    let path = Path::new("/proc/self/mountinfo");
    let mountinfo = read::text(path).map_err(|source| CgroupError::file("read", path, source))?;
    detect_in(&mountinfo, controllers, |mount| {
        read::text(mount.join("cgroup.controllers")).unwrap_or_default()
    })
}

/// Finds them in the text of a mountinfo file (proc_pid_mountinfo(5)); `v2_controllers`
/// returns the text of `cgroup.controllers` of a v2 mount.
///
/// # Errors
/// [`CgroupError::NoController`].
pub fn detect_in(
    mountinfo: &str,
    controllers: &[Controller],
    v2_controllers: impl Fn(&Path) -> String,
) -> Result<Vec<Hierarchy>, CgroupError> {
    let mounts = mounts(mountinfo);
    let mut found: Vec<Hierarchy> = Vec::new();
    let mut add = |mount: &Mount, controller| {
        match found.iter_mut().find(|h| h.mount == mount.point) {
            Some(hierarchy) => hierarchy.controllers.push(controller),
            None => found.push(Hierarchy {
                mount: mount.point.clone(),
                root: mount.root.clone(),
                version: mount.version,
                controllers: vec![controller],
            }),
        };
    };
    let v2: Vec<(&Mount, String)> = mounts
        .iter()
        .filter(|mount| mount.version == Version::V2)
        .map(|mount| (mount, v2_controllers(&mount.point)))
        .collect();
    let in_v1 = |name: &str| {
        mounts.iter().find(|mount| {
            mount.version == Version::V1 && mount.options.split(',').any(|o| o == name)
        })
    };
    let in_v2 = |name: &str| {
        v2.iter()
            .find(|(_, controllers)| controllers.split_ascii_whitespace().any(|c| c == name))
            .map(|(mount, _)| *mount)
    };
    for &controller in controllers {
        let mount = in_v2(controller.name(Version::V2))
            .or_else(|| in_v1(controller.name(Version::V1)))
            .ok_or(CgroupError::NoController { controller })?;
        add(mount, controller);
    }
    Ok(found)
}

/// One cgroup mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub point: PathBuf,
    /// What of it.
    pub root: PathBuf,
    /// Its version.
    pub version: Version,
    /// Its super block's options, separated by commas; on v1 the controllers are among them.
    pub options: String,
}

/// The cgroup mounts in the text of a mountinfo file.
pub fn mounts(mountinfo: &str) -> Vec<Mount> {
    mountinfo.lines().filter_map(Mount::parse).collect()
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let version = match right.next()? {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => return None,
        };
        Some(Self {
            point: unescape(left.split(' ').nth(4)?),
            root: unescape(left.split(' ').nth(3)?),
            version,
            options: right.nth(1)?.to_owned(),
        })
    }
}

/// mountinfo writes space, tab, newline and backslash as `\ooo`.
pub(crate) fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes
            .get(at + 1..at + 4)
            .filter(|_| bytes[at] == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V1: &str = "\
30 24 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
32 30 0:28 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
35 30 0:31 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
38 30 0:34 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
39 30 0:35 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
40 30 0:36 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";

    #[test]
    fn hybrid_with_an_empty_v2_tree_is_v1() {
        let found = detect_in(V1, &Controller::BASE, |_| "hugetlb".to_owned()).unwrap();
        assert!(found.iter().all(|h| h.version == Version::V1));
        let mounts: Vec<_> = found.iter().map(|h| h.mount.to_str().unwrap()).collect();
        assert_eq!(
            mounts,
            [
                "/sys/fs/cgroup/memory",
                "/sys/fs/cgroup/cpu",
                "/sys/fs/cgroup/pids"
            ]
        );
    }

    #[test]
    fn hybrid_takes_each_controller_where_it_is() {
        let found = detect_in(V1, &Controller::BASE, |_| "memory pids".to_owned()).unwrap();
        assert_eq!(found[0].version, Version::V2);
        assert_eq!(found[0].controllers, [Controller::Memory, Controller::Pids]);
        assert_eq!(found[1].controllers, [Controller::Cpu]);
    }

    #[test]
    fn v2_is_one_tree() {
        let text = "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate";
        let found = detect_in(text, &Controller::BASE, |_| {
            "cpuset cpu io memory pids\n".to_owned()
        })
        .unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].controllers, Controller::BASE);
    }

    #[test]
    fn comounted_controllers_share_a_hierarchy() {
        let text = "\
1 0 0:1 / /cg/cpu,pids rw - cgroup cgroup rw,cpu,pids
2 0 0:2 / /cg/my\\040memory rw - cgroup cgroup rw,memory";
        let found = detect_in(text, &Controller::BASE, |_| String::new()).unwrap();
        assert_eq!(found[0].mount, Path::new("/cg/my memory"));
        assert_eq!(found[1].controllers, [Controller::Cpu, Controller::Pids]);
    }

    #[test]
    fn a_missing_controller_is_named() {
        let text = "1 0 0:1 / /cg rw - cgroup2 cgroup2 rw";
        let error = detect_in(text, &Controller::BASE, |_| "cpu pids".to_owned()).unwrap_err();
        assert!(error.to_string().contains("controller memory"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(?s).{0,400}") {
            let _ = detect_in(&text, &Controller::ALL, |_| text.clone());
            let _ = unescape(&text);
        }
    }
}
