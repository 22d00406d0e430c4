//! Leaving or changing the cgroup.

use super::attempt;
use crate::sys::{any, open};
use crate::{Attempt, Failure, Tried};
use std::path::PathBuf;

pub const ALL: &[Attempt] = &[
    attempt(
        "cgroup-leave",
        "move to the root of the cgroup tree",
        |_| {
            let here = std::process::id().to_string();
            any(roots()?.into_iter().map(|root| {
                std::fs::write(root.join("cgroup.procs"), &here)?;
                Ok(format!("moved to {}", root.display()))
            }))
        },
    ),
    attempt(
        "cgroup-release-agent",
        "say what runs when a cgroup is empty",
        |_| {
            if roots()?
                .iter()
                .all(|root| !root.join("release_agent").exists())
            {
                return Err(Failure::Nothing("there is none".to_owned()));
            }
            any(roots()?
                .into_iter()
                .map(|root| opened(root.join("release_agent"))))
        },
    ),
    attempt("cgroup-limits", "raise its own limits", |_| {
        let names = [
            "memory.max",
            "pids.max",
            "memory.limit_in_bytes",
            "cpu.max",
            "cpu.cfs_quota_us",
        ];
        any(own()?
            .into_iter()
            .flat_map(|folder| names.map(|name| opened(folder.join(name)))))
    }),
    attempt("cgroup-make", "make a cgroup", |_| {
        let name = format!("escape-{}", std::process::id());
        any(own()?.into_iter().chain(roots()?).map(|folder| {
            let made = folder.join(&name);
            std::fs::create_dir(&made)?;
            let _ = std::fs::remove_dir(&made);
            Ok(format!("{} was made", made.display()))
        }))
    }),
];

fn opened(path: PathBuf) -> Tried {
    open(&path, libc::O_WRONLY)?;
    Ok(format!("{} was opened", path.display()))
}

/// The roots of all hierarchies: v2, or v1's by controller.
fn roots() -> std::io::Result<Vec<PathBuf>> {
    let top = PathBuf::from("/sys/fs/cgroup");
    let below: Vec<PathBuf> = std::fs::read_dir(&top)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("cgroup.procs").exists() && path.join("tasks").exists())
        .collect();
    match below.is_empty() {
        true => Ok(vec![top]),
        false => Ok(below),
    }
}

/// Its own, in each hierarchy, as /proc and /sys show them.
fn own() -> std::io::Result<Vec<PathBuf>> {
    let text = std::fs::read_to_string("/proc/self/cgroup")?;
    let folders = text.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let top = PathBuf::from("/sys/fs/cgroup").join(controllers);
        Some(top.join(path.trim_start_matches('/')))
    });
    Ok(folders.collect())
}
