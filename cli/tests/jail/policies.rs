//! Policies on the command line: shipped ones, files, and what they refuse.

use crate::support::{Bench, err, out};
use std::fs;
use std::process::Command;

/// A program that asks for what no policy gives.
const ASKS: &str = "import fcntl, ctypes\n\
    print(ctypes.CDLL(None).unshare(0x10000000))\n\
    try: fcntl.ioctl(0, 0x5412, b'x')\n\
    except OSError as e: print(e.errno)";

#[test]
fn a_refused_call_kills_or_is_told() {
    let bench = Bench::new("refused");
    let python = ["/usr/bin/python3", "-c", ASKS];
    let output = bench.run(&[] as &[&str], &python);
    assert_eq!(output.status.code(), Some(128 + libc::SIGSYS), "{output:?}");

    let output = bench.run(&["--seccomp-report"], &python);
    assert_eq!(out(&output), "-1\n38\n", "{}", err(&output));
    let said = err(&output);
    for words in [
        "casemate: python3 called unshare(0x10000000, ",
        "casemate: python3 called ioctl(fd = 0x0, cmd = TIOCSTI, ",
    ] {
        assert!(said.contains(words), "{said}");
    }
    // What the policy answers with an errno is not told.
    assert!(!said.contains("clone3"), "{said}");
}

#[test]
fn a_report_of_a_program_that_keeps_to_its_policy_is_empty() {
    let bench = Bench::new("no-report");
    for policy in ["strict", "default", "network"] {
        let options = ["--seccomp-report", "--policy", policy];
        let output = bench.run(&options, &["/bin/echo", "hi"]);
        assert_eq!((out(&output).as_str(), err(&output).as_str()), ("hi\n", ""));
        assert_eq!(output.status.code(), Some(0));
    }
}

#[test]
fn shipped_policies_run_what_they_are_for() {
    let bench = Bench::new("shipped");
    let strict = |script: &str| bench.run(&["--policy=strict"], &["/bin/bash", "-c", script]);
    let output = strict("read line; echo $((6 * 7))");
    assert_eq!(out(&output), "42\n", "{}", err(&output));
    let output = strict("(true)");
    assert!(
        err(&output).contains("fork: Operation not permitted"),
        "{}",
        err(&output)
    );
    let output = bench.run(
        &[] as &[&str],
        &[
            "/bin/bash",
            "-c",
            "seq 5 | sort -r > /tmp/x; head -1 /tmp/x",
        ],
    );
    assert_eq!(out(&output), "5\n", "{}", err(&output));
    let script = "import socket\n\
        s = socket.socket(); s.settimeout(1)\n\
        try: s.connect(('127.0.0.1', 1))\n\
        except ConnectionRefusedError: print('refused')\n\
        try: socket.socket().bind(('127.0.0.1', 0))\n\
        except PermissionError: print('no port')";
    let output = bench.run(&["--policy=network"], &["/usr/bin/python3", "-c", script]);
    assert_eq!(out(&output), "refused\nno port\n", "{}", err(&output));
}

#[test]
fn a_file_narrows_a_shipped_policy_and_cannot_widen_it() {
    let bench = Bench::new("narrow");
    let file = bench.path("tenant.toml");
    let policy = format!("--policy={}", file.display());
    let deny = "[[deny]]\nsyscall = [\"mkdir\", \"mkdirat\"]\nerrno = \"EPERM\"\nwhy = \"w\"\n";
    fs::write(&file, format!("base = \"default\"\n{deny}")).unwrap();
    let output = bench.sh(
        &[&policy],
        "mkdir /tmp/d || echo no; echo x > /tmp/f && cat /tmp/f",
    );
    assert_eq!(out(&output), "no\nx\n", "{}", err(&output));

    fs::write(
        &file,
        "base = \"default\"\n\n[cgroup]\npids = 100000\nwhy = \"w\"\n",
    )
    .unwrap();
    let output = bench.sh(&[&policy], "true");
    assert_eq!(output.status.code(), Some(125));
    let said = err(&output);
    let place = format!(
        "casemate: {}:4: widening: pids 100000, but base \"default\" allows 256",
        file.display()
    );
    assert!(said.starts_with(&place), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

fn policy(args: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_casemate"));
    command.arg("policy").args(args).output().unwrap()
}

#[test]
fn the_commands_of_policy() {
    let bench = Bench::new("commands");
    let good = bench.path("good.toml");
    let bad = bench.path("bad.toml");
    fs::write(&good, "base = \"strict\"\n").unwrap();
    fs::write(
        &bad,
        "base = \"strict\"\n[network]\nmode = \"host\"\nwhy = \"w\"\n",
    )
    .unwrap();
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());

    let output = policy(&["check", good]);
    assert!(
        out(&output).starts_with(&format!("{good}: ok, ")),
        "{output:?}"
    );
    let output = policy(&["check", bad, good]);
    assert_eq!(output.status.code(), Some(125));
    assert!(
        err(&output).starts_with(&format!("casemate: {bad}:3: widening")),
        "{output:?}"
    );
    assert!(
        out(&output).contains("good.toml: ok"),
        "the others are looked at, too"
    );

    assert!(out(&policy(&["explain"])).lines().count() > 8);
    assert!(out(&policy(&["explain", good])).contains("It narrows strict."));
    assert!(out(&policy(&["diff", "strict", good])).contains("allow the same"));
    let json = out(&policy(&["compile", "strict", "--json"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["name"], "strict");
    let output = policy(&["explain", "none"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(
        err(&output).contains("no policy \"none\" is shipped"),
        "{output:?}"
    );
    let output = policy(&["trace", "--", "/bin/sh", "-c", "exit 7"]);
    assert_eq!(output.status.code(), Some(7));
    assert!(err(&output).contains("[[rule]]"), "{output:?}");
}
