//! Everything that a program in a jail is known to try, and the layers that stop it.
//!
//! Each attempt of `tests/escapes` is made without a jail, where it must work or it shows
//! nothing; under each shipped policy, where it must fail; with just the layers of its row
//! left out and all others on, where it must work again; and with any one of those put back,
//! where it must fail. So each layer of a row is seen to be enough, and none to be idle.

use casemate_proto::cell::Layer;
use casemate_testbed::Way;
use casemate_tests::escape::{
    Casemate, NOT_ON_EVERY_HOST, Row, Stage, TABLE, Verdict, Words, attempt,
    casemate_with_layers_off, needs,
};
use casemate_tests::leftovers;
use casemate_tests::rootless::{Handed, User};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

const POLICIES: [&str; 3] = ["strict", "default", "network"];

/// An unprivileged user: for attempts at privilege, which root has without trying.
const NOBODY: u32 = 65534;

/// With a /proc, so that there is something to attack in it.
fn jail(program: &Path, policy: &str, stage: &Stage) -> Casemate {
    Casemate::new(program, policy, stage).options(&["--proc"])
}

/// Whether it works without any jail, as root, as nobody or as who starts jails: else there is
/// nothing to show.
fn works_without_a_jail(stage: &Stage, name: &str, launcher: Option<u32>) -> bool {
    let works = |user| {
        let words = Words {
            words: Vec::new(),
            user,
        };
        attempt(stage, &words, name).worked()
    };
    works(None) || works(Some(NOBODY)) || launcher.is_some_and(|user| works(Some(user)))
}

/// A test beside this one, between its fork and its exec, may hold a copy of what is ours
/// for a moment.
fn assert_nothing_left(jail: &Casemate, name: &str) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !leftovers::all(jail.run_dir()).is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    let left = leftovers::all(jail.run_dir());
    assert_eq!(left, Vec::<String>::new(), "{name}");
}

/// What is wrong with one row when its layers are left out, and when each is put back.
fn wrong_with(row: &Row, stage: &Stage, program: &Path) -> Vec<String> {
    let without = |layers: &[Layer]| {
        let jail = jail(program, "default", stage).without(layers);
        let verdict = attempt(stage, &jail, row.attempt);
        assert_nothing_left(&jail, row.attempt);
        verdict
    };
    let mut wrong = Vec::new();
    let off = without(row.layers);
    if !off.worked() {
        wrong.push(format!(
            "{}: without {:?}: {off:?}",
            row.attempt, row.layers
        ));
    }
    for &back in row.layers {
        if needs(back).iter().any(|need| row.layers.contains(need)) {
            continue;
        }
        let others: Vec<Layer> = row.layers.iter().copied().filter(|&l| l != back).collect();
        let verdict = without(&others);
        if !verdict.held() {
            wrong.push(format!(
                "{}: only {back} of its row is on: {verdict:?}",
                row.attempt
            ));
        }
    }
    wrong
}

#[test]
fn the_table_has_every_attempt_once() {
    let rows: Vec<&str> = TABLE.iter().map(|row| row.attempt).collect();
    let attempts: Vec<&str> = casemate_escape::all().map(|a| a.name).collect();
    let (have, want) = (BTreeSet::from_iter(&rows), BTreeSet::from_iter(&attempts));
    assert_eq!(rows.len(), have.len(), "a row is there twice");
    assert_eq!(
        want.difference(&have).collect::<Vec<_>>(),
        Vec::<&&&str>::new()
    );
    assert_eq!(
        have.difference(&want).collect::<Vec<_>>(),
        Vec::<&&&str>::new()
    );
}

#[test]
fn every_layer_stops_an_attempt() {
    // The others hold something else than an escape: what the host is spared, or the clocks
    // of a VM.
    let elsewhere = [Layer::CoreScheduling, Layer::CpuPinning, Layer::FullKvm];
    for layer in Layer::ALL
        .into_iter()
        .filter(|layer| !elsewhere.contains(layer))
    {
        let stops = TABLE.iter().any(|row| {
            row.layers.contains(&layer) || row.layers.iter().any(|&of| needs(of).contains(&layer))
        });
        assert!(stops, "no row has {layer}");
    }
}

/// Makes every attempt under these policies.
fn every_attempt_fails(policies: &[&str]) {
    let stage = Stage::new(None);
    let program = casemate_tests::bin("casemate");
    all_fail(&stage, policies, Shown::Here(None), &|_, policy| {
        jail(&program, policy, &stage)
    });
}

