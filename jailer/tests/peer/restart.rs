//! The same id again: after any end, while it runs, and many at once.

use crate::support::{JAILER, Jail, NAME, PROGRAM, Running, eventually, processes_in, refusal};
use std::process::{Command, Stdio};

#[test]
fn an_id_starts_again_after_kill_9() {
    let jail = Jail::new("again");
    for _ in 0..3 {
        let running = jail.start(&["sleep"]);
        running.kill();
    }
    jail.nothing_is_left();
}

#[test]
fn an_id_that_runs_is_refused_in_one_line_and_runs_on() {
    for mode in [&[][..], &["--new-pid-ns"], &["--daemonize"]] {
        let jail = Jail::with("running", mode);
        let mut first = jail
            .command(&["sleep"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        eventually("the program runs", || {
            processes_in(&jail.root()).iter().any(|pid| {
                std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.trim() == NAME)
            })
        });
        if !mode.is_empty() {
            assert!(first.wait().unwrap().success());
        }
        let pid = crate::support::pid_file(&jail);
        let line = jail.refused();
        assert!(
            line.contains(&format!("is running as process {pid}")),
            "{line}"
        );
        assert!(line.contains("--id"), "{line}");
        assert_eq!(crate::support::pid_file(&jail), pid);
        assert!(jail.root().join("dev/kvm").exists());
        // A reaper leaves it alone, too.
        assert_eq!(jail.reap(), "");
        assert!(jail.root().join("dev/kvm").exists());
        // SAFETY: takes no memory.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        let _ = first.wait();
        eventually("it is gone", || processes_in(&jail.root()).is_empty());
        jail.nothing_is_left();
    }
}

#[test]
fn of_many_at_once_exactly_one_runs() {
    for round in 0..4 {
        let jail = Jail::new(&format!("many-{round}"));
        let children: Vec<_> = (0..32)
            .map(|_| {
                jail.command(&["sleep"])
                    .stdout(Stdio::null())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let mut winner = None;
        eventually("all but one are refused", || {
            processes_in(&jail.root()).len() == 1
        });
        for mut child in children {
            let pid = child.id() as i32;
            eventually("it is decided", || {
                child.try_wait().unwrap().is_some() || processes_in(&jail.root()).contains(&pid)
            });
            match child.try_wait().unwrap() {
                Some(_) => {
                    let line = refusal(child.wait_with_output().unwrap());
                    assert!(line.contains("is running"), "{line}");
                }
                None => assert!(winner.replace(child).is_none(), "two winners"),
            }
        }
        let mut winner = winner.expect("a winner");
        winner.kill().unwrap();
        winner.wait().unwrap();
        jail.nothing_is_left();
    }
}

#[test]
fn children_that_outlive_the_program_are_ended() {
    let jail = Jail::new("orphans");
    let mut first = jail.start(&["child"]);
    assert!(first.child.wait().unwrap().success());
    eventually("an orphan", || processes_in(&jail.root()).len() == 1);
    let orphan = processes_in(&jail.root());
    jail.report(&["exit", "0"]);
    assert!(
        !processes_in(&jail.root())
            .iter()
            .any(|pid| orphan.contains(pid))
    );
    jail.nothing_is_left();
}

#[test]
fn a_socket_that_nobody_listens_at_does_not_stop_the_next() {
    let jail = Jail::new("socket");
    for path in ["/run/api.socket", "/v.sock"] {
        for _ in 0..2 {
            let running = jail.start(&["socket", path]);
            let socket = jail.root().join(&path[1..]);
            eventually("a socket", || socket.exists());
            // Reachable from outside, as tooling does it.
            eventually("a listener", || {
                std::os::unix::net::UnixStream::connect(&socket).is_ok()
            });
            running.kill();
        }
    }
    jail.nothing_is_left();
}

#[test]
fn an_operators_socket_stays() {
    let jail = Jail::new("listener");
    std::fs::create_dir_all(jail.root().join("run")).unwrap();
    let path = jail.root().join("run/backend.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::os::unix::fs::chown(&path, Some(crate::support::UID), None).unwrap();
    for _ in 0..2 {
        jail.report(&["exit", "0"]);
        assert!(path.exists());
    }
}

#[test]
fn an_id_starts_again_as_another_user() {
    let jail = Jail::new("user");
    jail.report(&["exit", "0"]);
    std::fs::write(jail.root().join("run/log"), "kept").unwrap();
    let mut command = Command::new(JAILER);
    command
        .args([
            "--id",
            &jail.id,
            "--exec-file",
            PROGRAM,
            "--uid",
            "77",
            "--gid",
            "78",
        ])
        .arg("--chroot-base-dir")
        .arg(jail.base())
        .arg("--run-dir")
        .arg(jail.run_dir())
        .args(["--", "sleep"]);
    let running = Running::of(command);
    assert_eq!(running.report.one("uid"), "77 77");
    let run = running.report.all("file");
    assert!(run.contains(&"/run 40700 77:78 0"), "{run:?}");
    running.kill();
}

#[test]
fn what_an_earlier_boot_left_is_taken_over() {
    // Its journal went with /run; the folders are still there.
    let jail = Jail::new("boot");
    jail.report(&["exit", "0"]);
    std::fs::remove_dir_all(jail.run_dir()).unwrap();
    jail.report(&["exit", "0"]);
}

#[test]
fn a_jail_of_another_run_directory_is_left_alone() {
    let jail = Jail::new("elsewhere");
    let running = jail.start(&["sleep"]);
    let mut other = jail.command(&[]);
    other.env_clear();
    let arguments: Vec<_> = other
        .get_args()
        .map(|argument| match argument == jail.run_dir() {
            true => jail.dir.path().join("other-run").into_os_string(),
            false => argument.to_owned(),
        })
        .collect();
    let mut command = Command::new(JAILER);
    command.args(arguments).stdin(Stdio::null());
    let line = refusal(command.output().unwrap());
    let says = format!("is running as process {}", running.pid());
    assert!(line.contains(&says), "{line}");
    assert_eq!(crate::support::pid_file(&jail), running.pid());
    running.kill();
    // Once that is gone, it is nobody's.
    assert!(command.output().unwrap().status.success());
}

#[test]
fn the_same_id_under_other_programs_and_bases_is_another_jail() {
    let jail = Jail::new("same");
    let other = Jail::new("other");
    let copy = jail.dir.path().join("copy");
    std::fs::copy(PROGRAM, &copy).unwrap();
    let start = |program: &std::path::Path, base: &std::path::Path| {
        let mut command = Command::new(JAILER);
        command
            .args(["--id", "a", "--uid", "5", "--gid", "5", "--exec-file"])
            .arg(program)
            .arg("--chroot-base-dir")
            .arg(base)
            .arg("--run-dir")
            .arg(jail.run_dir())
            .args(["--", "sleep"]);
        Running::of(command)
    };
    let all = [
        start(PROGRAM.as_ref(), &jail.base()),
        start(&copy, &jail.base()),
        start(PROGRAM.as_ref(), &other.base()),
    ];
    for running in all {
        running.kill();
    }
    let cleared = jail.reap();
    assert_eq!(cleared.lines().count(), 3, "{cleared}");
    assert_eq!(crate::support::walk(&other.base()).count(), 0);
}

#[test]
fn a_directory_with_the_inode_of_one_that_is_gone_is_another_jails() {
    // ext4 gives an inode's number again at once: a stale journal must not name a jail by it.
    let (dead, live) = (Jail::new("dead"), Jail::new("live"));
    dead.report(&["exit", "0"]);
    let journal = crate::support::walk(&dead.run_dir())
        .find(|path| path.ends_with("journal"))
        .unwrap();
    let running = live.start(&["sleep"]);
    let inode = |path: &std::path::Path| {
        let meta = std::fs::metadata(path).unwrap();
        use std::os::unix::fs::MetadataExt;
        format!("[{},{}]", meta.dev(), meta.ino())
    };
    let text = std::fs::read_to_string(&journal).unwrap();
    let text = text.replace(&inode(&dead.root()), &inode(&live.root()));
    std::fs::write(&journal, text).unwrap();
    dead.reap();
    assert_eq!(processes_in(&live.root()), [running.pid()]);
    running.kill();
}

#[test]
fn folders_that_were_made_go_with_their_last_file() {
    let jail = Jail::new("folders");
    jail.report(&["exit", "0"]);
    let log = jail.root().join("log");
    std::fs::write(&log, "").unwrap();
    jail.report(&["exit", "0"]);
    assert!(log.exists());
    std::fs::remove_file(&log).unwrap();
    jail.nothing_is_left();
}

#[test]
fn a_caller_in_a_chroot_gets_its_own_folders_cleared() {
    // A chroot that is a mount, as of an initramfs; a failure leaves nothing in it.
    let jail = Jail::new("chroot");
    let chroot = jail.dir.path().join("chroot");
    let run = |program: &str, arguments: &[&str]| {
        let status = Command::new(program).args(arguments).status().unwrap();
        assert!(status.success(), "{program} {arguments:?}");
    };
    std::fs::create_dir(&chroot).unwrap();
    let at = chroot.to_str().unwrap();
    run("mount", &["-t", "tmpfs", "casemate-test", at]);
    for folder in ["proc", "dev", "base"] {
        std::fs::create_dir(chroot.join(folder)).unwrap();
    }
    run("mount", &["-t", "proc", "proc", &format!("{at}/proc")]);
    run("mount", &["--bind", "/dev", &format!("{at}/dev")]);
    std::fs::copy(JAILER, chroot.join("jailer")).unwrap();
    std::fs::copy(PROGRAM, chroot.join("program")).unwrap();
    let start = || {
        let mut command = Command::new("chroot");
        command
            .args([at, "/jailer", "--id", "a", "--exec-file", "/program"])
            .args(["--uid", "5", "--gid", "5", "--chroot-base-dir", "/base"])
            .args(["--run-dir", "/run"])
            .stdin(Stdio::null());
        command.output().unwrap()
    };
    let good = start();
    run("chroot", &[at, "/jailer", "reap", "--run-dir", "/run"]);
    // Noticed when folders and devices are there, in the namespace of the jail's mounts.
    let obstacle = chroot.join("base/program/a/root/program.pid");
    std::fs::create_dir_all(&obstacle).unwrap();
    let bad = start();
    let left: Vec<_> = crate::support::walk(&chroot.join("base"))
        .chain(crate::support::walk(&chroot.join("run")))
        .collect();
    run("umount", &["-R", at]);
    assert!(good.status.success(), "{good:?}");
    let line = refusal(bad);
    assert!(line.contains("program.pid is a directory"), "{line}");
    let obstacles: Vec<_> = obstacle.ancestors().take(4).collect();
    assert!(
        left.iter().all(|path| obstacles.contains(&path.as_path())),
        "{left:?}"
    );
}
