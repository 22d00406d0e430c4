//! Clears what a jail left whose process is gone.
//!
//! Only what the journal says, and what is provably that: processes whose root is the
//! jail's own directory, cgroups with the recorded inode, and in the root the names that the
//! jailer itself fills. Files of the operator's and of the program's stay.

use super::cgroups;
use super::error::PeerError;
use super::folder::Folder;
use super::layout::{DEVICES, pid_name};
use super::record::{Journal, Made, Record};
use crate::state::RunDir;
use nix::errno::Errno as NixErrno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How long killed processes may take to be gone.
const PATIENCE: Timespec = Timespec {
    tv_sec: 3,
    tv_nsec: 0,
};

/// Clears a record's leftovers, if its process is gone. The record stays.
///
/// # Errors
/// [`PeerError::Running`] where the process lives; what cannot be cleared.
pub fn clear(record: &Record) -> Result<Option<Journal>, PeerError> {
    let Some(journal) = record.journal()? else {
        return Ok(None);
    };
    if let Some(pid) = journal.alive() {
        return Err(PeerError::Running {
            jail: journal.jail(),
            process: Some(pid),
        });
    }
    undo(&journal)?;
    Ok(Some(journal))
}

/// Undoes what a journal says; its process is gone, or is the caller itself. The lock of
/// the jail is held: what is found at its path is its own.
///
/// # Errors
/// What cannot be undone.
pub fn undo(journal: &Journal) -> Result<(), PeerError> {
    let found = Found::look(journal)?;
    if journal.is_of_this_boot() {
        if let Some(root) = &found.root {
            kill_those_in(root.inode()?);
        }
        cgroups::clear(&journal.cgroups)?;
    }
    found.empty(journal)
}

/// The jail's directories, as far as they are there.
#[derive(Default)]
struct Found {
    base: Option<Folder>,
    program: Option<Folder>,
    jail: Option<Folder>,
    root: Option<Folder>,
}

impl Found {
    fn look(journal: &Journal) -> Result<Self, PeerError> {
        let mut found = Self::default();
        let Ok(base) = Folder::operators(&journal.base(), &[journal.uid]) else {
            return Ok(found);
        };
        let within = |above: &Option<Folder>, name: &OsStr| match above {
            Some(above) => ours(above.existing(name)),
            None => Ok(None),
        };
        found.base = Some(base);
        found.program = within(&found.base, &journal.name())?;
        found.jail = within(&found.program, OsStr::new(&journal.id))?;
        // Another directory at the name is nothing of ours. That the inode alone agrees would
        // say nothing: its number is given again to the next directory that is made.
        found.root = match within(&found.jail, OsStr::new("root"))? {
            Some(root) if journal.root == Some(root.inode()?) => Some(root),
            _ => None,
        };
        Ok(found)
    }

    /// Removes what the jailer put into the jail's directory, and the directories that it
    /// made as far as they are empty.
    fn empty(&self, journal: &Journal) -> Result<(), PeerError> {
        let name = journal.name();
        if let Some(root) = &self.root {
            empty_root(root, journal, &name)?;
        }
        for (above, made, name) in [
            (&self.jail, Made::Root, OsStr::new("root")),
            (&self.program, Made::Id, OsStr::new(&journal.id)),
            (&self.base, Made::Name, &name),
        ] {
            if let Some(above) = above {
                remove_if(journal, made, above, name);
            }
        }
        Ok(())
    }
}

/// Clears all jails below `run_dir` whose process is gone, and returns their directories.
///
/// # Errors
/// The first that cannot be cleared; the others are cleared all the same.
pub fn reap(run_dir: &Path) -> Result<Vec<PathBuf>, PeerError> {
    let Some(run) = RunDir::existing(run_dir)? else {
        return Ok(Vec::new());
    };
    let mut cleared = Vec::new();
    let mut result = Ok(());
    for record in Record::each(&run)? {
        let record = match record {
            Ok(record) => record,
            Err(e) => {
                result = result.and(Err(e));
                continue;
            }
        };
        match clear(&record) {
            Ok(journal) => {
                result = result.and(record.remove(&run));
                cleared.extend(journal.map(|journal| journal.jail()));
            }
            Err(PeerError::Running { .. }) => {}
            Err(e) => result = result.and(Err(e)),
        }
    }
    result.map(|()| cleared)
}

