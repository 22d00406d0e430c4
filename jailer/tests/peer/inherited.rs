//! What the caller has and the program must not get.

use crate::support::{JAILER, Jail, PROGRAM, Report, before_exec};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::Command;

#[test]
fn no_environment_is_passed_on_whatever_is_in_it() {
    let jail = Jail::new("environment");
    let mut command = jail.command(&[]);
    command
        .env("SECRET", "s3cret")
        .env(
            OsString::from_vec(b"BAD\xff\xfe".to_vec()),
            OsString::from_vec(b"\xff=\xfe".to_vec()),
        )
        .env("LD_PRELOAD", "/x.so");
    let report = Report::of(command.output().unwrap());
    assert!(report.all("env").is_empty());
}

#[test]
fn arguments_need_not_be_utf_8() {
    let jail = Jail::new("bytes");
    let mut command = jail.command(&[]);
    command.arg(OsString::from_vec(b"\xff\xfe=\n".to_vec()));
    let report = Report::of(command.output().unwrap());
    assert_eq!(*report.all("arg").last().unwrap(), "\\xff\\xfe=\\n");
}

#[test]
fn paths_need_not_be_utf_8_or_pretty() {
    let jail = Jail::new("path");
    for name in [&b"\xff\xfe"[..], b"a b\nc", b"-x", b"x\\040y"] {
        let name = OsString::from_vec(name.to_vec());
        let (base, program) = (
            jail.dir.path().join("b").join(&name),
            jail.dir.path().join(&name),
        );
        std::fs::create_dir_all(&base).unwrap();
        std::fs::copy(PROGRAM, &program).unwrap();
        let start = || {
            let mut command = Command::new(JAILER);
            command
                .args(["--id", "a", "--uid", "5", "--gid", "5", "--exec-file"])
                .arg(&program)
                .arg("--chroot-base-dir")
                .arg(&base)
                .arg("--run-dir")
                .arg(jail.run_dir());
            Report::of(command.output().unwrap())
        };
        // Twice: the second clears what the first left, by its journal.
        start();
        start();
        jail.reap();
        assert_eq!(crate::support::walk(&base).count(), 0, "{name:?}");
    }
}

#[test]
fn inherited_fds_are_closed() {
    let jail = Jail::new("fds");
    let mut command = jail.command(&[]);
    before_exec(&mut command, || {
        for (fd, path) in [
            (3, c"/"),
            (9, c"/etc"),
            (200, c"/dev/null"),
            (1000, c"/etc/passwd"),
        ] {
            // SAFETY: a C string; dup2 makes a copy that stays open over the exec.
            unsafe {
                let open = libc::open(path.as_ptr(), libc::O_RDONLY);
                libc::dup2(open, fd);
            }
        }
        Ok(())
    });
    let report = Report::of(command.output().unwrap());
    assert_eq!(report.one("fds"), "0 1 2");
}

#[test]
fn closed_standard_fds_do_not_become_something_else() {
    let jail = Jail::new("closed");
    let mut command = jail.command(&["file", "/out"]);
    before_exec(&mut command, || {
        // SAFETY: takes no memory.
        unsafe {
            libc::close(0);
            libc::close(1);
            libc::close(2);
        }
        Ok(())
    });
    assert!(command.status().unwrap().success());
    let report = crate::support::report_in(&jail.root().join("out"));
    let null = format!("{:o} {}", libc::S_IFCHR, libc::makedev(1, 3));
    for fd in ["fd0", "fd1", "fd2"] {
        assert_eq!(report.one(fd), null);
    }
}

#[test]
fn signals_umask_groups_and_keys_are_not_inherited() {
    let jail = Jail::new("signals");
    let mut command = jail.command(&[]);
    before_exec(&mut command, || {
        // SAFETY: masks and structures that outlive the calls; the key is a new keyring's.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
            for signal in [
                libc::SIGHUP,
                libc::SIGTERM,
                libc::SIGCHLD,
                libc::SIGUSR1,
                40,
            ] {
                libc::signal(signal, libc::SIG_IGN);
            }
            libc::umask(0);
            libc::setgroups(2, [4, 27].as_ptr());
            libc::syscall(
                libc::SYS_keyctl,
                libc::KEYCTL_JOIN_SESSION_KEYRING,
                std::ptr::null::<u8>(),
            );
            libc::syscall(
                libc::SYS_add_key,
                c"user".as_ptr(),
                c"casemate-peer-test".as_ptr(),
                b"k".as_ptr(),
                1,
                -3,
            );
        }
        Ok(())
    });
    let report = Report::of(command.output().unwrap());
    for (name, value) in [
        ("blocked", "0"),
        ("ignored", "0"),
        ("umask", "77"),
        ("groups", "0"),
        ("callers-key", "0"),
    ] {
        assert_eq!(report.one(name), value, "{name}");
    }
}
