//! Where an ordinary user may make cgroups: in one that was handed to it (cgroups(7),
//! "Delegation"), as systemd does with that of a user's session. Its own, or one above it.

use super::{CgroupError, Controller, Hierarchy, TOP, Version, write};
use rustix::fs::{Access, access};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The cgroup in which supervisors are that stepped aside; `_` is in no tenant's name.
pub const ASIDE: &str = "_supervisors";

/// The hierarchy below the cgroup of the caller that it may make others in: on v2 with all
/// controllers, and without a process other than the caller.
///
/// # Errors
/// [`CgroupError::NotDelegated`].
pub fn delegated(mut hierarchy: Hierarchy) -> Result<Hierarchy, CgroupError> {
    let file = Path::new("/proc/self/cgroup");
    let text = crate::read::text(file).map_err(|e| CgroupError::file("read", file, e))?;
    let own = own_path(&text, &hierarchy).unwrap_or_default();
    let inside = own.strip_prefix(&hierarchy.root).unwrap_or(&own);
    let own = hierarchy.mount.join(inside);
    let usable = own
        .ancestors()
        .take_while(|path| path.starts_with(&hierarchy.mount))
        .find(|path| is_ours(path, &hierarchy));
    match usable {
        Some(path) => {
            hierarchy.mount = path.to_owned();
            Ok(hierarchy)
        }
        None => Err(CgroupError::NotDelegated {
            path: own,
            controllers: names(&hierarchy.controllers, hierarchy.version),
        }),
    }
}

fn names(controllers: &[Controller], version: Version) -> String {
    let names: Vec<&str> = controllers.iter().map(|c| c.name(version)).collect();
    names.join(" ")
}

/// The caller's path in a hierarchy, from the text of `/proc/self/cgroup`.
fn own_path(text: &str, hierarchy: &Hierarchy) -> Option<PathBuf> {
    let wanted = match hierarchy.version {
        Version::V2 => "",
        version => hierarchy.controllers.first()?.name(version),
    };
    text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        let path = fields.next()?.trim_start_matches('/');
        let found = match wanted {
            "" => controllers.is_empty(),
            wanted => controllers.split(',').any(|name| name == wanted),
        };
        found.then(|| PathBuf::from("/").join(path))
    })
}

/// Whether we may make a cgroup in this one and have its controllers in that.
fn is_ours(path: &Path, hierarchy: &Hierarchy) -> bool {
    let may_write = |path: &Path| access(path, Access::WRITE_OK).is_ok();
    if !may_write(path) {
        return false;
    }
    if hierarchy.version == Version::V1 {
        return true;
    }
    let files = ["cgroup.procs", "cgroup.subtree_control"];
    files.iter().all(|file| may_write(&path.join(file)))
        && lacks(&path.join("cgroup.controllers"), hierarchy).is_empty()
        && (lacks(&path.join("cgroup.subtree_control"), hierarchy).is_empty()
            || others_in(path).is_some_and(|others| others == 0))
}

/// The controllers that a list of the kernel's does not have.
fn lacks(list: &Path, hierarchy: &Hierarchy) -> Vec<Controller> {
    let there = crate::read::text(list).unwrap_or_default();
    hierarchy
        .controllers
        .iter()
        .copied()
        .filter(|c| {
            !there
                .split_ascii_whitespace()
                .any(|name| name == c.name(Version::V2))
        })
        .collect()
}

/// How many processes other than the caller are in a cgroup itself.
fn others_in(path: &Path) -> Option<usize> {
    let text = crate::read::text(path.join("cgroup.procs")).ok()?;
    let own = std::process::id().to_string();
    Some(text.lines().filter(|line| *line != own).count())
}

/// A supervisor that went out of the way: on v2 a cgroup that hands controllers down has no
/// process of its own.
#[derive(Debug)]
pub struct Aside {
    base: PathBuf,
    controllers: String,
}

impl Aside {
    /// Moves the calling process into a cgroup below `hierarchy`'s, if it is in that one and in
    /// the way.
    ///
    /// # Errors
    /// What cannot be made or written.
    pub fn step(hierarchy: &Hierarchy) -> Result<Option<Self>, CgroupError> {
        let base = &hierarchy.mount;
        let lacks = lacks(&base.join("cgroup.subtree_control"), hierarchy);
        let procs = crate::read::text(base.join("cgroup.procs")).unwrap_or_default();
        let own = std::process::id().to_string();
        let in_the_way = procs.lines().any(|line| line == own);
        if hierarchy.version == Version::V1 || lacks.is_empty() || !in_the_way {
            return Ok(None);
        }
        let aside = base.join(TOP).join(ASIDE);
        for dir in [&base.join(TOP), &aside] {
            match fs::create_dir(dir) {
                Err(e) if e.kind() != ErrorKind::AlreadyExists => {
                    return Err(CgroupError::file("create", dir, e));
                }
                _ => {}
            }
        }
        let procs = aside.join("cgroup.procs");
        write(&procs, &own).map_err(|e| CgroupError::file("write", &procs, e))?;
        Ok(Some(Self {
            base: base.clone(),
            controllers: lacks.iter().map(|c| format!("-{c} ")).collect(),
        }))
    }

    /// Goes back, and leaves the cgroup as it was found. Where other jails are in it, that is
    /// for the last of them to do.
    pub fn back(self) {
        let top = self.base.join(TOP);
        let all = [&top, &self.base].iter().all(|path| {
            let control = path.join("cgroup.subtree_control");
            write(&control, self.controllers.trim_end()).is_ok()
        });
        let own = std::process::id().to_string();
        if all && write(&self.base.join("cgroup.procs"), &own).is_ok() {
            let _ = fs::remove_dir(top.join(ASIDE));
            let _ = fs::remove_dir(top);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_path_is_that_of_the_hierarchy() {
        let text = "8:pids:/p\n4:cpu,memory:/m/n\n1:name=systemd:/s\n0::/user.slice/a:b\n";
        let of = |version, controller| {
            let hierarchy = Hierarchy {
                mount: "/sys/fs/cgroup".into(),
                root: "/".into(),
                version,
                controllers: vec![controller],
            };
            own_path(text, &hierarchy).map(|path| path.display().to_string())
        };
        let memory = Controller::Memory;
        assert_eq!(of(Version::V1, memory).as_deref(), Some("/m/n"));
        assert_eq!(of(Version::V1, Controller::Pids).as_deref(), Some("/p"));
        assert_eq!(of(Version::V1, Controller::Io), None);
        assert_eq!(of(Version::V2, memory).as_deref(), Some("/user.slice/a:b"));
    }

    #[test]
    fn a_folder_of_nobodys_is_not_handed_to_us() {
        let hierarchy = |version| Hierarchy {
            mount: "/nonexistent".into(),
            root: "/".into(),
            version,
            controllers: vec![Controller::Memory],
        };
        for version in [Version::V1, Version::V2] {
            let error = delegated(hierarchy(version)).unwrap_err().to_string();
            assert!(error.contains("--parent-cgroup"), "{error}");
        }
    }
}
