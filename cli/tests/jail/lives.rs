//! kill -9 of anything, and two of one id.

use crate::support::{Bench, err};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: u64 = 40;

pub fn running(bench: &Bench, options: &[&str]) -> Child {
    let mut child = bench.start(options, "echo ready; while :; do sleep 0.1; done");
    let line = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .next()
        .expect("a line")
        .unwrap();
    assert_eq!(line, "ready");
    child
}

/// Processes under this one, youngest last.
pub fn below(pid: i32) -> Vec<i32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_ascii_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .flat_map(|pid| std::iter::once(pid).chain(below(pid)))
        .collect()
}

pub fn dead(pids: &[i32]) {
    let until = Instant::now() + Duration::from_secs(3);
    let lives = |pid: &i32| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok();
    while pids.iter().any(lives) {
        assert!(Instant::now() < until, "survivors: {pids:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn reap(bench: &Bench) {
    casemate_jailer::reap(&bench.run_dir()).unwrap();
    bench.nothing_is_left();
}

#[test]
fn an_id_that_runs_is_refused_and_free_afterwards() {
    let bench = Bench::new("twin");
    let mut first = running(&bench, &[]);
    let output = bench.command(&[] as &[&str], &["true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(err(&output).contains("is running"), "{output:?}");
    kill(Pid::from_raw(first.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(143));
    assert!(bench.run(&[], &["true"]).status.success());
}

#[test]
fn of_32_starts_of_one_id_one_wins() {
    let bench = Bench::new("rush");
    let children: Vec<Child> = (0..32).map(|_| bench.start(&[], "sleep 1.5")).collect();
    let statuses: Vec<_> = children
        .into_iter()
        .map(|child| child.wait_with_output().unwrap())
        .collect();
    let won = statuses
        .iter()
        .filter(|o| o.status.code() == Some(0))
        .count();
    let refused = statuses
        .iter()
        .filter(|o| err(o).contains("is running"))
        .count();
    assert_eq!((won, refused), (1, 31), "{statuses:?}");
    bench.nothing_is_left();
}

#[test]
fn a_killed_supervisor_takes_everything_along() {
    let bench = Bench::new("kill-s");
    for _ in 0..10 {
        let mut child = running(&bench, &[]);
        let inside = below(child.id() as i32);
        assert!(inside.len() >= 2, "{inside:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        dead(&inside);
    }
    assert!(
        bench
            .command(&[] as &[&str], &["true"])
            .status()
            .unwrap()
            .success()
    );
    reap(&bench);
}

#[test]
fn a_killed_init_or_program_ends_the_jail() {
    let bench = Bench::new("kill-i");
    for which in [0, 1] {
        let mut child = running(&bench, &[]);
        let inside = below(child.id() as i32);
        kill(Pid::from_raw(inside[which]), Signal::SIGKILL).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(128 + 9));
        dead(&inside);
        bench.nothing_is_left();
    }
}

#[test]
fn a_supervisor_killed_at_any_moment_leaves_nothing_that_the_next_does_not_clear() {
    let bench = Bench::new("kill-any");
    let mut command = bench.command(&["--ro=/"], &["sleep", "1000"]);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    for round in 0..ROUNDS {
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_micros(round * 300));
        child.kill().unwrap();
        // Ends when everybody who has the other end is dead.
        let mut text = String::new();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_to_string(&mut text).unwrap();
        child.wait().unwrap();
        if round % 2 == 0 {
            reap(&bench);
        }
    }
    assert!(
        bench
            .command(&[] as &[&str], &["true"])
            .status()
            .unwrap()
            .success()
    );
    reap(&bench);
}

#[test]
fn many_in_parallel_and_in_sequence_leave_nothing() {
    let dir = Bench::new("many");
    let start = |n: usize| -> Child {
        Command::new(env!("CARGO_BIN_EXE_casemate"))
            .args(["jail", "--no-audit", "--tenant=jail-tests", "--run-dir"])
            .arg(dir.run_dir())
            .args(["--id", &format!("{}-{n}", dir.id)])
            .args([
                "--",
                "sh",
                "-c",
                &format!("echo {n} > /tmp/x; cat /tmp/x; exit {}", n % 100),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let children: Vec<Child> = (0..60).map(start).collect();
    for (n, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some((n % 100) as i32));
        assert_eq!(output.stdout, format!("{n}\n").as_bytes());
    }
    dir.nothing_is_left();
    for n in 0..60 {
        assert_eq!(start(n).wait().unwrap().code(), Some((n % 100) as i32));
    }
    dir.nothing_is_left();
}
