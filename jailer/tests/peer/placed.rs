//! Whatever stands at a path of the jail beforehand, or is moved there meanwhile, never
//! leads the jailer to touch anything else (CVE-2026-1386's class).

use crate::support::{JAILER, Jail, NAME, UID};
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Every path below the base that the jailer writes, makes, or changes the owner of.
const PATHS: [&str; 12] = [
    "{name}",
    "{name}/{id}",
    "{name}/{id}/root",
    "{name}/{id}/root/{name}",
    "{name}/{id}/root/{name}.pid",
    "{name}/{id}/root/dev",
    "{name}/{id}/root/dev/kvm",
    "{name}/{id}/root/dev/urandom",
    "{name}/{id}/root/dev/userfaultfd",
    "{name}/{id}/root/dev/net",
    "{name}/{id}/root/dev/net/tun",
    "{name}/{id}/root/run",
];

/// Those of them at which anything but a directory is replaced, so that the id starts again
/// whatever its program left. `dev`, `dev/net` and `run` take an empty directory as it is.
const INSIDE: [&str; 9] = [
    "root/dev",
    "root/dev/net",
    "root/run",
    "root/{name}",
    "root/{name}.pid",
    "dev/kvm",
    "dev/urandom",
    "dev/userfaultfd",
    "net/tun",
];

const KINDS: [&str; 8] = [
    "symlink to a file",
    "symlink to a directory",
    "symlink to nothing",
    "hard link",
    "FIFO",
    "socket",
    "directory",
    "directory of another user",
];

/// Files and folders that must come out of it as they went in.
struct Outside {
    dir: tempfile::TempDir,
}

impl Outside {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "precious").unwrap();
        std::fs::create_dir(dir.path().join("folder")).unwrap();
        std::fs::write(dir.path().join("folder/kept"), "precious").unwrap();
        chown(dir.path().join("folder"), Some(99), Some(99)).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Everything about everything in it, but the number of names.
    fn state(&self) -> Vec<(PathBuf, u32, u32, u32, Option<String>)> {
        let mut state: Vec<_> = crate::support::walk(self.dir.path())
            .map(|path| {
                let meta = path.symlink_metadata().unwrap();
                let text = meta
                    .is_file()
                    .then(|| std::fs::read_to_string(&path).unwrap());
                (path, meta.mode(), meta.uid(), meta.gid(), text)
            })
            .collect();
        state.sort();
        state
    }
}

fn place(kind: &str, at: &Path, outside: &Outside) {
    match kind {
        "symlink to a file" => symlink(outside.path("file"), at).unwrap(),
        "symlink to a directory" => symlink(outside.path("folder"), at).unwrap(),
        "symlink to nothing" => symlink(outside.path("new"), at).unwrap(),
        "hard link" => std::fs::hard_link(outside.path("file"), at).unwrap(),
        "FIFO" => nix::unistd::mkfifo(at, nix::sys::stat::Mode::S_IRWXU).unwrap(),
        "socket" => drop(std::os::unix::net::UnixListener::bind(at).unwrap()),
        _ => {
            std::fs::create_dir(at).unwrap();
            if kind == "directory of another user" {
                chown(at, Some(99), Some(99)).unwrap();
            }
        }
    }
}

fn path(jail: &Jail, template: &str) -> PathBuf {
    jail.base()
        .join(template.replace("{name}", NAME).replace("{id}", &jail.id))
}

#[test]
fn nothing_placed_at_any_path_leads_outside() {
    for template in PATHS {
        for kind in KINDS {
            let outside = Outside::new();
            let before = outside.state();
            let mut jail = Jail::new("placed");
            // A socket's whole path has 107 bytes at most.
            jail.id = "p".to_owned();
            let at = path(&jail, template);
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            place(kind, &at, &outside);
            let output = jail.command(&["exit", "0"]).output().unwrap();
            assert_eq!(outside.state(), before, "{kind} at {template}");
            assert!(!outside.path("new").exists(), "{kind} at {template}");
            match output.status.success() {
                true => {}
                false => {
                    let line = crate::support::refusal(output);
                    let told = at.to_str().unwrap();
                    assert!(line.contains(told), "{kind} at {template}: {line}");
                }
            }
            // What stands at a file's name is replaced, so that the id starts again.
            if INSIDE.iter().any(|file| template.ends_with(file)) {
                let again = jail.command(&["exit", "0"]).output().unwrap();
                let folder = ["dev", "net", "run"]
                    .iter()
                    .any(|name| template.ends_with(name));
                let replaced = match kind {
                    "directory" => folder,
                    "directory of another user" => false,
                    _ => true,
                };
                assert_eq!(again.status.success(), replaced, "{kind} at {template}");
            }
            jail.reap();
            assert_eq!(
                outside.state(),
                before,
                "{kind} at {template}, after the reaper"
            );
        }
    }
}

