//! kill -9 of each process at different moments: nothing is left, or the next clears it.

use crate::support::{Bench, JAILER, alive};
use casemate_jailer::reap;
use casemate_proto::cell::{FromJailer, VmEnd};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: u64 = 50;

/// Waits until `done`, at most 3 s.
fn soon(what: &str, done: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(3);
    while !done() {
        assert!(Instant::now() < until, "not soon: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_killed_supervisor_takes_its_vmm_along_and_the_next_start_clears_up() {
    let bench = Bench::new("kill-s");
    for _ in 0..20 {
        let cell = bench.run();
        kill(Pid::from_raw(cell.jailer.pid() as i32), Signal::SIGKILL).unwrap();
        cell.jailer.wait().unwrap();
        soon("the VMM is dead", || !alive(cell.pid));
    }
    let cell = bench.run();
    cell.jailer.stop().unwrap();
    cell.ended();
    reap(&bench.launch.run_dir).unwrap();
    bench.nothing_is_left();
}

#[test]
fn a_supervisor_killed_at_any_moment_leaves_nothing_that_reap_does_not_clear() {
    let bench = Bench::new("kill-any");
    for round in 0..ROUNDS {
        let (jailer, ends) = bench.start();
        // A start takes some milliseconds; the moments are spread over it.
        std::thread::sleep(Duration::from_micros(round * 200));
        kill(Pid::from_raw(jailer.pid() as i32), Signal::SIGKILL).unwrap();
        jailer.wait().unwrap();
        // Returns when the VMM, which has the other end, is dead.
        ends.log();
        if round % 2 == 0 {
            reap(&bench.launch.run_dir).unwrap();
            bench.nothing_is_left();
        }
    }
    let cell = bench.run();
    cell.jailer.stop().unwrap();
    cell.ended();
    reap(&bench.launch.run_dir).unwrap();
    bench.nothing_is_left();
}

#[test]
fn a_killed_vmm_is_told_and_cleared() {
    let bench = Bench::new("kill-v");
    for _ in 0..ROUNDS {
        let cell = bench.run();
        kill(Pid::from_raw(cell.pid), Signal::SIGKILL).unwrap();
        match cell.ended().0 {
            VmEnd::Died { how } => assert!(how.contains("SIGKILL"), "{how}"),
            other => panic!("{other:?}"),
        }
        bench.nothing_is_left();
    }
}

#[test]
fn a_cli_that_is_gone_ends_the_cell_at_any_moment() {
    let bench = Bench::new("kill-c");
    for round in 0..ROUNDS {
        let (jailer, ends) = bench.start();
        std::thread::sleep(Duration::from_micros(round * 200));
        let status = jailer.wait().unwrap();
        assert!(status.success(), "{status:?}");
        ends.log();
        bench.nothing_is_left();
    }
}

#[test]
fn signals_that_ask_for_the_end_are_a_stop() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let bench = Bench::new("signals");
        let cell = bench.run();
        kill(Pid::from_raw(cell.jailer.pid() as i32), signal).unwrap();
        assert_eq!(cell.ended().0, VmEnd::Stopped);
        bench.nothing_is_left();
    }
}

#[test]
fn reap_leaves_alone_what_runs() {
    let bench = Bench::new("spare");
    let cell = bench.run();
    assert_eq!(reap(&bench.launch.run_dir).unwrap(), []);
    assert!(alive(cell.pid));
    cell.jailer.stop().unwrap();
    cell.ended();
    bench.nothing_is_left();
}

#[test]
fn the_reap_command_kills_what_still_lives_in_a_recorded_cgroup_only() {
    let bench = Bench::new("reap");
    let cell = bench.run();
    kill(Pid::from_raw(cell.jailer.pid() as i32), Signal::SIGKILL).unwrap();
    cell.jailer.wait().unwrap();
    soon("the VMM is dead", || !alive(cell.pid));
    let cgroups = bench.cgroups();
    assert!(!cgroups.is_empty());

    // As if a process had been left in it.
    let mut left = sleeper();
    for cgroup in &cgroups {
        join(cgroup.clone(), left.id());
    }
    let output = Command::new(JAILER)
        .args(["reap", "--run-dir"])
        .arg(&bench.launch.run_dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains(bench.launch.id.as_str()), "{told}");
    assert!(!left.wait().unwrap().success());
    bench.nothing_is_left();
}

#[test]
fn a_cgroup_of_the_same_name_that_is_somebody_elses_is_not_touched() {
    // Two run directories, the same tenant and id.
    let ours = Bench::new("same");
    let mut theirs = Bench::new("same");
    theirs.launch.id = ours.launch.id.clone();
    let cell = theirs.run();
    let (jailer, _ends) = ours.start();
    match jailer.next().unwrap() {
        Some(FromJailer::Refused { message, .. }) => {
            assert!(message.contains("is in use"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    jailer.wait().unwrap();
    assert_eq!(reap(&ours.launch.run_dir).unwrap(), []);
    assert!(alive(cell.pid));
    cell.jailer.stop().unwrap();
    assert_eq!(cell.ended().0, VmEnd::Stopped);
    theirs.nothing_is_left();
    ours.nothing_is_left();
}

fn sleeper() -> std::process::Child {
    Command::new("sleep")
        .arg("1000")
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

fn join(cgroup: PathBuf, pid: u32) {
    std::fs::write(cgroup.join("cgroup.procs"), pid.to_string()).unwrap();
}
