//! cgroups as the command line asks for them: `PARENT/ID` in every hierarchy that a
//! `--cgroup` names a file of (cgroups(7)).
//!
//! A controller is used where the host has it: in a v1 hierarchy of its own, in the v2 tree,
//! or, on a hybrid host, in either. What was made is marked with an extended attribute, so
//! that the last jail below a parent, and only it, removes the parent again.

use super::Addition;
use super::error::PeerError;
use super::folder::Folder;
use super::options::Options;
use super::reading::reads_as;
use super::record::UsedCgroup;
use super::values::{CgroupSetting, ParentCgroup, PeerId};
use crate::cgroup::{CgroupError, Mount, Version, kill_all, mounts};
use rustix::fs::{OFlags, XattrFlags, fgetxattr, fsetxattr};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Marks what we made; `trusted` is root's alone.
const MARK: &str = "trusted.casemate";

/// Tries to make a directory whose parent other jails' ends keep removing.
const ATTEMPTS: u32 = 64;

/// How long dead processes may take to leave their cgroup.
const PATIENCE: Duration = Duration::from_secs(3);

/// The jail's cgroup in one hierarchy.
#[derive(Debug)]
pub struct Leaf {
    mount: PathBuf,
    version: Version,
    /// Below the mount.
    components: Vec<String>,
    settings: Vec<CgroupSetting>,
    /// Whether it is an operator's cgroup, to be joined as it is.
    joined_only: bool,
    folder: Option<Folder>,
}

/// Finds out which cgroups there are to be. Nothing is made yet.
///
/// # Errors
/// A controller that is nowhere; a parent without a name.
pub fn plan(options: &Options, name: &OsStr) -> Result<Vec<Leaf>, PeerError> {
    let only_v2 = options.cgroup_version == Some(Version::V2);
    if options.cgroups.is_empty() && !only_v2 {
        return Ok(Vec::new());
    }
    let parent = match &options.parent_cgroup {
        Some(parent) => parent.clone(),
        None => ParentCgroup::of_name(name).map_err(PeerError::Name)?,
    };
    let path = Path::new("/proc/self/mountinfo");
    let text =
        fs::read_to_string(path).map_err(|e| PeerError::path("read", path, e, "mount /proc"))?;
    let mounts = mounts(&text);
    if options.cgroups.is_empty() {
        return Ok(operators(&mounts, &parent)?.into_iter().collect());
    }
    let mut leaves: Vec<Leaf> = Vec::new();
    for setting in &options.cgroups {
        let mount = place(&mounts, setting.controller(), options.cgroup_version)?;
        match leaves.iter_mut().find(|leaf| leaf.mount == mount.point) {
            Some(leaf) => leaf.settings.push(setting.clone()),
            None => leaves.push(Leaf::new(mount, &parent, &options.id, setting.clone())),
        }
    }
    Ok(leaves)
}

/// With `--cgroup-version 2` and no setting: the parent itself, if the operator made it.
fn operators(mounts: &[Mount], parent: &ParentCgroup) -> Result<Option<Leaf>, PeerError> {
    let tree = mounts.iter().find(|mount| mount.version == Version::V2);
    let tree = tree.ok_or_else(|| {
        PeerError::step(
            "--cgroup-version 2",
            "this host has no v2 tree",
            "mount cgroup2 at /sys/fs/cgroup, or leave the flag out",
        )
    })?;
    let leaf = Leaf {
        mount: tree.point.clone(),
        version: Version::V2,
        components: parent.0.clone(),
        settings: Vec::new(),
        joined_only: true,
        folder: None,
    };
    Ok(leaf.path().exists().then_some(leaf))
}

/// The hierarchy that has a controller.
fn place<'a>(
    mounts: &'a [Mount],
    controller: &str,
    version: Option<Version>,
) -> Result<&'a Mount, PeerError> {
    let has = |mount: &&Mount| match mount.version {
        Version::V1 => mount.options.split(',').any(|option| option == controller),
        Version::V2 => fs::read_to_string(mount.point.join("cgroup.controllers"))
            .is_ok_and(|text| text.split_ascii_whitespace().any(|c| c == controller)),
    };
    mounts
        .iter()
        .filter(|mount| version.is_none_or(|version| mount.version == version))
        .find(has)
        .ok_or_else(|| {
            let (where_, remedy) = match version {
                None => ("in no cgroup hierarchy of this host", "see /proc/cgroups"),
                Some(Version::V1) => (
                    "in no v1 hierarchy of this host",
                    "leave --cgroup-version out: it is found where it is",
                ),
                Some(Version::V2) => (
                    "not in the v2 tree of this host",
                    "leave --cgroup-version out: it is found where it is",
                ),
            };
            PeerError::step(
                format!("--cgroup {controller}"),
                format!("the controller is {where_}"),
                remedy,
            )
        })
}

