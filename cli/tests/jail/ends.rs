//! How a jail ends, and what is said of it.

use crate::support::{Bench, err, good, out};
use casemate_proto::report::Report;
use casemate_proto::status::Outcome;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn the_status_is_the_programs() {
    let bench = Bench::new("status");
    for (script, status) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -TERM $$", 128 + 15),
        ("kill -KILL $$", 128 + 9),
        ("kill -SEGV $$", 128 + 11),
    ] {
        let output = bench.sh(&[], script);
        assert_eq!(output.status.code(), Some(status), "{script}: {output:?}");
        assert_eq!(err(&output), "");
    }
}

#[test]
fn what_cannot_be_executed_is_told_in_one_line() {
    let bench = Bench::new("noexec");
    std::fs::write(bench.path("plain"), "text").unwrap();
    std::fs::write(bench.path("script"), "#!/nowhere/sh\n").unwrap();
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(bench.path("script"), mode(0o755)).unwrap();
    std::fs::set_permissions(bench.dir.path(), mode(0o755)).unwrap();
    let ro = format!("--ro={}:/d", bench.dir.path().display());
    for (program, status) in [
        ("no-such-program", 127),
        ("/no/such/program", 127),
        ("/d/script", 127),
        ("/d/plain", 126),
        ("/d", 126),
    ] {
        let output = bench.run(&[&ro], &[program]);
        assert_eq!(output.status.code(), Some(status), "{program}: {output:?}");
        let said = err(&output);
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(program), "{said}");
    }
}

#[test]
fn scripts_work() {
    let bench = Bench::new("script");
    std::fs::write(bench.path("script"), "#!/bin/sh\necho \"$0 $*\"\n").unwrap();
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(bench.path("script"), mode(0o755)).unwrap();
    std::fs::set_permissions(bench.dir.path(), mode(0o755)).unwrap();
    let ro = format!("--ro={}:/d", bench.dir.path().display());
    assert_eq!(
        good(bench.run(&[&ro], &["/d/script", "a", "b"])),
        "/d/script a b\n"
    );
}

#[test]
fn streams_are_inherited_as_they_are() {
    let bench = Bench::new("streams");
    let mut child = bench
        .command(&[] as &[&str], &["sh", "-c", "cat; echo to-err >&2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let bytes: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
    let mut stdin = child.stdin.take().unwrap();
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&sent));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.stdout == bytes);
    assert_eq!(err(&output), "to-err\n");
}

#[test]
fn a_stream_from_which_more_can_be_reached_is_refused() {
    let bench = Bench::new("dirfd");
    let output = bench
        .command(&[] as &[&str], &["true"])
        .stdin(std::fs::File::open("/").unwrap())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(err(&output).contains("fd 0 is a directory"), "{output:?}");
}

#[test]
fn signals_go_to_the_programs_group() {
    let bench = Bench::new("signals");
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        let name = &signal.as_str()[3..];
        let script = format!(
            "trap 'echo got {name}; exit 3' {name}; echo ready; while :; do sleep 0.05; done"
        );
        let mut child = bench.start(&[], &script);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), format!("got {name}"));
        assert_eq!(child.wait().unwrap().code(), Some(3));
        bench.nothing_is_left();
    }
}

#[test]
fn a_signal_that_the_program_does_not_catch_ends_it() {
    let bench = Bench::new("term");
    let mut child = bench.start(&[], "echo ready; exec sleep 100");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
    bench.nothing_is_left();
}

#[test]
fn time_is_up_at_its_time() {
    let bench = Bench::new("timeout");
    let begun = Instant::now();
    let output = bench.sh(
        &["--timeout=300ms"],
        "trap '' TERM INT; sleep 100 & sleep 100",
    );
    let took = begun.elapsed();
    assert_eq!(output.status.code(), Some(124), "{output:?}");
    assert!(
        took >= Duration::from_millis(300) && took < Duration::from_secs(3),
        "{took:?}"
    );
    assert!(err(&output).contains("300ms"), "{output:?}");
}

#[test]
fn what_the_program_leaves_running_ends_with_it() {
    let bench = Bench::new("orphans");
    let output = bench.sh(&[], "setsid sleep 1000 >/dev/null 2>&1 & echo $!");
    assert!(good(output).trim().parse::<u32>().is_ok());
}

#[test]
fn orphans_are_reaped_and_do_not_end_the_jail() {
    let bench = Bench::new("reaped");
    let script = "i=0; while [ $i -lt 200 ]; do (true &) ; i=$((i+1)); done; exit 4";
    let output = bench.sh(&["--pids=16"], script);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
}

#[test]
fn memory_that_runs_out_ends_only_the_jail() {
    let bench = Bench::new("memory");
    let output = bench.sh(
        &["--memory=24M"],
        "head -c 200M /dev/zero | tail -c 200M | wc -c",
    );
    // The killed one is the pipe's middle, or the shell itself.
    assert_ne!(out(&output).trim(), "209715200");
    let output = bench.sh(
        &["--memory=24M", "--tmpfs=/t:1G"],
        "exec head -c 200M /dev/zero > /t/x",
    );
    assert_eq!(output.status.code(), Some(122), "{output:?}");
    assert!(err(&output).contains("--memory"), "{output:?}");
}

#[test]
fn forks_end_at_the_limit() {
    let bench = Bench::new("forks");
    let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; echo done";
    let output = bench.sh(&["--pids=5"], script);
    assert_ne!(output.status.code(), Some(0), "{output:?}");
    assert!(err(&output).contains("ork"), "{output:?}");
}

#[test]
fn the_report_tells_everything() {
    let bench = Bench::new("report");
    let path = bench.path("r.json");
    let report = format!("--report={}", path.display());
    let output = bench.sh(&[&report, "--cpus=0.5", "--pids=9"], "exit 5");
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    let mut text = String::new();
    std::fs::File::open(&path)
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    let report: Report = serde_json::from_str(&text).unwrap();
    assert_eq!(report.outcome, Outcome::Exited { code: 5 });
    assert_eq!((report.id, report.exit_status), (bench.id.clone(), 5));
    assert_eq!(report.policy.unwrap().name, "default");
    let limits = report.cgroup.unwrap();
    assert_eq!((limits.cpu_millis, limits.pids), (Some(500), Some(9)));
    assert!(report.confinement.len() >= 22);
    assert!(report.confinement.iter().all(|layer| layer.holds), "{text}");
    let phases = report.phases;
    assert!(phases.jailer_us.is_some() && phases.readback_us.is_some());
    assert!(phases.command_us.is_some() && phases.teardown_us.is_some());
    assert!(report.usage.memory_peak_bytes > 0);
}
