//! `casemate jail` started by an ordinary user: the same jail, and the report says what of it
//! is less strong.

mod cgroups;
mod confined;
mod ends;
mod ids;
mod kills;
mod mounts;
mod others;

use casemate_proto::cell::{Layer, LayerReport};
use casemate_proto::report::Report;
use casemate_tests::rootless::User;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// The host has no cgroup for the user, unless a test hands it one.
const NO_CGROUP: [&str; 2] = ["--allow-missing", "cgroup"];

/// Where a test has a jail of this user's write its report.
fn report_file(user: &User) -> String {
    user.own("home/report.json").to_string_lossy().into_owned()
}

/// What was written there.
fn report(user: &User) -> Report {
    let text = std::fs::read(report_file(user)).expect("a report");
    serde_json::from_slice(&text).expect("a report")
}

/// One layer of it.
fn layer(report: &Report, wanted: Layer) -> &LayerReport {
    let found = report.confinement.iter().find(|l| l.layer == wanted);
    found.expect("the layer")
}

fn ran(command: &mut Command) -> Output {
    command.output().expect("casemate starts")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The start was refused in one line with all of these words, and nothing is left.
fn assert_refused(user: &User, output: &Output, words: &[&str]) {
    let said = err(output);
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    assert_eq!(said.lines().count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
    nothing_is_left(user);
}

/// A test beside this one, between its fork and its exec, may hold a copy of what is ours for
/// a moment.
fn nothing_is_left(user: &User) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !user.leftovers().is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(user.leftovers(), Vec::<String>::new());
}
