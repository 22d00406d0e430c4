//! newuidmap(1) and newgidmap(1): set-user-ID programs of the system's that write id maps with
//! subordinate ids, which only root may.

use crate::refusal::Refusal;
use crate::state::Identity;
use casemate_proto::cell::Layer;
use std::io::Read;
use std::num::NonZeroI32;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Where they may be: never looked for along a `PATH`.
const FOLDERS: [&str; 3] = ["/usr/bin", "/bin", "/run/wrappers/bin"];
/// Longest that one may take: it may ask a directory service who the user is.
const LIMIT: Duration = Duration::from_secs(10);

/// Maps the launcher's own ids and the jail's, each onto itself.
///
/// # Errors
/// Where a helper is not there, or says no.
pub fn map(pid: NonZeroI32, launcher: Identity, jail: Identity) -> Result<(), Refusal> {
    for (helper, ids) in [
        // setgroups stays allowed: what the launcher's groups may is to be taken away.
        ("newgidmap", [launcher.gid, jail.gid]),
        ("newuidmap", [launcher.uid, jail.uid]),
    ] {
        let refused = |why: String| {
            Refusal::of(
                Layer::User,
                format!(
                    "{helper} did not map the ids {ids:?}: {why}; see subuid(5), or leave \
                     --id-map range out"
                ),
            )
        };
        let path = find(helper).ok_or_else(|| {
            refused(format!(
                "no such program of root's is in {}: install the package uidmap",
                FOLDERS.join(", ")
            ))
        })?;
        let (status, said) = run(&path, pid, ids).map_err(|e| refused(e.to_string()))?;
        if !status.success() {
            return Err(refused(format!("{status}, {}", said.trim())));
        }
    }
    Ok(())
}

/// A helper, if it is there and nobody but root can have made it what it is.
fn find(helper: &str) -> Option<PathBuf> {
    FOLDERS
        .iter()
        .map(|folder| Path::new(folder).join(helper))
        .find(|path| {
            path.metadata()
                .is_ok_and(|file| file.is_file() && file.uid() == 0 && file.mode() & 0o022 == 0)
        })
}

/// Runs it with nothing of ours but its arguments.
fn run(path: &Path, pid: NonZeroI32, ids: [u32; 2]) -> std::io::Result<(ExitStatus, String)> {
    let mut command = Command::new(path);
    command.arg(pid.to_string());
    for id in ids.map(|id| id.to_string()) {
        command.args([&id, &id, "1"]);
    }
    command
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    // SAFETY: one system call that takes numbers, between fork and exec.
    unsafe {
        command.pre_exec(|| {
            let flags = libc::CLOSE_RANGE_CLOEXEC as libc::c_uint;
            crate::layers::libc_result(libc::syscall(
                libc::SYS_close_range,
                3,
                libc::c_uint::MAX,
                flags,
            ))
            .map(drop)
        });
    }
    let mut child = command.spawn()?;
    let until = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > until {
            // It is root's, and may not be killed by us; but it has nothing of ours.
            let _ = child.kill();
            return Err(std::io::Error::other(format!("no end within {LIMIT:?}")));
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let mut said = String::new();
    if let Some(err) = child.stderr.take() {
        let _ = err.take(1000).read_to_string(&mut said);
    }
    Ok((status, said))
}
