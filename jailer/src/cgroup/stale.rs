//! Removing cgroups, and what a killed supervisor left in them.

use super::delegated::ASIDE;
use super::{CgroupError, TOP, write};
use crate::state::CgroupRecord;
use casemate_proto::id::{CellId, TenantId};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long killed processes may take to leave their cgroup.
const PATIENCE: Duration = Duration::from_secs(3);

/// Kills what lives in the recorded cgroups and removes them.
///
/// A record is followed only where its path is this cell's own and, for killing, where the
/// directory is the very one that was recorded.
///
/// # Errors
/// What cannot be removed.
pub fn clear(records: &[CgroupRecord], tenant: &TenantId, id: &CellId) -> Result<(), CgroupError> {
    let own = Path::new(TOP).join(tenant.as_str()).join(id.as_str());
    let mut result = Ok(());
    for record in records.iter().filter(|r| r.path.ends_with(&own)) {
        result = result.and(clear_one(record));
    }
    result
}

fn clear_one(record: &CgroupRecord) -> Result<(), CgroupError> {
    let path = &record.path;
    let inode = match fs::symlink_metadata(path) {
        Ok(meta) => Some(meta.ino()),
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        Err(e) => return Err(CgroupError::file("stat", path, e)),
    };
    match record.inode {
        Some(recorded) if inode == Some(recorded) => {
            kill_all(path)?;
            remove(path)
        }
        // Planned and perhaps made by us, but then nothing was started in it yet; or
        // another run directory's cell has it, and then it is not ours to touch.
        None => match remove_unused(path) {
            Err(CgroupError::Taken { .. }) => Ok(()),
            result => result,
        },
        Some(_) => Ok(()),
    }
}

/// Kills until the cgroup is empty.
///
/// # Errors
/// [`CgroupError::Alive`] where that does not help; calls' own.
pub fn kill_all(path: &Path) -> Result<(), CgroupError> {
    let until = Instant::now() + PATIENCE;
    loop {
        let pids = processes(path)?;
        if pids.is_empty() {
            return Ok(());
        }
        // v2 kills all at once, forks in flight too; v1 has no such file.
        if write(&path.join("cgroup.kill"), "1").is_err() {
            kill_each(path, &pids)?;
        }
        if Instant::now() > until {
            return Err(CgroupError::Alive {
                path: path.to_owned(),
            });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The processes in a cgroup.
fn processes(path: &Path) -> Result<Vec<Pid>, CgroupError> {
    let procs = path.join("cgroup.procs");
    let text = fs::read_to_string(&procs).map_err(|e| CgroupError::file("read", &procs, e))?;
    Ok(text
        .lines()
        .filter_map(|line| line.parse().ok().and_then(Pid::from_raw))
        .collect())
}

/// Kills these processes as far as they still are in the cgroup: each is held by a pidfd
/// before it is looked for again, so that nobody who was given its number meanwhile is hit.
fn kill_each(path: &Path, pids: &[Pid]) -> Result<(), CgroupError> {
    let held: Vec<_> = pids
        .iter()
        .filter_map(|&pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?)))
        .collect();
    let still = processes(path)?;
    for (_, pidfd) in held.iter().filter(|(pid, _)| still.contains(pid)) {
        let _ = pidfd_send_signal(pidfd, Signal::KILL);
    }
    Ok(())
}

/// Removes a cgroup whose processes are dead, then its parents as far as they are empty.
///
/// # Errors
/// The call's own, `EBUSY` if it does not get empty in [`PATIENCE`].
pub fn remove(path: &Path) -> Result<(), CgroupError> {
    let until = Instant::now() + PATIENCE;
    loop {
        match fs::remove_dir(path) {
            Ok(()) => break,
            Err(e) if e.kind() == ErrorKind::NotFound => break,
            // A dead process leaves its cgroup a moment after it was waited for.
            Err(e) if is_busy(&e) && Instant::now() < until => {
                std::thread::sleep(Duration::from_micros(200));
            }
            Err(e) => return Err(CgroupError::file("remove", path, e)),
        }
    }
    prune(path);
    Ok(())
}

/// Removes TENANT, then TOP. The kernel refuses both while another cell is in them, or a
/// supervisor that stepped aside.
fn prune(path: &Path) {
    for parent in path.ancestors().skip(1).take(2) {
        if fs::remove_dir(parent).is_err() && parent.ends_with(TOP) {
            let _ = fs::remove_dir(parent.join(ASIDE));
            let _ = fs::remove_dir(parent);
        }
    }
}

/// Removes a cgroup only if nobody is in it, then its parents as far as they are empty.
///
/// # Errors
/// [`CgroupError::Taken`] where somebody is; calls' own.
pub fn remove_unused(path: &Path) -> Result<(), CgroupError> {
    match fs::remove_dir(path) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) if is_busy(&e) => {
            return Err(CgroupError::Taken {
                path: path.to_owned(),
            });
        }
        Err(e) => return Err(CgroupError::file("remove", path, e)),
    }
    prune(path);
    Ok(())
}

fn is_busy(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        ErrorKind::ResourceBusy | ErrorKind::DirectoryNotEmpty
    )
}
