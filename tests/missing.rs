//! A host that lacks something: the start is refused and the lack is named, or,
//! with `--allow-missing`, the guest runs and the report says what did not hold.

use casemate_proto::cell::Layer;
use casemate_tests::{cell, leftovers};
use std::process::Command;
use std::time::{Duration, Instant};

/// Runs the tiny guest, which resets at once, where `spoil` has been done to a
/// mount namespace of its own: (status, standard error, time).
fn run_where(spoil: &str, run_dir: &std::path::Path, options: &[&str]) -> (i32, String, Duration) {
    let start = Instant::now();
    let out = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg(format!("{spoil} && exec \"$@\""))
        .arg("sh")
        .arg(casemate_tests::bin("casemate"))
        .args([
            "run",
            "--no-audit",
            "--rootfs",
            "none",
            "--memory",
            "64M",
            "--kernel",
        ])
        .arg(casemate_tests::tiny_guest())
        .args(["--allow-missing", "full-kvm"])
        .args(["--cmdline-append", "tiny=reset", "--run-dir"])
        .arg(run_dir)
        .args(["--tenant", &leftovers::tenant(run_dir), "--report"])
        .arg(run_dir.with_extension("report"))
        .args(options)
        .args(["--", "never-run"])
        .output()
        .expect("unshare of util-linux");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    (out.status.code().unwrap_or(-1), said, start.elapsed())
}

fn refused(spoil: &str, options: &[&str], words: &[&str]) {
    let folder = cell::run_folder();
    casemate_tests::tiny_guest();
    let (status, said, took) = run_where(spoil, folder.path(), options);
    assert_eq!(status, 125, "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(leftovers::all(folder.path()), Vec::<String>::new());
}

const NO_CGROUP: &str = "umount -l /sys/fs/cgroup";

#[test]
fn no_dev_kvm() {
    refused("mount --bind /dev/null /dev/kvm", &[], &["/dev/kvm"]);
    refused(
        "mount -t tmpfs none /dev && mknod /dev/null c 1 3 && mknod /dev/urandom c 1 9",
        &[],
        &["/dev/kvm"],
    );
}

#[test]
fn no_cgroup_stops_the_start() {
    refused(
        NO_CGROUP,
        &[],
        &["cgroup: no cgroup tree is mounted", "mount cgroup2"],
    );
}

#[test]
fn no_cgroup_may_be_allowed_and_is_reported() {
    let folder = cell::run_folder();
    let allowed = ["--allow-missing", "cgroup"];
    let (status, said, _) = run_where(NO_CGROUP, folder.path(), &allowed);
    assert_eq!(status, 121, "{said}");
    let report = cell::report(folder.path());
    assert!(report.allow_missing.contains(&Layer::Cgroup));
    let missing: Vec<_> = report.confinement.iter().filter(|l| !l.holds).collect();
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert_eq!(missing[0].layer, Layer::Cgroup);
    assert_eq!(leftovers::all(folder.path()), Vec::<String>::new());
}

#[test]
fn an_id_that_runs_is_refused() {
    let folder = cell::run_folder();
    let guest = cell::start_in(cell::Mode::Idle, folder.path(), "taken", &[]);
    let (status, said, took) = run_where("true", folder.path(), &["--id", "taken"]);
    assert_eq!(status, 125, "{said}");
    assert!(said.contains("taken"), "{said}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(guest.vmm().alive(), "the running cell was disturbed");
    guest.stop_in_place();
    let (status, said, _) = run_where("true", folder.path(), &["--id", "taken"]);
    assert_eq!(status, 121, "{said}");
}
