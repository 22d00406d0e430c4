//! What the peer's jailer lacks: each layer as the kernel shows it, and each without it.

use crate::support::{Jail, Report, Running, before_exec, namespace, status};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

const NONE: &str = "0000000000000000";

#[test]
fn the_kernel_shows_every_layer() {
    let jail = Jail::new("layers");
    let running = jail.start(&["sleep"]);
    let pid = running.pid();
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(status(pid, set), NONE, "{set}");
    }
    for (line, value) in [
        ("NoNewPrivs:", "1"),
        ("Umask:", "0077"),
        ("SigBlk:", NONE),
        ("Groups:", ""),
    ] {
        assert_eq!(status(pid, line), value, "{line}");
    }
    let own = std::process::id() as i32;
    for kind in ["mnt", "ipc", "uts", "cgroup"] {
        assert_ne!(namespace(pid, kind), namespace(own, kind), "{kind}");
    }
    for kind in ["net", "pid", "user"] {
        assert_eq!(namespace(pid, kind), namespace(own, kind), "{kind}");
    }
    assert_eq!(running.report.one("hostname"), "casemate");
    assert_eq!(running.report.one("leader"), "1");
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let mut points: Vec<(&str, &str)> = mounts
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            (fields[4], fields[5])
        })
        .collect();
    points.sort_unstable();
    let [(root, flags), (program, read_only)] = points[..] else {
        panic!("{mounts}");
    };
    assert_eq!((root, program), ("/", "/peer-program"));
    assert!(flags.contains("nosuid"), "{mounts}");
    assert!(read_only.starts_with("ro,nosuid"), "{mounts}");
    running.kill();
}

/// Runs `try` with a listener outside, a layer's worth of inheritance, and flags.
fn tried(flags: &[&str]) -> Report {
    let jail = Jail::with("without", flags);
    let mut command = jail.command(&["try"]);
    before_exec(&mut command, || {
        // SAFETY: a structure that outlives the call.
        unsafe {
            let mut one: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&raw mut one, libc::SIGUSR1);
            libc::sigprocmask(libc::SIG_BLOCK, &raw const one, std::ptr::null_mut());
            libc::umask(0o27);
            libc::syscall(
                libc::SYS_keyctl,
                libc::KEYCTL_JOIN_SESSION_KEYRING,
                std::ptr::null::<u8>(),
            );
            let name = c"casemate-peer-test";
            let key = libc::syscall(
                libc::SYS_add_key,
                c"user".as_ptr(),
                name.as_ptr(),
                b"k".as_ptr(),
                1,
                -3,
            );
            // For everybody: else its user would be what keeps the program from it.
            libc::syscall(libc::SYS_keyctl, libc::KEYCTL_SETPERM, key, 0x3f3f_3f3f);
            libc::syscall(libc::SYS_keyctl, libc::KEYCTL_SETPERM, -3, 0x3f3f_3f3f);
        }
        Ok(())
    });
    Report::of(command.output().unwrap())
}

#[test]
fn each_layer_can_be_left_off_and_only_it() {
    let address = SocketAddr::from_abstract_name("casemate-peer-test").unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let fixed = |report: &Report| {
        let hostname = match report.one("hostname") {
            "casemate" => "own",
            _ => "host's",
        };
        let core = match report.one("core") {
            "1 1" => "off",
            _ => "on",
        };
        [
            ("session", report.one("leader").to_owned()),
            ("keyring", report.one("callers-key").to_owned()),
            ("umask", report.one("umask").to_owned()),
            ("signals", report.one("blocked").to_owned()),
            ("uts-ns", hostname.to_owned()),
            ("core-dumps", core.to_owned()),
            ("capabilities", report.one("bounding").to_owned()),
            ("no-new-privs", report.one("nnp").to_owned()),
            ("landlock", report.tried("abstract").to_string()),
        ]
    };
    let all = fixed(&tried(&[]));
    let eperm = libc::EPERM.to_string();
    let want = ["1", "0", "77", "0", "own", "off", "0", "1", &eperm];
    assert_eq!(all.each_ref().map(|(_, value)| value.as_str()), want);
    for (name, value) in &all {
        let others = fixed(&tried(&["--without", name]));
        for ((other, there), (_, here)) in all.iter().zip(&others) {
            assert_eq!(
                there == here,
                other != name,
                "--without {name}: {other} is {here}, with {value}"
            );
        }
    }
}

