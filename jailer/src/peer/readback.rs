//! What the kernel says of the process just before its exec, against what was asked for.
//!
//! No supervisor stays to look from outside, so the process looks at itself: its files in
//! `/proc` are opened while there is one, and read once all layers are on.

use super::Addition;
use super::error::PeerError;
use super::options::Options;
use super::rights;
use rustix::fs::{AtFlags, CWD, StatVfsMountFlags, statat, statvfs};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const REMEDY: &str = "mount /proc";

/// The namespaces of a process, by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespaces(BTreeMap<&'static str, PathBuf>);

impl Namespaces {
    /// Those of the calling process.
    ///
    /// # Errors
    /// The call's own.
    pub fn own() -> Result<Self, PeerError> {
        ["mnt", "ipc", "uts", "cgroup", "net", "pid"]
            .into_iter()
            .map(|kind| {
                let link = Path::new("/proc/self/ns").join(kind);
                let target =
                    fs::read_link(&link).map_err(|e| PeerError::path("read", &link, e, REMEDY))?;
                Ok((kind, target))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Compares with those of the caller of the jailer. `netns` is the inode to be in.
    ///
    /// # Errors
    /// [`PeerError::NotAsDeclared`], and calls' own.
    pub fn check(
        &self,
        options: &Options,
        cgroups: bool,
        netns: Option<u64>,
    ) -> Result<(), PeerError> {
        let now = Self::own()?;
        let own = [
            ("mnt", true),
            ("ipc", options.with(Addition::IpcNs)),
            ("uts", options.with(Addition::UtsNs)),
            ("cgroup", cgroups),
            ("pid", options.new_pid_ns),
        ];
        for (kind, other) in own {
            if (now.0[kind] != self.0[kind]) != other {
                return Err(PeerError::NotAsDeclared {
                    what: "a namespace",
                    declared: format!(
                        "{} {kind} namespace",
                        if other { "another" } else { "the same" }
                    ),
                    observed: now.0[kind].display().to_string(),
                });
            }
        }
        let declared = netns.map_or(self.0["net"].clone(), |inode| {
            format!("net:[{inode}]").into()
        });
        match now.0["net"] == declared {
            true => Ok(()),
            false => Err(PeerError::NotAsDeclared {
                what: "the network namespace",
                declared: declared.display().to_string(),
                observed: now.0["net"].display().to_string(),
            }),
        }
    }
}

/// The process' own files, open.
#[derive(Debug)]
pub struct Own {
    status: File,
    limits: File,
}

impl Own {
    /// Opens them, while there is a `/proc`.
    ///
    /// # Errors
    /// The call's own.
    pub fn open() -> Result<Self, PeerError> {
        let open = |name: &str| {
            let path = Path::new("/proc/self").join(name);
            File::open(&path).map_err(|e| PeerError::path("open", &path, e, REMEDY))
        };
        Ok(Self {
            status: open("status")?,
            limits: open("limits")?,
        })
    }

    /// Compares identity, capabilities, no_new_privs, signals, umask and limits.
    ///
    /// # Errors
    /// [`PeerError::NotAsDeclared`].
    pub fn check(&self, options: &Options) -> Result<(), PeerError> {
        let status = text(&self.status)?;
        for (name, declared) in declared(options) {
            let observed = line(&status, name).unwrap_or_else(|| "missing".to_owned());
            if observed != declared {
                return Err(PeerError::NotAsDeclared {
                    what: name,
                    declared,
                    observed,
                });
            }
        }
        let text = text(&self.limits)?;
        for limit in rights::limits(options) {
            let declared = format!("{0} {0}", limit.value);
            let observed = text
                .lines()
                .find_map(|line| line.strip_prefix(limit.name))
                .map(|rest| {
                    let words: Vec<&str> = rest.split_ascii_whitespace().take(2).collect();
                    words.join(" ")
                });
            // RLIM_INFINITY has a word of its own.
            let same = observed.as_deref() == Some(&declared)
                || limit.value == u64::MAX && observed.as_deref() == Some("unlimited unlimited");
            if !same {
                return Err(PeerError::NotAsDeclared {
                    what: limit.name,
                    declared,
                    observed: observed.unwrap_or_default(),
                });
            }
        }
        Ok(())
    }
}

/// Lines of `status` and what they are to hold, words separated by one space.
fn declared(options: &Options) -> Vec<(&'static str, String)> {
    let four = |id: u32| {
        [
            id.to_string(),
            id.to_string(),
            id.to_string(),
            id.to_string(),
        ]
        .join(" ")
    };
    let mut lines = vec![
        ("Uid:", four(options.uid)),
        ("Gid:", four(options.gid)),
        ("Groups:", String::new()),
    ];
    let mut add = |addition, names: &[&'static str], value: &str| {
        if options.with(addition) {
            lines.extend(names.iter().map(|&name| (name, value.to_owned())));
        }
    };
    let none = "0000000000000000";
    let sets = ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"];
    add(Addition::Capabilities, &sets, none);
    add(Addition::NoNewPrivs, &["NoNewPrivs:"], "1");
    add(Addition::Signals, &["SigBlk:", "SigIgn:", "SigCgt:"], none);
    add(Addition::Umask, &["Umask:"], "0077");
    lines
}

/// The whole text of an open file of /proc, as it is now.
fn text(file: &File) -> Result<String, PeerError> {
    let mut text = Vec::new();
    let mut part = [0; 8192];
    loop {
        match file.read_at(&mut part, text.len() as u64) {
            Ok(0) => return Ok(String::from_utf8_lossy(&text).into_owned()),
            Ok(n) => text.extend_from_slice(&part[..n]),
            Err(e) => return Err(PeerError::step("reading /proc/self", e, REMEDY)),
        }
    }
}

/// What stands on the line of that name, its columns separated by one blank.
fn line(status: &str, name: &str) -> Option<String> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
    let words: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(words.join(" "))
}

/// Whether the root is the jail's, and the program at its name the one that was placed,
/// where nothing can be written to it.
///
/// # Errors
/// [`PeerError::NotAsDeclared`], and calls' own.
pub fn check_root(
    options: &Options,
    root: (u64, u64),
    name: &OsStr,
    program: (u64, u64),
) -> Result<(), PeerError> {
    let path = Path::new("/").join(name);
    for (path, inode, what) in [
        (Path::new("/"), root, "the root"),
        (Path::new("/.."), root, "what is above the root"),
        (path.as_path(), program, "the program"),
    ] {
        let stat = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| PeerError::path("stat", path, e, "report this"))?;
        if (stat.st_dev, stat.st_ino) != inode {
            return Err(PeerError::NotAsDeclared {
                what,
                declared: format!("{inode:?}"),
                observed: format!("{:?}", (stat.st_dev, stat.st_ino)),
            });
        }
    }
    let mut flags = vec![(path.as_path(), StatVfsMountFlags::RDONLY, "read-only")];
    if options.with(Addition::Nosuid) {
        flags.push((Path::new("/"), StatVfsMountFlags::NOSUID, "nosuid"));
    }
    for (path, flag, declared) in flags {
        let stat = statvfs(path).map_err(|e| PeerError::path("stat", path, e, "report this"))?;
        if !stat.f_flag.contains(flag) {
            return Err(PeerError::NotAsDeclared {
                what: "a mount",
                declared: declared.to_owned(),
                observed: format!("{:?}", stat.f_flag),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_and_its_columns_joined() {
        let status = "Umask:\t0022\nUid:\t1\t2\t3\t4\nGroups:\t \n";
        assert_eq!(line(status, "Uid:").as_deref(), Some("1 2 3 4"));
        assert_eq!(line(status, "Groups:").as_deref(), Some(""));
        assert_eq!(line(status, "CapEff:"), None);
    }

    #[test]
    fn a_file_of_proc_is_read_whole() {
        let own = Own::open().unwrap();
        assert!(line(&text(&own.status).unwrap(), "VmRSS:").is_some());
        assert!(text(&own.limits).unwrap().contains("Max open files"));
    }
}
