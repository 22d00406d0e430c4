//! The audit log as a whole: what real starts write, what the verifier makes of it, and what
//! becomes of a start that cannot be recorded.

use casemate_tests::audit::{AuditLog, unlock};
use casemate_tests::{bin, cell, leftovers, tiny_guest};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// `casemate jail` with its own folders, and these options and program.
fn jail(run_dir: &Path, audit: &Path, words: &[&str]) -> Output {
    Command::new(bin("casemate"))
        .args(["jail", "--id", "told", "--tenant"])
        .arg(leftovers::tenant(run_dir))
        .arg("--run-dir")
        .arg(run_dir)
        .arg("--audit-dir")
        .arg(audit)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .expect("casemate starts")
}

/// `casemate audit` with these words: its status and what it printed.
fn audit(command: &str, log: &Path, words: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(bin("casemate"))
        .args(["audit", command, "--dir"])
        .arg(log)
        .args(words)
        .output()
        .expect("casemate starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

#[test]
fn every_decision_about_a_jail_is_one_line() {
    let run_dir = cell::run_folder();
    let log = AuditLog::new();
    let run = |words: &[&str]| jail(run_dir.path(), &log.folder(), words).status.code();
    let mut seen = vec!["open"];
    assert_eq!(run(&["--", "true"]), Some(0));
    seen.extend(["start", "layers", "exit"]);
    assert_eq!(run(&["--", "sh", "-c", "exit 7"]), Some(7));
    seen.extend(["start", "layers", "exit"]);
    assert_eq!(run(&["--timeout", "200ms", "--", "sleep", "9"]), Some(124));
    seen.extend(["start", "layers", "limit", "exit"]);
    let hog = "x=x; while :; do x=$x$x; done";
    let status = run(&["--memory", "32M", "--", "sh", "-c", hog]);
    assert!(status.is_some_and(|s| s != 0), "{status:?}");
    seen.extend(["start", "layers", "limit", "exit"]);
    let forks = "for n in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait";
    let _ = run(&["--pids", "4", "--", "sh", "-c", forks]);
    seen.extend(["start", "layers", "limit", "exit"]);
    // `reboot` is in no policy.
    let status = run(&["--", "busybox", "reboot", "-f"]);
    let killed = status == Some(128 + libc::SIGSYS);
    seen.extend(["start", "layers"]);
    seen.extend(killed.then_some("denied"));
    seen.push("exit");
    assert_eq!(run(&["--", "no-such-program"]), Some(127));
    // The look for it is the last that happens before the read-back.
    seen.push("exit");
    assert_eq!(run(&["--rw", "/root", "--", "true"]), Some(125));
    seen.push("refused");
    assert_eq!(log.events(), seen);
    assert!(log.verdict().is_whole());
    for line in log.lines().iter().filter(|line| line["event"] != "open") {
        assert_eq!(line["tenant"], leftovers::tenant(run_dir.path()), "{line}");
        assert_eq!(line["id"], "told", "{line}");
    }
    let start = &log.lines()[1];
    assert_eq!(start["what"]["program"], "true");
    assert!(start["what"]["policies"]["default"].is_string(), "{start}");
    assert!(start["what"]["binaries"]["casemate"].is_string(), "{start}");
}

#[test]
fn a_vms_start_and_end_are_recorded() {
    let run_dir = cell::run_folder();
    let log = AuditLog::new();
    let status = Command::new(bin("casemate"))
        .args(["run", "--allow-missing", "full-kvm", "--memory", "64M"])
        .arg("--kernel")
        .arg(tiny_guest())
        .args(["--cmdline-append", "tiny=reset", "--id", "told", "--tenant"])
        .arg(leftovers::tenant(run_dir.path()))
        .arg("--run-dir")
        .arg(run_dir.path())
        .arg("--audit-dir")
        .arg(log.folder())
        .args(["--", "never-run"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("casemate starts");
    assert_eq!(status.code(), Some(121));
    assert_eq!(log.events(), ["open", "start", "layers", "exit"]);
    let lines = log.lines();
    let start = &lines[1]["what"];
    assert_eq!(start["kind"], "run");
    for role in ["casemate-jailer", "casemate-vmm", "kernel", "initramfs"] {
        assert!(start["binaries"][role].is_string(), "{role}: {start}");
    }
    assert!(start["policies"]["vmm/vcpu"].is_string(), "{start}");
    assert_eq!(lines[2]["what"]["hold"], true);
    assert_eq!(lines[3]["what"]["how"], "the guest reset");
    assert!(log.verdict().is_whole());
}

#[test]
fn the_verifier_names_the_line_that_was_changed() {
    let run_dir = cell::run_folder();
    let log = AuditLog::new();
    for _ in 0..3 {
        let ended = jail(run_dir.path(), &log.folder(), &["--", "true"]);
        assert!(ended.status.success(), "{ended:?}");
    }
    let (status, text) = audit("verify", &log.folder(), &[]);
    assert_eq!(status, Some(0), "{text}");
    assert!(
        text.contains(": whole: lines 1 to 10 in 1 file(s)"),
        "{text}"
    );
    let file = log.folder().join("audit-00000001.jsonl");
    unlock(&log.folder());
    let good = fs::read_to_string(&file).expect("the log");
    let bad = good.replacen("exited with status 0", "exited with status 9", 1);
    fs::write(&file, &bad).expect("written");
    let (status, text) = audit("verify", &log.folder(), &[]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("CHANGED: audit-00000001.jsonl:"), "{text}");
    // And no cell starts on a log that is not as it was signed.
    fs::write(&file, &good[..good.len() - 1]).expect("written");
    let refused = jail(run_dir.path(), &log.folder(), &["--", "true"]);
    assert_eq!(refused.status.code(), Some(125), "{refused:?}");
    assert!(refused.stdout.is_empty());
    // Another's key is not this log's.
    let other = "0".repeat(63) + "1";
    let (status, text) = audit("verify", &log.folder(), &["--key", &other]);
    assert!(status.is_some_and(|s| s != 0), "{text}");
}

#[test]
fn show_filters_and_is_safe_for_a_terminal() {
    let run_dir = cell::run_folder();
    let log = AuditLog::new();
    let hostile = "/tmp/\u{1b}[2J";
    let ended = jail(run_dir.path(), &log.folder(), &["--", hostile]);
    assert_eq!(ended.status.code(), Some(127));
    let ended = jail(run_dir.path(), &log.folder(), &["--", "true"]);
    assert!(ended.status.success());
    let tenant = leftovers::tenant(run_dir.path());
    let (status, text) = audit("show", &log.folder(), &["--tenant", &tenant]);
    assert_eq!(status, Some(0), "{text}");
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
    assert!(text.contains("start: true"), "{text}");
    let (_, text) = audit("show", &log.folder(), &["--tenant", "nobody"]);
    assert_eq!(text, "");
    let (_, text) = audit("show", &log.folder(), &["--since", "1h", "--json"]);
    assert_eq!(text.lines().count(), 5, "{text}");
}

#[test]
fn what_cannot_be_recorded_does_not_start() {
    let run_dir = cell::run_folder();
    let folder = cell::run_folder();
    let refused = |audit: &Path, words: &str| {
        let output = jail(run_dir.path(), audit, &["--", "echo", "ran"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(125), "{said}");
        assert!(output.stdout.is_empty(), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("audit log"), "{said}");
        assert!(said.contains(words), "{words:?} is not in {said}");
        assert!(said.contains("--no-audit"), "{said}");
        assert_eq!(leftovers::all(run_dir.path()), Vec::<String>::new());
    };
    let file = folder.path().join("file");
    fs::write(&file, "").expect("written");
    refused(&file, "file");
    let open = folder.path().join("open");
    fs::create_dir(&open).expect("made");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("open to all");
    refused(&open, "777");
    let log = folder.path().join("log");
    fs::create_dir(&log).expect("made");
    fs::set_permissions(&log, fs::Permissions::from_mode(0o700)).expect("private");
    symlink("/etc/passwd", log.join("head")).expect("linked");
    refused(&log, "symbolic link");
    unlock(folder.path());
}

/// A log on a file system with no room left.
#[test]
fn a_full_disk_stops_the_start() {
    let run_dir = cell::run_folder();
    // In a mount namespace of its own: a tmpfs that is full.
    let script = "mount -t tmpfs -o size=16k,mode=700 tmpfs /mnt && mkdir -m 700 /mnt/audit \
                  && head -c 100000 /dev/zero >/mnt/fill 2>/dev/null; exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(bin("casemate"))
        .args(["jail", "--id", "told", "--tenant"])
        .arg(leftovers::tenant(run_dir.path()))
        .arg("--run-dir")
        .arg(run_dir.path())
        .args(["--audit-dir", "/mnt/audit", "--", "echo", "ran"])
        .output()
        .expect("unshare starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(output.stdout.is_empty(), "{output:?}");
    assert!(said.contains("No space left"), "{said}");
    assert_eq!(leftovers::all(run_dir.path()), Vec::<String>::new());
}

#[test]
fn a_killed_supervisor_is_told_of_by_whoever_clears() {
    let run_dir = cell::run_folder();
    let log = AuditLog::new();
    let mut running = Command::new(bin("casemate"))
        .args(["jail", "--id", "told", "--tenant"])
        .arg(leftovers::tenant(run_dir.path()))
        .arg("--run-dir")
        .arg(run_dir.path())
        .arg("--audit-dir")
        .arg(log.folder())
        .args(["--", "sh", "-c", "echo up; sleep 60"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("casemate starts");
    let mut up = [0; 3];
    let out = running.stdout.as_mut().expect("a pipe");
    std::io::Read::read_exact(out, &mut up).expect("it is up");
    running.kill().expect("killed");
    running.wait().expect("gone");
    let reaped = Command::new(bin("casemate"))
        .args(["reap", "--run-dir"])
        .arg(run_dir.path())
        .status()
        .expect("casemate starts");
    assert!(reaped.success());
    assert_eq!(log.events(), ["open", "start", "layers", "cleared"]);
    assert!(log.verdict().is_whole());
}
