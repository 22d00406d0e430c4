//! Every flag, and every mistake with its one line.

use crate::support::{JAILER, Jail, PROGRAM, Report, namespace, os, refusal};
use std::process::{Command, Stdio};

#[test]
fn help_and_version_tell_themselves() {
    for (arguments, says) in [
        (&["--id", "--help"][..], "--chroot-base-dir"),
        (&["--exec-file", "x", "-h"], "--without"),
        (&["--id", "x", "--version"], "casemate-jailer "),
        (&["--version"], "casemate-jailer "),
        (&["--help"], "--exec-file"),
    ] {
        let output = Command::new(JAILER).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(says), "{arguments:?}: {text}");
    }
}

#[test]
fn resource_limits_hold() {
    let jail = Jail::new("limits");
    let report = jail.report(&[]);
    assert_eq!(report.one("nofile"), "2048 2048");
    assert_eq!(report.one("core"), "1 1");
    let flags = [
        "--resource-limit",
        "no-file=77",
        "--resource-limit",
        "fsize=250000000",
    ];
    let jail = Jail::with("limits", &flags);
    let report = jail.report(&[]);
    assert_eq!(report.one("nofile"), "77 77");
    assert_eq!(report.one("fsize"), "250000000 250000000");
}

#[test]
fn a_network_namespace_is_joined() {
    let name = format!("casemate-peer-{}", std::process::id());
    let ip = |arguments: &[&str]| {
        let status = Command::new("ip").args(arguments).status().unwrap();
        assert!(status.success(), "ip {arguments:?}");
    };
    ip(&["netns", "add", &name]);
    ip(&["-n", &name, "tuntap", "add", "casemate-t0", "mode", "tap"]);
    let path = format!("/var/run/netns/{name}");
    let jail = Jail::with("netns", &["--netns", &path]);
    let running = jail.start(&["sleep"]);
    let report = &running.report;
    assert_eq!(report.one("test-interface"), "1");
    let own = namespace(std::process::id() as i32, "net");
    assert_ne!(namespace(running.pid(), "net"), own);
    running.kill();
    let without = Jail::new("no-netns");
    let running = without.start(&["sleep"]);
    assert_eq!(namespace(running.pid(), "net"), own);
    assert_eq!(running.report.one("test-interface"), "0");
    running.kill();
    ip(&["netns", "del", &name]);
}

#[test]
fn what_is_no_network_namespace_is_refused() {
    let fifo = tempfile::tempdir().unwrap();
    let fifo = fifo.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [
        "/proc/self/ns/mnt",
        "/etc/passwd",
        "/nothing",
        "/dev/null",
        fifo.to_str().unwrap(),
    ] {
        let jail = Jail::with("bad-netns", &["--netns", path]);
        let line = jail.refused();
        assert!(
            line.contains(path) && line.contains("ip netns add"),
            "{line}"
        );
        jail.nothing_is_left();
    }
}

