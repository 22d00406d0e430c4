//! The layout, the arguments and the program's file.

use crate::support::{GID, Jail, NAME, PROGRAM, Report, UID};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Path, mode with type, owner and group, device.
fn entry(path: &Path) -> (String, u32, u32, u64) {
    let meta = std::fs::symlink_metadata(path).unwrap();
    let owner = format!("{}:{}", meta.uid(), meta.gid());
    (owner, meta.mode(), meta.nlink() as u32, meta.rdev())
}

#[test]
fn folders_devices_and_files_are_as_documented() {
    let jail = Jail::new("layout");
    let running = jail.start(&["sleep"]);
    let root = jail.root();
    let owner = format!("{UID}:{GID}");
    for folder in ["", "dev", "dev/net", "run"] {
        let (found, mode, ..) = entry(&root.join(folder));
        assert_eq!((found, mode), (owner.clone(), 0o40700), "{folder}");
    }
    for (device, major, minor) in [
        ("dev/kvm", 10, 232),
        ("dev/net/tun", 10, 200),
        ("dev/urandom", 1, 9),
    ] {
        let (found, mode, _, rdev) = entry(&root.join(device));
        assert_eq!((found, mode), (owner.clone(), 0o20600), "{device}");
        assert_eq!(rdev, libc::makedev(major, minor), "{device}");
    }
    let misc = std::fs::read_to_string("/proc/misc").unwrap();
    assert_eq!(
        misc.contains("userfaultfd"),
        root.join("dev/userfaultfd").exists()
    );
    for above in [jail.jail(), jail.base().join(NAME)] {
        let (found, mode, ..) = entry(&above);
        assert_eq!((found.as_str(), mode), ("0:0", 0o40755));
    }
    let program = entry(&root.join(NAME));
    let original = std::fs::metadata(PROGRAM).unwrap().mode();
    assert_eq!((program.0, program.1), (owner, original));
    let pid = entry(&root.join(format!("{NAME}.pid")));
    assert_eq!((pid.0.as_str(), pid.1), ("0:0", 0o100644));
    assert_eq!(crate::support::pid_file(&jail), running.pid());
    // The process that was started is the program.
    assert_eq!(running.report.one("pid"), running.pid().to_string());
    running.kill();
    jail.nothing_is_left();
}

#[test]
fn arguments_are_those_of_the_peer() {
    let jail = Jail::new("arguments");
    let report = jail.report(&["exit", "0", "", "a b", "--id", "--", "é"]);
    let arguments = report.all("arg");
    assert_eq!(arguments[0], format!("/{NAME}"));
    assert_eq!(&arguments[1..3], ["--id", &jail.id]);
    for (at, name) in [
        (3, "--start-time-us"),
        (5, "--start-time-cpu-us"),
        (7, "--parent-cpu-time-us"),
    ] {
        assert_eq!(arguments[at], name);
        assert!(arguments[at + 1].parse::<u64>().is_ok());
    }
    let rest = ["exit", "0", "", "a b", "--id", "--", "\\xc3\\xa9"];
    assert_eq!(&arguments[9..], rest);
    assert_eq!(report.one("comm"), NAME);
    assert!(report.all("env").is_empty());
}

#[test]
fn the_exit_status_is_the_programs() {
    let jail = Jail::new("status");
    let output = jail.command(&["exit", "42"]).output().unwrap();
    assert_eq!(output.status.code(), Some(42));
}

#[test]
fn the_program_cannot_be_overwritten_and_is_not_copied() {
    let jail = Jail::new("overwrite");
    let report = jail.report(&["try"]);
    for attempt in ["write-program", "chmod-program", "unlink-program"] {
        let error = report.tried(attempt);
        assert!(
            [libc::EACCES, libc::EROFS, libc::EBUSY].contains(&error),
            "{attempt}: {error}"
        );
    }
    assert_eq!(std::fs::metadata(jail.root().join(NAME)).unwrap().len(), 0);
}

