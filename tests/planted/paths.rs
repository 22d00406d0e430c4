//! The paths that a start writes, out of its trace (`strace -f -y`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// Calls that write to a folder or a file by a path.
const CALLS: &[&str] = &[
    "mkdir",
    "mkdirat",
    "open",
    "openat",
    "openat2",
    "creat",
    "mknod",
    "mknodat",
    "symlink",
    "symlinkat",
    "link",
    "linkat",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "chmod",
    "fchmodat",
    "chown",
    "lchown",
    "fchownat",
    "truncate",
    "mount",
    "move_mount",
];

/// strace's options.
pub fn options() -> Vec<String> {
    let calls = format!("trace={},pivot_root", CALLS.join(","));
    ["-f", "-y", "-qq", "-s", "4096", "-e", &calls]
        .map(str::to_owned)
        .into()
}

/// Relative to `scratch`. After a process' pivot_root, paths from `/` on are below `root`.
pub fn written(trace: &str, scratch: &Path, root: &Path) -> Vec<PathBuf> {
    let mut found = BTreeSet::new();
    let mut inside: BTreeMap<&str, bool> = BTreeMap::new();
    for line in trace.lines() {
        let Some((pid, rest)) = line.split_once(' ') else {
            continue;
        };
        let Some((call, arguments)) = rest.trim_start().split_once('(') else {
            continue;
        };
        if call == "pivot_root" {
            inside.insert(pid, true);
        }
        if !CALLS.contains(&call) || !writes(call, arguments) {
            continue;
        }
        for path in named(arguments) {
            let path = match inside.get(pid) {
                Some(true) => scratch
                    .join(root)
                    .join(path.strip_prefix("/").unwrap_or(&path)),
                _ => path,
            };
            if let Ok(below) = path.strip_prefix(scratch)
                && below.components().next().is_some()
                && below
                    .components()
                    .all(|c| matches!(c, Component::Normal(_)))
            {
                found.insert(below.to_owned());
            }
        }
    }
    found.into_iter().collect()
}

fn writes(call: &str, arguments: &str) -> bool {
    !call.starts_with("open")
        || ["O_CREAT", "O_WRONLY", "O_RDWR", "O_TRUNC"]
            .iter()
            .any(|flag| arguments.contains(flag))
}

/// Each quoted path, after the folder `N</folder>` that may stand before it.
fn named(arguments: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folder = PathBuf::from("/");
    let mut rest = arguments;
    loop {
        let quote = rest.find('"');
        let angle = rest.find('<').filter(|at| quote.is_none_or(|q| *at < q));
        match (angle, quote) {
            (Some(at), _) => {
                let Some(end) = rest[at..].find('>') else {
                    return found;
                };
                folder = PathBuf::from(&rest[at + 1..at + end]);
                rest = &rest[at + end + 1..];
            }
            (None, Some(at)) => {
                let Some(end) = rest[at + 1..].find('"') else {
                    return found;
                };
                found.push(folder.join(&rest[at + 1..at + 1 + end]));
                rest = &rest[at + end + 2..];
            }
            (None, None) => return found,
        }
    }
}

#[test]
fn paths_are_those_that_are_written() {
    let trace = "\
7 mkdirat(5</s/run>, \"T\", 0700) = 0
7 openat2(5</s/run>, \"T\", {flags=O_RDONLY|O_DIRECTORY}, 24) = 4</s/run/T>
7 openat2(4</s/run/T>, \"lock\", {flags=O_RDWR|O_CREAT}, 24) = 7</s/run/T/lock>
8 renameat(5</s/run/T>, \"new\", 5</s/run/T>, \"journal\") = 0
8 openat(AT_FDCWD</s>, \"/proc/self/status\", O_WRONLY) = 3
8 pivot_root(\".\", \".\") = 0
8 mkdirat(AT_FDCWD</>, \"/dev\", 0700) = 0
";
    let found = written(trace, Path::new("/s"), Path::new("root"));
    let found: Vec<&str> = found.iter().filter_map(|path| path.to_str()).collect();
    let wanted = [
        "root/dev",
        "run/T",
        "run/T/journal",
        "run/T/lock",
        "run/T/new",
    ];
    assert_eq!(found, wanted);
}