impl Leaf {
    fn new(mount: &Mount, parent: &ParentCgroup, id: &PeerId, setting: CgroupSetting) -> Self {
        let mut components = parent.0.clone();
        components.push(id.as_str().to_owned());
        Self {
            mount: mount.point.clone(),
            version: mount.version,
            components,
            settings: vec![setting],
            joined_only: false,
            folder: None,
        }
    }

    fn path(&self) -> PathBuf {
        self.components
            .iter()
            .fold(self.mount.clone(), |path, part| path.join(part))
    }

    /// For the journal, before anything is made; `None` where nothing will be.
    pub fn planned(&self) -> Option<UsedCgroup> {
        let path = self.path();
        let made = path
            .ancestors()
            .take(self.components.len())
            .filter(|dir| !dir.exists())
            .count();
        (!self.joined_only).then_some(UsedCgroup {
            path,
            made,
            inode: None,
        })
    }

    /// Makes it, with the directories above, and returns its inode.
    ///
    /// # Errors
    /// Where somebody else's processes are in it; calls' own.
    pub fn make(&mut self) -> Result<u64, PeerError> {
        let mut tried = 0;
        loop {
            match self.try_make() {
                // The end of the last other jail may have removed a parent just now.
                Err(PeerError::Path { .. }) if tried < ATTEMPTS => tried += 1,
                result => return result,
            }
        }
    }

    fn try_make(&mut self) -> Result<u64, PeerError> {
        let mut folder = Folder::anyones(&self.mount)?;
        let (last, parents) = self.components.split_last().expect("an id is in it");
        for part in parents {
            self.hand_down(&folder)?;
            folder = enter(&folder, part)?;
        }
        self.hand_down(&folder)?;
        let folder = match self.joined_only {
            true => folder.open(last)?,
            false => enter(&folder, last)?,
        };
        if !self.joined_only && !read(&folder, "cgroup.procs")?.trim().is_empty() {
            return Err(PeerError::step(
                format!("the cgroup {}", folder.path().display()),
                "there are processes in it, and they are not this jail's",
                "end them, or choose another --parent-cgroup or --id",
            ));
        }
        let inode = folder.inode()?.1;
        self.folder = Some(folder);
        Ok(inode)
    }

    /// On v2, a cgroup's children have the controllers that its `cgroup.subtree_control` names;
    /// on v1, those of cpuset begin without a CPU and without memory.
    fn hand_down(&self, folder: &Folder) -> Result<(), PeerError> {
        if self.joined_only || self.version == Version::V1 {
            return Ok(());
        }
        let on = read(folder, "cgroup.subtree_control")?;
        for setting in &self.settings {
            let controller = setting.controller();
            if !on.split_ascii_whitespace().any(|c| c == controller) {
                write(folder, "cgroup.subtree_control", &format!("+{controller}"))?;
            }
        }
        Ok(())
    }

    fn folder(&self) -> &Folder {
        self.folder.as_ref().expect("make() comes first")
    }

    /// Writes the values, in their order, and reads each back.
    ///
    /// # Errors
    /// What the kernel refuses, or shows otherwise.
    pub fn set(&self, compare: bool) -> Result<(), PeerError> {
        let folder = self.folder();
        if self.version == Version::V1 {
            self.inherit_cpuset()?;
        }
        for setting in &self.settings {
            write(folder, &setting.file, &setting.value)?;
        }
        for setting in self.settings.iter().filter(|_| compare) {
            // A file that only takes (`devices.deny`) or only does (`memory.reclaim`).
            let Ok(found) = read(folder, &setting.file) else {
                continue;
            };
            if !reads_as(&setting.value, &found) {
                let path = folder.path().join(&setting.file);
                return Err(PeerError::layer(
                    Addition::CgroupValues,
                    format!(
                        "does not hold: {} was set to {:?} and reads {:?}",
                        path.display(),
                        setting.value,
                        found.trim_end()
                    ),
                    "give the value as the kernel shows it",
                ));
            }
        }
        Ok(())
    }

    /// Gives every directory from the top down the CPUs and memory of the one above, where
    /// it has none.
    fn inherit_cpuset(&self) -> Result<(), PeerError> {
        if !self.settings.iter().any(|s| s.controller() == "cpuset") {
            return Ok(());
        }
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let mut folder = Folder::anyones(&self.mount)?;
            for part in &self.components {
                let above = read(&folder, file)?;
                folder = folder.open(part)?;
                if read(&folder, file)?.trim().is_empty() {
                    write(&folder, file, above.trim())?;
                }
            }
        }
        Ok(())
    }

    /// Moves the calling process into it, and sees that it is there. On v1 the thread moves
    /// itself, which takes no lock that every fork on the host takes.
    ///
    /// # Errors
    /// The calls' own.
    pub fn join(&self) -> Result<(), PeerError> {
        let folder = self.folder();
        let file = match self.version {
            Version::V1 => "tasks",
            Version::V2 => "cgroup.procs",
        };
        write(folder, file, "0")?;
        let own = std::process::id().to_string();
        match read(folder, file)?.lines().any(|line| line == own) {
            true => Ok(()),
            false => Err(PeerError::NotAsDeclared {
                what: "the cgroup",
                declared: folder.path().display().to_string(),
                observed: "without the process".to_owned(),
            }),
        }
    }
}