/// A process that lives in a jail of which no journal tells: one of another run directory,
/// or whose run directory was removed. Its pid file is what shows that there may be one.
///
/// # Errors
/// Calls' own.
pub fn stranger(
    base: &Path,
    name: &OsStr,
    id: &str,
    owners: &[u32],
) -> Result<Option<i32>, PeerError> {
    let base = Folder::operators(base, owners)?;
    let Some(program) = ours(base.existing(name))? else {
        return Ok(None);
    };
    let Some(jail) = ours(program.existing(id))? else {
        return Ok(None);
    };
    match ours(jail.existing("root"))? {
        Some(root) if root.stat(pid_name(name)).is_some() => Ok(processes_in(root.inode()?).next()),
        _ => Ok(None),
    }
}

/// Processes whose root is that directory, but for the calling one.
fn processes_in(root: (u64, u64)) -> impl Iterator<Item = i32> {
    let own = std::process::id() as i32;
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(move |&pid| pid != own && is_rooted(pid, root))
}

fn is_rooted(pid: i32, root: (u64, u64)) -> bool {
    fs::metadata(format!("/proc/{pid}/root/.")).is_ok_and(|m| (m.dev(), m.ino()) == root)
}

/// Kills every process whose root is that directory: the program's children, which outlive
/// it where it had no pid namespace of its own.
fn kill_those_in(root: (u64, u64)) {
    // A second look finds what was forked during the first.
    for _ in 0..100 {
        let killed: Vec<OwnedFd> = processes_in(root)
            .filter_map(|pid| {
                let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
                // The pidfd is fixed on one process now; that one is looked at again.
                let ours = is_rooted(pid, root) && pidfd_send_signal(&pidfd, Signal::KILL).is_ok();
                ours.then_some(pidfd)
            })
            .collect();
        if killed.is_empty() {
            return;
        }
        for pidfd in killed {
            let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
            let _ = poll(&mut fds, Some(&PATIENCE));
        }
    }
}

fn empty_root(root: &Folder, journal: &Journal, name: &OsStr) -> Result<(), PeerError> {
    for file in [name.to_owned(), pid_name(name)] {
        if is(root, &file, FileType::RegularFile) {
            root.remove(&file)?;
        }
    }
    stale_sockets(root, journal.uid)?;
    if let Some(run) = ours(root.existing("run"))? {
        stale_sockets(&run, journal.uid)?;
    }
    if let Some(dev) = ours(root.existing("dev"))? {
        if let Some(net) = ours(dev.existing("net"))? {
            devices(&net, "dev/net")?;
        }
        devices(&dev, "dev")?;
        remove_if(journal, Made::Net, &dev, OsStr::new("net"));
    }
    remove_if(journal, Made::Dev, root, OsStr::new("dev"));
    remove_if(journal, Made::Run, root, OsStr::new("run"));
    Ok(())
}

/// What is not ours any more is not ours to clear: the program may have put anything at the
/// names in its root.
fn ours(found: Result<Option<Folder>, PeerError>) -> Result<Option<Folder>, PeerError> {
    match found {
        Err(PeerError::Foreign { .. }) => Ok(None),
        found => found,
    }
}

fn devices(folder: &Folder, path: &str) -> Result<(), PeerError> {
    for device in DEVICES.iter().filter(|device| device.folder == path) {
        if is(folder, OsStr::new(device.name), FileType::CharacterDevice) {
            folder.remove(device.name)?;
        }
    }
    Ok(())
}

fn is(folder: &Folder, name: &OsStr, kind: FileType) -> bool {
    folder
        .stat(name)
        .is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == kind)
}

fn remove_if(journal: &Journal, made: Made, folder: &Folder, name: &OsStr) {
    if journal.made.contains(&made) {
        folder.remove_folder(name);
    }
}

/// Removes the sockets of the jail's user that nobody listens at any more: the next program
/// with the same id could not bind them.
fn stale_sockets(folder: &Folder, uid: u32) -> Result<(), PeerError> {
    for name in folder.names()? {
        let owned = folder.stat(&name).is_some_and(|stat| stat.st_uid == uid);
        if !owned || !is(folder, &name, FileType::Socket) {
            continue;
        }
        if let Ok(handle) = folder.handle(&name)
            && nobody_listens(&handle)
        {
            folder.remove(&name)?;
        }
    }
    Ok(())
}

fn nobody_listens(handle: &OwnedFd) -> bool {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let (Ok(socket), Ok(address)) = (
        socket(AddressFamily::Unix, SockType::Stream, flags, None),
        UnixAddr::new(Path::new(&path)),
    ) else {
        return false;
    };
    connect(socket.as_raw_fd(), &address) == Err(NixErrno::ECONNREFUSED)
}