#[test]
fn the_programs_own_user_cannot_overwrite_it_either() {
    // The copy is the jail's user's own, as with the peer; it is mounted read-only.
    let jail = Jail::with("copy", &["--without", "exec-mount"]);
    let report = jail.report(&["try"]);
    assert_eq!(report.tried("write-program"), libc::EROFS);
    assert_eq!(report.tried("chmod-program"), libc::EROFS);
    assert_eq!(report.tried("unlink-program"), libc::EBUSY);
    let copy = std::fs::read(jail.root().join(NAME)).unwrap();
    assert!(copy == std::fs::read(PROGRAM).unwrap());
}

#[test]
fn a_program_that_only_root_may_execute_is_copied() {
    let mut jail = Jail::new("private");
    let private = jail.dir.path().join("private");
    std::fs::copy(PROGRAM, &private).unwrap();
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o700)).unwrap();
    jail.flags = vec![];
    let mut command = std::process::Command::new(crate::support::JAILER);
    command
        .args([
            "--id",
            &jail.id,
            "--uid",
            "77777",
            "--gid",
            "77777",
            "--exec-file",
        ])
        .arg(&private)
        .arg("--chroot-base-dir")
        .arg(jail.base())
        .arg("--run-dir")
        .arg(jail.run_dir());
    let report = Report::of(command.output().unwrap());
    assert_eq!(report.one("uid"), "77777 77777");
    let copy = jail
        .base()
        .join("private")
        .join(&jail.id)
        .join("root/private");
    assert!(std::fs::metadata(copy).unwrap().len() > 0);
}

#[test]
fn links_to_program_and_base_are_the_operators_own() {
    let jail = Jail::new("links");
    let path = jail.dir.path();
    std::os::unix::fs::symlink(PROGRAM, path.join("link")).unwrap();
    std::os::unix::fs::symlink(jail.base(), path.join("base-link")).unwrap();
    let mut command = std::process::Command::new(crate::support::JAILER);
    command
        .args(["--id", &jail.id, "--uid", "5", "--gid", "5", "--exec-file"])
        .arg(path.join("link"))
        .arg("--chroot-base-dir")
        .arg(path.join("base-link"))
        .arg("--run-dir")
        .arg(jail.run_dir());
    Report::of(command.output().unwrap());
    // Named by what the link leads to, as with the peer.
    assert!(jail.root().join(NAME).exists());
}

#[test]
fn the_root_is_the_programs_to_use() {
    let jail = Jail::new("use");
    std::fs::create_dir_all(jail.root()).unwrap();
    std::fs::write(jail.root().join("vm.json"), "{}").unwrap();
    let report = jail.report(&["try"]);
    for attempt in ["make-file", "rename-across", "mkdir", "kvm"] {
        assert_eq!(report.tried(attempt), 0, "{attempt}");
    }
    let files = report.all("file");
    assert!(
        files.iter().any(|line| line.starts_with("/vm.json ")),
        "{files:?}"
    );
    // What the operator and the program made stays.
    jail.reap();
    assert!(jail.root().join("vm.json").exists());
    assert!(jail.root().join("made").exists());
    assert!(!jail.root().join("dev").exists());
    assert!(!jail.root().join(NAME).exists());
}

#[test]
fn mounts_of_the_operators_come_along_now_and_later() {
    let jail = Jail::new("mounts");
    std::fs::create_dir_all(jail.root()).unwrap();
    let (early, late) = (jail.root().join("early"), jail.root().join("late"));
    for path in [&early, &late] {
        std::fs::create_dir(path).unwrap();
    }
    let tmpfs = |path: &Path| {
        let status = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "casemate-test"])
            .arg(path)
            .status()
            .unwrap();
        assert!(status.success());
    };
    tmpfs(&early);
    std::fs::write(early.join("a"), "").unwrap();
    let running = jail.start(&["sleep"]);
    let shared = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let inside = |path: &str| Path::new(&format!("/proc/{}/root/{path}", running.pid())).exists();
    assert!(inside("early/a"));
    // Mounts spread only from where the host shares them, as systemd sets it up.
    let spreads = shared
        .lines()
        .any(|line| line.contains(" / / ") && line.contains("shared:"));
    tmpfs(&late);
    std::fs::write(late.join("b"), "").unwrap();
    assert_eq!(inside("late/b"), spreads);
    running.kill();
    for path in [&early, &late] {
        let status = std::process::Command::new("umount")
            .arg(path)
            .status()
            .unwrap();
        assert!(status.success());
    }
}