/// Moves the calling process to the roots of all hierarchies that it joined one in, so that
/// they can be removed. It is about to exit.
///
/// # Errors
/// The calls' own.
pub fn leave(leaves: &[Leaf]) -> Result<(), PeerError> {
    for leaf in leaves.iter().filter(|leaf| leaf.folder.is_some()) {
        let file = match leaf.version {
            Version::V1 => "tasks",
            Version::V2 => "cgroup.procs",
        };
        write(&Folder::anyones(&leaf.mount)?, file, "0")?;
    }
    Ok(())
}

/// Makes and marks a directory if it is not there, and opens it.
fn enter(above: &Folder, name: &str) -> Result<Folder, PeerError> {
    let there = above.existing(name)?;
    if let Some(there) = there {
        return Ok(there);
    }
    let made = above.make(name, 0o755)?;
    // An old v1 hierarchy may take no attributes; then the parent stays, empty.
    let _ = fsetxattr(&made, MARK, b"1", XattrFlags::empty());
    Ok(made)
}

fn read(folder: &Folder, file: &str) -> Result<String, PeerError> {
    let failed = |e: &dyn std::fmt::Display| {
        PeerError::path(
            "read",
            &folder.path().join(file),
            e,
            "see that the kernel has this file",
        )
    };
    let mut text = String::new();
    folder
        .existing_file(file, OFlags::RDONLY)
        .map_err(|e| failed(&e))?
        .read_to_string(&mut text)
        .map_err(|e| failed(&e))?;
    Ok(text)
}

fn write(folder: &Folder, file: &str, value: &str) -> Result<(), PeerError> {
    let failed = |e: &dyn std::fmt::Display, remedy| {
        let path = folder.path().join(file);
        PeerError::path("write", &path, format!("{e} for {value:?}"), remedy)
    };
    folder
        .existing_file(file, OFlags::WRONLY)
        .map_err(|e| match e {
            Errno::NOENT => failed(&e, "give a file that this kernel's cgroups have"),
            e => failed(&e, "see who owns the cgroup"),
        })?
        .write_all(value.as_bytes())
        .map_err(|e| {
            let remedy = match (e.raw_os_error(), file) {
                (Some(libc::EBUSY), "cgroup.procs") => {
                    "this cgroup hands controllers down, so it can have no process: give any \
                     --cgroup to make one below it"
                }
                _ => "give a value that the kernel takes for this file",
            };
            failed(&e, remedy)
        })
}

/// Kills what lives in the recorded cgroups that a jail made, and removes them and what is
/// empty above them.
///
/// # Errors
/// What cannot be removed; the others are removed all the same.
pub fn clear(used: &[UsedCgroup]) -> Result<(), PeerError> {
    let mut result = Ok(());
    for cgroup in used {
        result = result.and(clear_one(cgroup));
    }
    result.map_err(PeerError::from)
}

fn clear_one(cgroup: &UsedCgroup) -> Result<(), CgroupError> {
    let inode = fs::symlink_metadata(&cgroup.path).ok().map(|m| m.ino());
    let ours = cgroup.made > 0 || is_marked(&cgroup.path);
    let known = cgroup.inode.is_none() || cgroup.inode == inode;
    if inode.is_some() && ours && known {
        if cgroup.inode.is_some() {
            kill_all(&cgroup.path)?;
        }
        remove(&cgroup.path)?;
    }
    for (above, parent) in cgroup.path.ancestors().enumerate().skip(1) {
        // Both fail, as they should, at the hierarchy's root and where others are inside.
        if above >= cgroup.made && !is_marked(parent) || fs::remove_dir(parent).is_err() {
            break;
        }
    }
    Ok(())
}

fn is_marked(path: &Path) -> bool {
    fs::File::open(path).is_ok_and(|dir| fgetxattr(&dir, MARK, &mut [0u8; 4]).is_ok())
}

fn remove(path: &Path) -> Result<(), CgroupError> {
    let until = Instant::now() + PATIENCE;
    loop {
        match fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(e) => match e.raw_os_error() {
                Some(libc::ENOENT) => return Ok(()),
                Some(libc::EBUSY) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_micros(200));
                }
                _ => {
                    return Err(CgroupError::File {
                        what: "remove",
                        path: path.to_owned(),
                        source: e,
                    });
                }
            },
        }
    }
}
