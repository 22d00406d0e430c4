//! Limits in a cgroup that was handed to the user.

use crate::{err, layer, nothing_is_left, out, ran, report, report_file};
use casemate_proto::cell::{Layer, Strength};
use casemate_tests::rootless::{Handed, User, become_user};
use std::path::Path;
use std::process::Command;

/// A shell's variable of 200 MiB.
const GROWS: &str = "x=$(head -c 200M /dev/zero | tr '\\0' x); echo ${#x}";

/// In the test-bed: cgroup v2.
#[test]
fn limits_hold_on_another_host() {
    let test = "cgroups::limits_hold_on_another_host";
    casemate_testbed::in_kvm_host(test, &[], || {
        limits_hold_in_a_cgroup_that_is_named(4350);
        limits_hold_in_ones_own(4351);
        leaves_its_own_cgroup_as_it_was(4352);
    });
}

#[test]
fn limits_hold_here() {
    limits_hold_in_a_cgroup_that_is_named(4353);
    limits_hold_in_ones_own(4354);
}

fn limits_hold_in_a_cgroup_that_is_named(id: u32) {
    let user = User::new(id);
    let handed = Handed::to(&user);
    // The kernel wants a process to be moved within what is the user's.
    handed.below("session", &user);
    let start = |options: &[&str], script: &str| {
        let mut all = vec!["--parent-cgroup", handed.name()];
        all.extend(options);
        ran(&mut inside(&user, &handed, "session", &all, script))
    };
    held(&user, &handed, &start);
}

fn limits_hold_in_ones_own(id: u32) {
    let user = User::new(id);
    let handed = Handed::to(&user);
    handed.below("session", &user);
    held(&user, &handed, &|options, script| {
        ran(&mut inside(&user, &handed, "session", options, script))
    });
}

/// The supervisor alone is in the cgroup, as `systemd-run --user --scope` has it.
fn leaves_its_own_cgroup_as_it_was(id: u32) {
    let user = User::new(id);
    let handed = Handed::to(&user);
    held(&user, &handed, &|options, script| {
        ran(&mut inside(&user, &handed, "", options, script))
    });
    let control = |path: &Path| std::fs::read_to_string(path.join("cgroup.subtree_control"));
    for path in handed.paths() {
        assert_eq!(control(path).expect("a file").trim(), "");
    }
}

/// A jail's command, started in a cgroup below those handed.
fn inside(user: &User, handed: &Handed, below: &str, options: &[&str], script: &str) -> Command {
    let mut command = user.early(&user.program());
    command
        .args(["jail", "--tenant", &user.tenant(), "--run-dir"])
        .arg(user.run_dir())
        .args(options)
        .args(["--", "sh", "-c", script]);
    handed.holds(&mut command, below);
    become_user(&mut command, user.id, &[]);
    command
}

fn held(user: &User, handed: &Handed, start: &dyn Fn(&[&str], &str) -> std::process::Output) {
    let before = handed.made();
    let clean = || {
        nothing_is_left(user);
        assert_eq!(handed.made(), before, "cgroups are left");
    };
    let output = start(&["--memory", "64M"], GROWS);
    assert_eq!(output.status.code(), Some(122), "{output:?}");
    clean();
    let forks = "for n in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait; echo all";
    let output = start(&["--pids", "6"], forks);
    assert!(!out(&output).contains("all"), "{output:?}");
    assert!(err(&output).contains("fork"), "{output:?}");
    clean();
    let options = ["--cpus", "0.5", "--report", &report_file(user)];
    let output = start(&options, "echo end");
    assert_eq!(out(&output), "end\n", "{output:?}");
    let report = report(user);
    assert!(
        report.confinement.iter().all(|layer| layer.holds),
        "{report:?}"
    );
    let layer = layer(&report, Layer::Cgroup);
    assert!(
        matches!(layer.strength, Strength::Weaker { .. }),
        "{layer:?}"
    );
    assert!(layer.observed.contains("pids.max 256"), "{layer:?}");
    clean();
}
