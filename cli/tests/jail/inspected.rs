//! `casemate inspect --effective`.

use crate::lives::{below, dead, running};
use crate::support::{Bench, err, out};
use casemate_jailer::inspect::Inspection;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::{Command, Output};

fn inspect(bench: &Bench, extra: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_casemate"))
        .args(["inspect", "--tenant=jail-tests", "--effective", &bench.id])
        .arg("--run-dir")
        .arg(bench.run_dir())
        .args(extra)
        .output()
        .unwrap()
}

#[test]
fn a_running_jail_is_shown_layer_by_layer() {
    let bench = Bench::new("inspect");
    let mut child = running(&bench, &["--cpu-list=0"]);
    let output = inspect(&bench, &["--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let told: Inspection = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (told.id.as_str(), told.policy.as_str()),
        (bench.id.as_str(), "default")
    );
    assert!(told.layers.len() >= 23, "{told:?}");
    assert!(told.layers.iter().all(|layer| layer.holds), "{told:?}");
    let exe = std::fs::read_link(format!("/proc/{}/exe", told.pid)).unwrap();
    assert!(!exe.to_string_lossy().contains("casemate"), "{exe:?}");
    let text = out(&inspect(&bench, &[]));
    assert!(
        text.contains("user-ns") && text.contains("declared"),
        "{text}"
    );
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    child.wait().unwrap();
    bench.nothing_is_left();
}

#[test]
fn a_limit_that_somebody_changed_is_a_difference() {
    let bench = Bench::new("inspect-off");
    let mut child = running(&bench, &[]);
    let pids = bench
        .cgroups()
        .into_iter()
        .map(|path| path.join("pids.max"))
        .find(|path| path.exists())
        .expect("a pids controller");
    std::fs::write(&pids, "1000").unwrap();
    let output = inspect(&bench, &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = out(&output);
    assert!(text.contains("cgroup           DIFFERS"), "{text}");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    child.wait().unwrap();
    bench.nothing_is_left();
}

#[test]
fn who_does_not_run_is_not_shown() {
    let bench = Bench::new("inspect-none");
    let output = inspect(&bench, &[]);
    assert_eq!(output.status.code(), Some(125));
    assert!(err(&output).contains("is running: name one"), "{output:?}");
    let mut child = running(&bench, &[]);
    let inside = below(child.id() as i32);
    child.kill().unwrap();
    child.wait().unwrap();
    dead(&inside);
    let output = inspect(&bench, &[]);
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    casemate_jailer::reap(&bench.run_dir()).unwrap();
    bench.nothing_is_left();
}