/// The same by an ordinary user, whose the victim is, too, in a cgroup that was handed to it.
fn every_attempt_fails_without_root(policies: &[&str], user: u32) {
    let stage = Stage::new(Some(user));
    let user = User::new(user);
    let handed = Handed::to(&user);
    handed.below("session", &user);
    let program = user.program();
    // In the test-bed, where each takes long, they were seen to work as root's already.
    let shown = match Way::detect() {
        Way::InsideBed => Shown::Elsewhere,
        _ => Shown::Here(Some(user.id)),
    };
    all_fail(&stage, policies, shown, &|_, policy| {
        jail(&program, policy, &stage).rootless(&user, Some(&handed))
    });
}

/// Where an attempt is seen to work without any jail.
#[derive(Clone, Copy)]
enum Shown {
    /// Here, for one by this user where it is not root who starts jails.
    Here(Option<u32>),
    /// By another test.
    Elsewhere,
}

/// Makes every attempt in a jail of its own for each policy.
fn all_fail(
    stage: &Stage,
    policies: &[&str],
    shown: Shown,
    start: &dyn Fn(&Row, &str) -> Casemate,
) {
    let mut wrong = Vec::new();
    for row in TABLE {
        if let Shown::Here(launcher) = shown
            && !works_without_a_jail(stage, row.attempt, launcher)
            && !NOT_ON_EVERY_HOST.contains(&row.attempt)
        {
            wrong.push(format!("{} works nowhere: it shows nothing", row.attempt));
        }
        for &policy in policies {
            let jail = start(row, policy);
            let verdict = attempt(stage, &jail, row.attempt);
            let as_meant = match row.allowed.contains(&policy) {
                true => verdict.worked(),
                false => verdict.held() || matches!(verdict, Verdict::Absent(_)),
            };
            if !as_meant {
                wrong.push(format!("{} under {policy}: {verdict:?}", row.attempt));
            }
            assert_nothing_left(&jail, row.attempt);
        }
        assert!(stage.victim_lives(), "{} ended the victim", row.attempt);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_attempt_fails_under_every_policy() {
    every_attempt_fails(&POLICIES);
}

/// The same in the test-bed: cgroup v2, another kernel, an older Landlock.
#[test]
fn every_attempt_fails_on_another_host() {
    let there = Path::new(casemate_tests::escape::IN_BED).to_owned();
    let inputs = [(casemate_tests::escape::probe().to_owned(), there)];
    let test = "every_attempt_fails_on_another_host";
    casemate_testbed::in_kvm_host(test, &inputs, || every_attempt_fails(&["default"]));
}

#[test]
fn every_attempt_fails_rootless_under_every_policy() {
    every_attempt_fails_without_root(&POLICIES, 4360);
}

/// Without a cgroup nothing holds what takes one, and all else as much.
#[test]
fn every_attempt_but_at_memory_fails_rootless_without_a_cgroup() {
    let stage = Stage::new(Some(4362));
    let user = User::new(4362);
    let handed = Handed::to(&user);
    handed.below("session", &user);
    let program = user.program();
    let only_a_cgroup: Vec<&str> = TABLE
        .iter()
        .filter(|row| row.layers == [Layer::Cgroup])
        .map(|row| row.attempt)
        .collect();
    assert_eq!(only_a_cgroup, ["memory-bomb"]);
    all_fail(&stage, &["default"], Shown::Elsewhere, &|row, policy| {
        let cgroup = only_a_cgroup.contains(&row.attempt).then_some(&handed);
        jail(&program, policy, &stage).rootless(&user, cgroup)
    });
}

/// The same in the test-bed.
#[test]
fn every_attempt_fails_rootless_on_another_host() {
    let there = Path::new(casemate_tests::escape::IN_BED).to_owned();
    let inputs = [(casemate_tests::escape::probe().to_owned(), there)];
    let test = "every_attempt_fails_rootless_on_another_host";
    casemate_testbed::in_kvm_host(test, &inputs, || {
        every_attempt_fails_without_root(&["default"], 4361);
    });
}

#[test]
fn every_attempt_works_with_just_its_layers_off_and_fails_with_any_back() {
    let stage = Stage::new(None);
    let program = casemate_with_layers_off();
    let wrong: Vec<String> = TABLE
        .iter()
        .filter(|row| !row.layers.is_empty())
        .filter(|row| works_without_a_jail(&stage, row.attempt, None))
        .flat_map(|row| wrong_with(row, &stage, &program))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