#[test]
fn mistakes_are_told_in_one_line_and_leave_nothing() {
    let jail = Jail::new("mistakes");
    let refused = |arguments: &[&str], says: &str| {
        let mut command = Command::new(JAILER);
        command
            .args(arguments)
            .arg("--run-dir")
            .arg(jail.run_dir())
            .stdin(Stdio::null());
        let line = refusal(command.output().unwrap());
        assert!(line.contains(says), "{arguments:?}: {line}");
    };
    let base = jail.base();
    let base = base.to_str().unwrap();
    let good = [
        "--id",
        "a",
        "--exec-file",
        PROGRAM,
        "--uid",
        "5",
        "--gid",
        "5",
        "--chroot-base-dir",
        base,
    ];
    let with = |at: usize, value: &'static str| {
        let mut arguments = good.to_vec();
        arguments[at] = value;
        arguments
    };
    refused(&good[2..], "--id is missing");
    refused(&good[..6], "--gid is missing");
    for bad in [
        "",
        "é",
        "a_b",
        "../x",
        "a/b",
        "1234567890123456789012345678901234567890123456789012345678901234x",
    ] {
        refused(&with(1, bad), "--id: ");
    }
    refused(&with(3, "/nothing/there"), "/nothing/there");
    refused(&with(3, "/etc"), "no regular file");
    refused(&with(3, "/"), "directory");
    refused(&with(3, "/etc/passwd"), "executable");
    refused(&with(3, "/dev/null"), "no regular file");
    for bad in ["-1", "4294967295", "root", "1.5", "99999999999"] {
        refused(&with(5, bad), "--uid: ");
        refused(&with(7, bad), "--gid: ");
    }
    refused(&with(5, "0"), "--allow-uid-0");
    refused(&with(9, "/nothing"), "mkdir -p");
    refused(&with(9, "/etc/passwd"), "/etc/passwd");
    let and = |more: &[&'static str]| {
        let mut arguments = good.to_vec();
        arguments.extend(more);
        arguments
    };
    refused(&and(&["--cgroup", "nosuch.file=1"]), "no cgroup hierarchy");
    refused(&and(&["--cgroup", "pids.max"]), "CONTROLLER.FILE=VALUE");
    refused(&and(&["--cgroup-version", "3"]), "--cgroup-version");
    refused(&and(&["--parent-cgroup", "../x"]), "--parent-cgroup");
    refused(&and(&["--resource-limit", "core=1"]), "no-file=NUMBER");
    let most = ["--resource-limit", "no-file=18446744073709551615"];
    refused(&and(&most), "/proc/sys/fs/nr_open");
    refused(&and(&["--without", "everything"]), "landlock");
    refused(&and(&["--uid", "6"]), "given twice");
    refused(&and(&["--bogus"]), "--help");
    refused(&and(&["stray"]), "after --");
    assert_eq!(crate::support::walk(&jail.base()).count(), 0);
    assert_eq!(crate::support::walk(&jail.run_dir()).count(), 0);
}

#[test]
fn a_program_that_cannot_be_executed_is_told_of() {
    for (name, text, says) in [
        ("script", "#!/nothing/sh\n", "statically linked"),
        ("junk", "junk", "built for this machine"),
    ] {
        let jail = Jail::new("exec");
        let program = jail.dir.path().join(name);
        std::fs::write(&program, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        for mode in [&[][..], &["--daemonize"], &["--new-pid-ns"]] {
            let mut command = Command::new(JAILER);
            command
                .args(["--id", "a", "--uid", "5", "--gid", "5", "--exec-file"])
                .arg(&program)
                .arg("--chroot-base-dir")
                .arg(jail.base())
                .arg("--run-dir")
                .arg(jail.run_dir())
                .args(mode)
                .stdin(Stdio::null());
            let line = refusal(command.output().unwrap());
            assert!(line.contains(says), "{line}");
            // Where another process waits, it has cleared up; else the next one does.
            if !mode.is_empty() {
                assert_eq!(crate::support::walk(&jail.base()).count(), 0);
            }
            jail.nothing_is_left();
        }
    }
}

#[test]
fn only_root_builds_jails() {
    let jail = Jail::new("user");
    let mut command = jail.command(&[]);
    std::os::unix::process::CommandExt::uid(&mut command, 65534);
    // The tests' own folder is not everybody's, the binary may not be either.
    let copy = tempfile::tempdir().unwrap();
    let path = copy.path().join("jailer");
    std::fs::copy(JAILER, &path).unwrap();
    let open = |path: &std::path::Path| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, mode).unwrap();
    };
    open(copy.path());
    open(&path);
    let mut other = Command::new(&path);
    other.args(command.get_args());
    std::os::unix::process::CommandExt::uid(&mut other, 65534);
    let line = refusal(other.output().unwrap());
    assert!(line.contains("sudo"), "{line}");
}

#[test]
fn uid_0_is_root_without_a_capability() {
    let jail = Jail::new("root");
    let mut command = Command::new(JAILER);
    command
        .args([
            "--id",
            &jail.id,
            "--exec-file",
            PROGRAM,
            "--uid",
            "0",
            "--gid",
            "0",
        ])
        .arg("--allow-uid-0")
        .arg("--chroot-base-dir")
        .arg(jail.base())
        .arg("--run-dir")
        .arg(jail.run_dir())
        .args([os("--"), os("try")]);
    let report = Report::of(command.output().unwrap());
    assert_eq!(report.one("uid"), "0 0");
    assert_eq!(report.one("bounding"), "0");
    assert_eq!(report.tried("mount"), libc::EPERM);
    for attempt in ["write-program", "chmod-program"] {
        assert_eq!(report.tried(attempt), libc::EROFS, "{attempt}");
    }
}
