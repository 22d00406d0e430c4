//! What a cell may leave behind: nothing.
//!
//! Tests run side by side, so each looks only for what is its own: its run
//! folder, the cgroups of its tenant, and processes that are in either.

use crate::proc::Process;
use std::fs;
use std::path::Path;

/// A tenant of this run folder's own.
pub fn tenant(run_dir: &Path) -> String {
    let name = run_dir.file_name().unwrap_or_default().to_string_lossy();
    let plain = name.chars().filter(char::is_ascii_alphanumeric);
    format!("t{}", plain.collect::<String>())
}

/// Everything that cells of this run folder have on this host now: files below
/// the folder, cgroups, mounts, processes. Empty folders do not count.
pub fn all(run_dir: &Path) -> Vec<String> {
    let tenant = tenant(run_dir);
    let mut found = Vec::new();
    files(run_dir, &mut found);
    cgroups(&tenant, &mut found);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let folder = run_dir.to_string_lossy();
    let ours = mounts.lines().filter(|line| line.contains(&*folder));
    found.extend(ours.map(|line| format!("mount {line}")));
    let ours = Process::all()
        .into_iter()
        .filter(|p| p.0 != std::process::id() as i32 && p.alive() && belongs(*p, &tenant, &folder));
    found.extend(ours.map(|p| format!("process {} {}", p.0, p.name())));
    found
}

/// Whether a process is in the tenant's cgroup, or has the run folder open or among
/// its arguments.
fn belongs(process: Process, tenant: &str, folder: &str) -> bool {
    let has = |file: &str, text: &str| String::from_utf8_lossy(&process.read(file)).contains(text);
    has("cgroup", &format!("casemate/{tenant}/"))
        || has("cmdline", folder)
        || process.fds().values().any(|link| link.starts_with(folder))
}

fn files(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            files(&path, found);
        } else {
            found.push(format!("file {}", path.display()));
        }
    }
}

fn cgroups(tenant: &str, found: &mut Vec<String>) {
    let hierarchies = fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten();
    let roots = hierarchies
        .map(|hierarchy| hierarchy.path())
        .chain([Path::new("/sys/fs/cgroup").to_owned()]);
    for root in roots {
        let tenant = root.join("casemate").join(tenant);
        for cell in fs::read_dir(tenant).into_iter().flatten().flatten() {
            if cell.path().is_dir() {
                found.push(format!("cgroup {}", cell.path().display()));
            }
        }
    }
}