#[test]
fn namespaces_and_mounts_can_be_left_off() {
    let own = std::process::id() as i32;
    for (name, kind) in [
        ("ipc-ns", "ipc"),
        ("uts-ns", "uts"),
        ("cgroup-ns", "cgroup"),
    ] {
        let jail = Jail::with("without", &["--without", name]);
        let running = jail.start(&["sleep"]);
        assert_eq!(
            namespace(running.pid(), kind),
            namespace(own, kind),
            "{kind}"
        );
        running.kill();
    }
    let jail = Jail::with("without", &["--without", "nosuid"]);
    let running = jail.start(&["sleep"]);
    let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", running.pid())).unwrap();
    let root = mounts.lines().find(|line| line.contains(" / rw")).unwrap();
    assert!(!root.contains("nosuid"), "{mounts}");
    running.kill();
}

#[test]
fn all_layers_off_is_the_peers_jail() {
    let all = [
        "session",
        "keyring",
        "umask",
        "signals",
        "ipc-ns",
        "uts-ns",
        "cgroup-ns",
        "cgroup-values",
        "nosuid",
        "exec-mount",
        "core-dumps",
        "capabilities",
        "no-new-privs",
        "landlock",
    ];
    let flags: Vec<&str> = all.iter().flat_map(|name| ["--without", name]).collect();
    let jail = Jail::with("bare", &flags);
    let report = jail.report(&[]);
    assert_eq!(report.one("nnp"), "0");
    assert_ne!(report.one("bounding"), "0");
    assert_eq!(report.one("uid"), format!("{0} {0}", crate::support::UID));
}

#[test]
fn a_controlling_terminal_is_given_up() {
    // As a shell starts it: leader of a process group in a session that has a terminal.
    let jail = Jail::new("terminal");
    let pty = nix::pty::openpty(None, None).unwrap();
    let mut command = jail.command(&["try"]);
    let slave = std::os::fd::AsRawFd::as_raw_fd(&pty.slave);
    command.stdin(pty.slave.try_clone().unwrap());
    before_exec(&mut command, move || {
        // SAFETY: takes no memory.
        unsafe {
            libc::setsid();
            libc::ioctl(slave, libc::TIOCSCTTY, 0);
        }
        Ok(())
    });
    let report = Report::of(command.output().unwrap());
    assert_ne!(report.tried("tiocsti"), 0);
    assert_eq!(report.one("fd0").split(' ').next(), Some("20000"));
}

#[test]
fn a_job_of_a_shell_gives_up_the_terminal_too() {
    let jail = Jail::new("job");
    let pty = nix::pty::openpty(None, None).unwrap();
    let slave = std::os::fd::AsRawFd::as_raw_fd(&pty.slave);
    // The child leads the session, as the shell does; its own child leads a group in it, as
    // the job does.
    let mut shell = jail.command(&["sleep"]);
    shell.stdin(pty.slave.try_clone().unwrap());
    before_exec(&mut shell, move || {
        // SAFETY: takes no memory; the process has one thread.
        unsafe {
            libc::setsid();
            libc::ioctl(slave, libc::TIOCSCTTY, 0);
            let job = libc::fork();
            if job > 0 {
                libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0);
                libc::waitpid(job, std::ptr::null_mut(), 0);
                libc::_exit(0);
            }
            libc::setpgid(0, 0);
        }
        Ok(())
    });
    let running = Running::of(shell);
    let pid = crate::support::pid_file(&jail);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    // Leads its group, is not in a session of its own, has no terminal.
    assert_eq!(fields[2], pid.to_string(), "{stat}");
    assert_eq!(fields[3], running.pid().to_string(), "{stat}");
    assert_eq!(fields[4], "0", "{stat}");
    // SAFETY: takes no memory.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    running.kill();
}
