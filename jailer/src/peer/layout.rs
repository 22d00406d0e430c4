//! The folders and devices of a jail, as Firecracker's jailer lays them out:
//!
//! ```text
//! BASE/NAME/ID/root            the program's root, its user's, 0700
//!   NAME                       the program
//!   NAME.pid                   its pid, as the caller of the jailer sees it
//!   dev/kvm dev/net/tun dev/urandom dev/userfaultfd
//!   run                        for its API socket
//! ```
//! While it is filled it is root's: nobody with the jail's uid can change a name in it then.

use super::error::PeerError;
use super::folder::Folder;
use super::record::Made;
use rustix::fs::makedev;
use std::ffi::{OsStr, OsString};
use std::io::Write;

/// Mode of every directory inside.
const INSIDE: u32 = 0o700;
/// Mode of the directories above the root.
const ABOVE: u32 = 0o755;

/// A device of the layout.
#[derive(Debug)]
pub struct Device {
    /// Its directory below the root.
    pub folder: &'static str,
    /// Its name.
    pub name: &'static str,
    major: u32,
    /// `None`: as `/proc/misc` says, and left out where that says nothing.
    minor: Option<u32>,
}

/// All of them (Linux's devices.txt).
pub const DEVICES: [Device; 4] = [
    Device {
        folder: "dev/net",
        name: "tun",
        major: 10,
        minor: Some(200),
    },
    Device {
        folder: "dev",
        name: "kvm",
        major: 10,
        minor: Some(232),
    },
    Device {
        folder: "dev",
        name: "urandom",
        major: 1,
        minor: Some(9),
    },
    Device {
        folder: "dev",
        name: "userfaultfd",
        major: 10,
        minor: None,
    },
];

/// Name of the pid file.
pub fn pid_name(name: &OsStr) -> OsString {
    let mut file = name.to_owned();
    file.push(".pid");
    file
}

/// The directories that are not there yet.
///
/// # Errors
/// Where something else stands at their names.
pub fn missing(base: &Folder, name: &OsStr, id: &str) -> Result<Vec<Made>, PeerError> {
    use Made::{Dev, Id, Name, Net, Root, Run};
    let mut missing = Vec::new();
    let mut look = |above: Option<&Folder>, name: &OsStr, made| {
        // Inside the root, what is no directory will be replaced by one.
        let replaced = |above: &&Folder| !matches!(made, Dev | Net | Run) || above.has_folder(name);
        let there = above.filter(replaced).map(|above| above.existing(name));
        let there = there.transpose()?.flatten();
        if there.is_none() {
            missing.push(made);
        }
        Ok::<_, PeerError>(there)
    };
    let program = look(Some(base), name, Name)?;
    let jail = look(program.as_ref(), OsStr::new(id), Id)?;
    let root = look(jail.as_ref(), OsStr::new("root"), Root)?;
    let dev = look(root.as_ref(), OsStr::new("dev"), Dev)?;
    look(dev.as_ref(), OsStr::new("net"), Net)?;
    look(root.as_ref(), OsStr::new("run"), Run)?;
    Ok(missing)
}

/// Makes the root and takes it into root's hands.
///
/// # Errors
/// Where something else stands in the way; calls' own.
pub fn take_root(base: &Folder, name: &OsStr, id: &str) -> Result<Folder, PeerError> {
    let root = base
        .make(name, ABOVE)?
        .make(id, ABOVE)?
        .make("root", INSIDE)?;
    root.own(0, 0, INSIDE)?;
    Ok(root)
}

/// The root, filled but for the program, still in root's hands.
#[derive(Debug)]
pub struct Filled<'a> {
    folders: [Folder; 3],
    root: &'a Folder,
}

/// Makes folders and devices.
///
/// # Errors
/// Where something else stands in the way; calls' own.
pub fn fill(root: &Folder, uid: u32, gid: u32) -> Result<Filled<'_>, PeerError> {
    let take = |folder: Folder| folder.own(0, 0, INSIDE).map(|()| folder);
    let dev = take(root.make_afresh("dev", INSIDE)?)?;
    let net = take(dev.make_afresh("net", INSIDE)?)?;
    let run = take(root.make_afresh("run", INSIDE)?)?;
    for device in &DEVICES {
        let folder = match device.folder {
            "dev/net" => &net,
            _ => &dev,
        };
        if let Some(minor) = device.minor.or_else(|| misc_minor(device.name)) {
            folder.device(device.name, makedev(device.major, minor), uid, gid)?;
        }
    }
    Ok(Filled {
        folders: [dev, net, run],
        root,
    })
}

impl Filled<'_> {
    /// Gives everything to the jail's user: the last thing that is done below the root.
    ///
    /// # Errors
    /// The calls' own.
    pub fn give(self, uid: u32, gid: u32) -> Result<(), PeerError> {
        for folder in &self.folders {
            folder.own(uid, gid, INSIDE)?;
        }
        self.root.own(uid, gid, INSIDE)
    }
}

/// Writes the pid file: digits alone, root's, readable by all.
///
/// # Errors
/// Where a directory stands there; calls' own.
pub fn write_pid(root: &Folder, name: &OsStr, pid: i32) -> Result<(), PeerError> {
    let name = pid_name(name);
    root.file(&name, 0o644)?
        .write_all(pid.to_string().as_bytes())
        .map_err(|e| {
            PeerError::path(
                "write",
                &root.path().join(&name),
                e,
                "see that there is space",
            )
        })
}

/// Minor number of a misc device, whose driver may not be there.
fn misc_minor(name: &str) -> Option<u32> {
    parse_misc(&std::fs::read_to_string("/proc/misc").ok()?, name)
}

fn parse_misc(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let minor = words.next()?.parse().ok()?;
        (words.next()? == name).then_some(minor)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misc_device_is_found() {
        let text = " 59 cpu_dma_latency\n126 userfaultfd\n\nx\n";
        assert_eq!(parse_misc(text, "userfaultfd"), Some(126));
        assert_eq!(parse_misc(text, "cpu_dma_latency"), Some(59));
        assert_eq!(parse_misc(text, "kvm"), None);
    }
}
