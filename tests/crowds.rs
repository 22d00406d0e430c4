//! Many jails: at once, one after the other, and all of one name. Nothing is left, none
//! hears another, and of one name exactly one runs.

use casemate_tests::audit::AuditLog;
use casemate_tests::{bin, cell, leftovers};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Jails alive at once.
const AT_ONCE: usize = 500;
/// Jails one after the other.
const IN_SEQUENCE: usize = 2000;
/// Starts of one name.
const RIVALS: usize = 32;

/// Says its token, then waits for the end of its input.
const SCRIPT: &str = "echo up $TOKEN; cat; echo down $TOKEN";

/// A jail of `id`, whose token that is too; its three streams are pipes of ours.
fn jail(run_dir: &Path, log: &AuditLog, id: &str) -> Child {
    Command::new(bin("casemate"))
        .args(["jail", "--memory", "16M", "--pids", "8", "--id", id])
        .args(["--env", &format!("TOKEN={id}"), "--run-dir"])
        .arg(run_dir)
        .arg("--audit-dir")
        .arg(log.folder())
        .args(["--tenant", &leftovers::tenant(run_dir)])
        .args(["--", "sh", "-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("casemate starts")
}

/// What it says first; nothing where it was refused.
fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    let out = child.stdout.as_mut().expect("a pipe");
    BufReader::with_capacity(1, out)
        .read_line(&mut line)
        .expect("output");
    line
}

/// Ends its input; gives the rest of what it said, its errors and its status.
fn ended(mut child: Child) -> (String, String, Option<i32>) {
    drop(child.stdin.take());
    let (mut out, mut err) = (String::new(), String::new());
    let pipe = child.stdout.as_mut().expect("a pipe");
    pipe.read_to_string(&mut out).expect("output");
    let pipe = child.stderr.as_mut().expect("a pipe");
    pipe.read_to_string(&mut err).expect("errors");
    (out, err, child.wait().expect("ends").code())
}

fn nothing_is_left(run_dir: &Path) {
    assert_eq!(leftovers::all(run_dir), Vec::<String>::new());
}

#[test]
fn five_hundred_at_once_do_not_meet() {
    use nix::sys::resource::{Resource, setrlimit};
    // Three pipes each, and some to spare.
    setrlimit(Resource::RLIMIT_NOFILE, 4096, 4096).expect("root sets its limits");
    let run_dir = cell::run_folder();
    let ids: Vec<String> = (0..AT_ONCE).map(|n| format!("crowd-{n}")).collect();
    let log = AuditLog::new();
    let start = |id: &String| jail(run_dir.path(), &log, id);
    let mut alive: Vec<Child> = ids.iter().map(start).collect();
    for (child, id) in alive.iter_mut().zip(&ids) {
        assert_eq!(first_line(child), format!("up {id}\n"));
    }
    // From here on all of them are alive.
    for (child, id) in alive.into_iter().zip(&ids) {
        let wanted = (format!("down {id}\n"), String::new(), Some(0));
        assert_eq!(ended(child), wanted, "{id}");
    }
    nothing_is_left(run_dir.path());
    // Everybody's lines are there, and in one chain.
    let verdict = log.verdict();
    assert!(verdict.is_whole(), "{verdict:?}");
    for event in ["start", "layers", "exit"] {
        let found = log.events().iter().filter(|e| *e == event).count();
        assert_eq!(found, AT_ONCE, "{event}");
    }
}

#[test]
fn one_after_the_other_leave_nothing() {
    let run_dir = cell::run_folder();
    let log = AuditLog::new();
    for n in 0..IN_SEQUENCE {
        // Every other time the same name.
        let id = if n % 2 == 0 {
            "same".to_owned()
        } else {
            format!("turn-{n}")
        };
        let (out, err, status) = ended(jail(run_dir.path(), &log, &id));
        let wanted = format!("up {id}\ndown {id}\n");
        assert_eq!(
            (out, err.as_str(), status),
            (wanted, "", Some(0)),
            "turn {n}"
        );
    }
    nothing_is_left(run_dir.path());
}

#[test]
fn of_one_name_exactly_one_starts() {
    let run_dir = cell::run_folder();
    let log = AuditLog::new();
    for round in 0..5 {
        let rivals = (0..RIVALS).map(|_| jail(run_dir.path(), &log, "rival"));
        let mut rivals: Vec<Child> = rivals.collect();
        // Whoever was refused has ended: its output closes, and only the winner speaks.
        let spoke: Vec<bool> = rivals
            .iter_mut()
            .map(|r| !first_line(r).is_empty())
            .collect();
        let won = spoke.iter().filter(|&&won| won).count();
        assert_eq!(won, 1, "round {round}");
        for (rival, won) in rivals.into_iter().zip(spoke) {
            let (_, err, status) = ended(rival);
            if won {
                assert_eq!((err.as_str(), status), ("", Some(0)), "round {round}");
            } else {
                assert_eq!(status, Some(125), "round {round}: {err}");
                assert!(err.contains("rival") && err.contains("is running"), "{err}");
                assert_eq!(err.lines().count(), 1, "{err}");
            }
        }
        nothing_is_left(run_dir.path());
    }
}
