//! `--daemonize` and `--new-pid-ns`.

use crate::support::{Jail, Running, namespace, pid_file, report_in, status};

fn kill(pid: i32) {
    // SAFETY: takes no memory.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

#[test]
fn a_daemon_has_no_terminal_and_reads_and_writes_nothing() {
    let jail = Jail::with("daemon", &["--daemonize"]);
    let output = jail.command(&["file", "/out", "sleep"]).output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty());
    let report = report_in(&jail.root().join("out"));
    let null = format!("{:o} {}", libc::S_IFCHR, libc::makedev(1, 3));
    for fd in ["fd0", "fd1", "fd2"] {
        assert_eq!(report.one(fd), null);
    }
    let pid = pid_file(&jail);
    assert_eq!(report.one("pid"), pid.to_string());
    // In a session of its own that it does not lead: it cannot get a terminal again.
    assert_eq!(report.one("leader"), "0");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    assert_eq!(fields[4], "0", "a terminal: {stat}");
    // SAFETY: takes no memory.
    let own = unsafe { libc::getsid(0) };
    assert_ne!(fields[3], own.to_string());
    assert_eq!(report.one("fds"), "0 1 2");
    kill(pid);
}

#[test]
fn in_a_pid_namespace_the_program_is_the_first() {
    let jail = Jail::with("pid-ns", &["--new-pid-ns"]);
    let mut running = Running::of(jail.command(&["sleep"]));
    // The jailer is gone once the program is there.
    assert!(running.child.wait().unwrap().success());
    assert_eq!(running.report.one("pid"), "1");
    let pid = pid_file(&jail);
    assert_ne!(pid, running.pid());
    let own = namespace(std::process::id() as i32, "pid");
    assert_ne!(namespace(pid, "pid"), own);
    assert!(status(pid, "NSpid:").ends_with(" 1"));
    kill(pid);
}

/// As in a container, where `exec` starts processes of a session that is led from outside.
#[test]
fn in_a_session_that_is_led_from_another_pid_namespace() {
    for options in [&["--new-pid-ns"][..], &["--new-pid-ns", "--daemonize"]] {
        let jail = Jail::with("led-outside", options);
        let jailer = jail.command(&["file", "/out", "child"]);
        let mut outside = std::process::Command::new("unshare");
        outside.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
        outside.arg(jailer.get_program()).args(jailer.get_args());
        let output = outside.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn both_together() {
    let jail = Jail::with("both", &["--new-pid-ns", "--daemonize"]);
    let output = jail.command(&["file", "/out", "sleep"]).output().unwrap();
    assert!(output.status.success());
    let report = report_in(&jail.root().join("out"));
    assert_eq!(report.one("pid"), "1");
    assert_eq!(report.one("leader"), "0");
    let pid = pid_file(&jail);
    assert!(status(pid, "NSpid:").ends_with(" 1"));
    kill(pid);
}

#[test]
fn its_end_is_the_end_of_all_in_its_pid_namespace() {
    let jail = Jail::with("all", &["--new-pid-ns"]);
    let mut running = Running::of(jail.command(&["child"]));
    assert!(running.child.wait().unwrap().success());
    crate::support::eventually("all are gone", || {
        crate::support::processes_in(&jail.root()).is_empty()
    });
    jail.nothing_is_left();
}

#[test]
fn the_parents_cpu_time_is_handed_on() {
    for mode in [&["--daemonize"][..], &["--new-pid-ns"]] {
        let jail = Jail::with("cpu", mode);
        assert!(jail.command(&["file", "/out"]).status().unwrap().success());
        let report = report_in(&jail.root().join("out"));
        let arguments = report.all("arg");
        let value = |name: &str| -> u64 {
            let at = arguments.iter().position(|a| *a == name).unwrap();
            arguments[at + 1].parse().unwrap()
        };
        assert!(value("--parent-cpu-time-us") > value("--start-time-cpu-us"));
    }
}
