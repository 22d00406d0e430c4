//! The jailer killed, and failed, at every system call that it makes (strace --inject):
//! nothing that the next start of the same id cannot clear, and never a program that runs
//! with less than the whole jail.

use crate::support::{Jail, NAME, Report, UID, eventually, processes_in};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs the jail's command line under strace.
fn traced(jail: &Jail, arguments: &[&str]) -> (Output, String) {
    let trace = jail.dir.path().join("trace");
    let command = jail.command(&["file", "/out"]);
    let output = Command::new("strace")
        .args(["-f", "-qq", "-o"])
        .arg(&trace)
        .args(arguments)
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = std::fs::read(&trace).unwrap_or_default();
    (output, String::from_utf8_lossy(&text).into_owned())
}

/// How often each system call is made, by the process that makes it most often, up to the
/// exec of the program.
fn calls(jail: &Jail) -> BTreeMap<String, usize> {
    let (output, text) = traced(jail, &[]);
    assert!(output.status.success(), "{output:?}");
    let mut calls: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut over: Vec<String> = Vec::new();
    for line in text.lines() {
        let (pid, rest) = line.split_once(' ').unwrap();
        let Some((name, arguments)) = rest.trim_start().split_once('(') else {
            continue;
        };
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !plain || over.iter().any(|o| o == pid) {
            continue;
        }
        *calls.entry((pid.to_owned(), name.to_owned())).or_default() += 1;
        if name == "execve" && arguments.starts_with(&format!("\"/{NAME}\"")) {
            over.push(pid.to_owned());
        }
    }
    let mut most: BTreeMap<String, usize> = BTreeMap::new();
    for ((_, name), count) in calls {
        let there = most.entry(name).or_default();
        *there = count.max(*there);
    }
    eventually("it is over", || processes_in(&jail.root()).is_empty());
    std::fs::remove_file(jail.root().join("out")).unwrap();
    most
}

/// Made by libc and Rust before `main`, which cannot go on without them, or never failing.
const NOT_FAILED: [&str; 19] = [
    "arch_prctl",
    "brk",
    "clock_gettime",
    "execve",
    "getegid",
    "geteuid",
    "getpid",
    "umask",
    "exit_group",
    "getrandom",
    "mmap",
    "mprotect",
    "munmap",
    "poll",
    "rseq",
    "rt_sigaction",
    "set_robust_list",
    "set_tid_address",
    "sigaltstack",
];

/// What the program told, if it ran.
fn told(jail: &Jail) -> Option<Report> {
    let text = std::fs::read_to_string(jail.root().join("out")).ok()?;
    text.ends_with("done 1\n")
        .then(|| Report::until_done(&mut text.as_bytes()))
}

/// A program that ran had the whole jail.
fn whole(report: &Report, at: &str) {
    assert_eq!(report.one("uid"), format!("{UID} {UID}"), "{at}");
    for (name, value) in [
        ("nnp", "1"),
        ("bounding", "0"),
        ("groups", "0"),
        ("nofile", "2048 2048"),
        ("core", "1 1"),
        ("umask", "77"),
        ("blocked", "0"),
        ("hostname", "casemate"),
        ("fds", "0 1 2"),
    ] {
        assert_eq!(report.one(name), value, "{name}: {at}");
    }
    assert!(report.all("env").is_empty());
    let files = report.all("file");
    assert!(
        files.iter().all(|line| !line.starts_with("/etc")),
        "{at}: {files:?}"
    );
}

/// A cgroup, where there is one of that name.
fn leaf(parent: &str, id: &str) -> std::path::PathBuf {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = casemate_jailer::cgroup::mounts(&text);
    let has = |point: &Path| point.join(parent).exists();
    let mount = mounts.iter().find(|mount| has(&mount.point));
    mount.map_or_else(
        || "/nowhere".into(),
        |mount| mount.point.join(parent).join(id),
    )
}

fn each(mode: &[&str], injection: &str, step: usize) {
    let unique = injection.bytes().map(usize::from).sum::<usize>() + mode.len() + step;
    let parent = format!("casemate-peer-kills-{unique}-{}", std::process::id());
    let mut flags = vec!["--cgroup", "pids.max=30", "--parent-cgroup", &parent];
    flags.extend(mode);
    let jail = Jail::with("kills", &flags);
    let fails = injection.starts_with("error");
    let all: Vec<(String, usize)> = calls(&jail)
        .into_iter()
        .filter(|(name, _)| !fails || !NOT_FAILED.contains(&name.as_str()))
        // The middle of a loop over all signals or all capabilities is like its ends.
        .flat_map(|(name, count)| {
            let ends = move |&n: &usize| n <= 8 || n + 8 > count || count < 32;
            (1..=count).filter(ends).map(move |n| (name.clone(), n))
        })
        .collect();
    assert!(all.len() > 150, "only {} calls", all.len());
    let mut hits = 0;
    for (name, n) in all.iter().step_by(step) {
        let at = format!("{injection} at {name} {n} {mode:?}");
        let inject = format!("inject={name}:{injection}:when={n}");
        // Only what is traced is injected into.
        let trace = format!("trace={name}");
        let (output, text) = traced(&jail, &["-e", &trace, "-e", &inject]);
        hits += usize::from(text.contains("INJECTED") || text.contains("killed by SIGKILL"));
        // A child whose jailer was killed may be at its end still.
        eventually("nothing of it runs", || {
            processes_in(&jail.root()).is_empty()
        });
        if let Some(report) = told(&jail) {
            whole(&report, &at);
            std::fs::remove_file(jail.root().join("out")).unwrap();
        } else if fails && !is_the_programs(&output) {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let one = said.lines().count() == 1 && said.starts_with("casemate-jailer: ");
            assert!(output.status.code() == Some(1) && one, "{at}: {output:?}");
        }
        // The same id starts, whatever was left.
        let again = jail.command(&["file", "/out"]).output().unwrap();
        assert!(again.status.success(), "{at}: {again:?}");
        eventually("a report", || told(&jail).is_some());
        std::fs::remove_file(jail.root().join("out")).unwrap();
        eventually("it is over", || processes_in(&jail.root()).is_empty());
        jail.nothing_is_left();
        assert!(!leaf(&parent, "").exists(), "{at}");
    }
    // Some calls, such as looking at a process that is not there, are not made every time.
    let tries = all.iter().step_by(step).count();
    assert!(hits * 20 > tries * 19, "{hits} of {tries} were hit");
}

/// Whether it was the program that was hit, after its exec.
fn is_the_programs(output: &Output) -> bool {
    String::from_utf8_lossy(&output.stderr).contains("program.rs")
}

#[test]
fn killed_at_every_system_call() {
    each(&[], "signal=KILL", 1);
}

#[test]
fn killed_at_every_system_call_with_a_pid_namespace() {
    each(&["--new-pid-ns"], "signal=KILL", 1);
}

#[test]
fn killed_at_every_system_call_as_a_daemon() {
    each(&["--daemonize", "--new-pid-ns"], "signal=KILL", 1);
}

#[test]
fn failed_at_every_system_call() {
    for error in ["EPERM", "ENOMEM", "ENOSPC", "EMFILE"] {
        each(&[], &format!("error={error}"), 1);
    }
}