#[test]
fn a_program_cannot_plant_anything_for_the_next_start() {
    for kind in ["symlink", "directory", "plain"] {
        for planted in [
            "/run",
            "/dev/kvm",
            "/dev/net",
            "/dev/new",
            "/run/api.socket",
        ] {
            let jail = Jail::new("planted");
            let output = jail.command(&["plant", kind, planted]).output().unwrap();
            assert!(output.status.success(), "{kind} {planted}: {output:?}");
            let shadow = std::fs::metadata("/etc/shadow").unwrap();
            let again = jail.command(&["exit", "0"]).output().unwrap();
            let after = std::fs::metadata("/etc/shadow").unwrap();
            let owner = |m: &std::fs::Metadata| (m.uid(), m.gid(), m.mode(), m.len());
            assert_eq!(owner(&shadow), owner(&after));
            // Only a directory at a file's name has to be looked at by the operator.
            if kind == "directory" && planted == "/dev/kvm" {
                let line = crate::support::refusal(again);
                assert!(line.contains(planted), "{line}");
            } else {
                assert!(again.status.success(), "{kind} {planted}: {again:?}");
            }
        }
    }
}

#[test]
fn a_renaming_loop_never_leads_outside() {
    // The jail's user owns the id's folder, as after `chown -R`, and changes what `root` and
    // what its folders are all the time.
    for swapped in [
        "root",
        "root/dev",
        "root/run",
        "root/dev/kvm",
        "root/peer-program",
        "root/peer-program.pid",
    ] {
        let outside = Outside::new();
        chown(outside.path("folder"), Some(0), Some(0)).unwrap();
        let before = outside.state();
        let jail = Jail::new("loop");
        std::fs::create_dir_all(jail.root().join("dev/net")).unwrap();
        std::fs::create_dir_all(jail.root().join("run")).unwrap();
        for path in [
            jail.jail(),
            jail.root(),
            jail.root().join("dev"),
            jail.root().join("run"),
        ] {
            chown(path, Some(UID), Some(UID)).unwrap();
        }
        let target = match swapped.contains("kvm") || swapped.contains("peer") {
            true => outside.path("file"),
            false => outside.path("folder"),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let at = jail.jail().join(swapped);
        let mover = {
            let stop = Arc::clone(&stop);
            let (link, aside) = (jail.jail().join("link"), jail.jail().join("aside"));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let _ = symlink(&target, &link);
                    let _ = std::fs::rename(&at, &aside);
                    let _ = std::fs::rename(&link, &at);
                    let _ = std::fs::rename(&at, &link);
                    let _ = std::fs::rename(&aside, &at);
                }
            })
        };
        for _ in 0..40 {
            let _ = jail
                .command(&["exit", "0"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap();
            let mut reap = Command::new(JAILER);
            reap.arg("reap").arg("--run-dir").arg(jail.run_dir());
            let _ = reap.stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
        stop.store(true, Ordering::Relaxed);
        mover.join().unwrap();
        assert_eq!(outside.state(), before, "{swapped}");
    }
}

#[test]
fn what_stands_in_the_run_directory_is_not_followed() {
    let jail = Jail::new("run");
    jail.report(&["exit", "0"]);
    let journal = crate::support::walk(&jail.run_dir())
        .find(|path| path.ends_with("journal"))
        .unwrap();
    let key = journal.parent().unwrap();
    let paths = [
        jail.run_dir(),
        jail.run_dir().join("_peer"),
        key.to_owned(),
        key.join("lock"),
        journal.clone(),
        key.join("journal.new"),
    ];
    for at in paths {
        for kind in KINDS {
            let outside = Outside::new();
            let before = outside.state();
            jail.reap();
            let _ = std::fs::remove_dir_all(jail.run_dir());
            for above in at.ancestors().collect::<Vec<_>>().iter().rev().skip(1) {
                if above.starts_with(jail.run_dir()) && *above != at {
                    std::fs::create_dir(above).unwrap();
                    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
                    std::fs::set_permissions(above, mode).unwrap();
                }
            }
            place(kind, &at, &outside);
            let output = jail.command(&["exit", "0"]).output().unwrap();
            let told = format!("{kind} at {}", at.display());
            assert_eq!(outside.state(), before, "{told}");
            assert!(!outside.path("new").exists(), "{told}");
            // A new journal replaces what stands at its name.
            if !output.status.success() {
                crate::support::refusal(output);
            }
            let mut reap = Command::new(JAILER);
            reap.arg("reap").arg("--run-dir").arg(jail.run_dir());
            let _ = reap.output().unwrap();
            assert_eq!(outside.state(), before, "{told}, after the reaper");
            match at.symlink_metadata() {
                Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(&at).unwrap(),
                Ok(_) => std::fs::remove_file(&at).unwrap(),
                Err(_) => {}
            }
        }
    }
}
