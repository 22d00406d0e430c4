//! `--cgroup`, `--parent-cgroup` and `--cgroup-version`, read back from the kernel.

use crate::support::{Jail, NAME, Running};
use casemate_jailer::cgroup::{Version, mounts};
use std::path::{Path, PathBuf};

/// Where a controller is on this host, and in which version.
fn place(controller: &str) -> (PathBuf, Version) {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts(&text)
        .into_iter()
        .find(|mount| match mount.version {
            Version::V1 => mount.options.split(',').any(|o| o == controller),
            Version::V2 => std::fs::read_to_string(mount.point.join("cgroup.controllers"))
                .is_ok_and(|text| text.split_whitespace().any(|c| c == controller)),
        })
        .map(|mount| (mount.point, mount.version))
        .unwrap_or_else(|| panic!("no controller {controller}"))
}

fn v2() -> PathBuf {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts(&text);
    let tree = mounts.iter().find(|mount| mount.version == Version::V2);
    tree.expect("a v2 tree").point.clone()
}

fn read(dir: &Path, file: &str) -> String {
    std::fs::read_to_string(dir.join(file))
        .unwrap()
        .trim_end()
        .to_owned()
}

fn holds(dir: &Path, pid: i32) -> bool {
    read(dir, "cgroup.procs")
        .lines()
        .any(|line| line == pid.to_string())
}

/// A parent of the test's own; cgroups are the host's.
fn parent(test: &str) -> String {
    format!("casemate-peer-{test}-{}", std::process::id())
}

/// What limits memory here: file, value, and the value as the kernel shows it.
fn memory_file() -> &'static str {
    match place("memory").1 {
        Version::V1 => "memory.limit_in_bytes",
        Version::V2 => "memory.max",
    }
}

#[test]
fn values_are_set_in_every_hierarchy_and_the_process_is_in_it() {
    let parent = parent("values");
    let memory = format!("{}=64M", memory_file());
    let deep = format!("{parent}/deep");
    let jail = Jail::with(
        "values",
        &[
            "--cgroup",
            &memory,
            "--cgroup",
            "pids.max=17",
            "--parent-cgroup",
            &deep,
        ],
    );
    let running = jail.start(&["sleep"]);
    let leaf = |controller| place(controller).0.join(&deep).join(&jail.id);
    assert_eq!(read(&leaf("memory"), memory_file()), "67108864");
    assert_eq!(read(&leaf("pids"), "pids.max"), "17");
    for controller in ["memory", "pids"] {
        assert!(holds(&leaf(controller), running.pid()), "{controller}");
    }
    running.kill();
    jail.nothing_is_left();
    for controller in ["memory", "pids"] {
        assert!(!place(controller).0.join(&parent).exists(), "{controller}");
    }
}

#[test]
fn the_parent_is_named_by_the_program_and_shared() {
    let (first, second) = (
        Jail::with("first", &["--cgroup", "pids.max=11"]),
        Jail::with("second", &["--cgroup", "pids.max=12"]),
    );
    let (one, two) = (first.start(&["sleep"]), second.start(&["sleep"]));
    let parent = place("pids").0.join(NAME);
    assert_eq!(read(&parent.join(&first.id), "pids.max"), "11");
    assert_eq!(read(&parent.join(&second.id), "pids.max"), "12");
    one.kill();
    first.reap();
    assert!(holds(&parent.join(&second.id), two.pid()));
    two.kill();
    second.nothing_is_left();
    assert!(!parent.join(&first.id).exists() && !parent.join(&second.id).exists());
}

#[test]
fn no_cgroup_is_made_where_none_is_asked_for() {
    let jail = Jail::new("none");
    let running = jail.start(&["sleep"]);
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    // From here its namespace's root is ours.
    let theirs = std::fs::read_to_string(format!("/proc/{}/cgroup", running.pid())).unwrap();
    assert_eq!(theirs, own);
    running.kill();
}

#[test]
fn cpusets_inherit_what_they_are_not_given() {
    let parent = parent("cpuset");
    let jail = Jail::with(
        "cpuset",
        &["--cgroup", "cpuset.cpus=0", "--parent-cgroup", &parent],
    );
    let running = jail.start(&["sleep"]);
    let leaf = place("cpuset").0.join(&parent).join(&jail.id);
    assert_eq!(read(&leaf, "cpuset.cpus"), "0");
    let allowed = crate::support::status(running.pid(), "Cpus_allowed_list:");
    assert_eq!(allowed, "0");
    running.kill();
    jail.nothing_is_left();
}

#[test]
fn values_may_hold_equals_signs_and_spaces() {
    let (mount, version) = match place_or_none("blkio") {
        Some(found) => found,
        None => place("io"),
    };
    let parent = parent("io");
    let (file, value, shown) = match version {
        Version::V1 => (
            "blkio.throttle.read_bps_device",
            "7:0 1048576",
            "7:0 1048576",
        ),
        Version::V2 => (
            "io.max",
            "7:0 rbps=1048576 wiops=77",
            "7:0 rbps=1048576 wbps=max riops=max wiops=77",
        ),
    };
    let setting = format!("{file}={value}");
    let jail = Jail::with("io", &["--cgroup", &setting, "--parent-cgroup", &parent]);
    let output = jail.command(&["exit", "0"]).output().unwrap();
    if !output.status.success() {
        // A host without that device: the whole value was still given to the kernel.
        let line = crate::support::refusal(output);
        assert!(
            line.contains(&format!("{value:?}")) && line.contains("No such device"),
            "{line}"
        );
        return;
    }
    assert_eq!(read(&mount.join(&parent).join(&jail.id), file), shown);
}

fn place_or_none(controller: &str) -> Option<(PathBuf, Version)> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let found = mounts(&text).into_iter().find(|mount| {
        mount.version == Version::V1 && mount.options.split(',').any(|o| o == controller)
    });
    found.map(|mount| (mount.point, mount.version))
}

#[test]
fn a_value_that_the_kernel_changes_is_refused_unless_that_is_let_be() {
    if place("cpu").1 == Version::V2 {
        // v2 refuses such a weight itself.
        return;
    }
    let parent = parent("clamped");
    let flags = ["--cgroup", "cpu.shares=1", "--parent-cgroup", &parent];
    let jail = Jail::with("clamped", &flags);
    let line = jail.refused();
    assert!(
        line.contains("cpu.shares") && line.contains("\"2\""),
        "{line}"
    );
    assert!(line.contains("--without cgroup-values"), "{line}");
    jail.nothing_is_left();
    assert!(!place("cpu").0.join(&parent).exists());
    let mut jail = Jail::with("clamped", &flags);
    jail.flags
        .extend(["--without".into(), "cgroup-values".into()]);
    jail.report(&["exit", "0"]);
}

#[test]
fn bad_files_and_values_are_told_and_leave_nothing() {
    for (setting, says) in [
        ("pids.nosuch=1", "this kernel's cgroups have"),
        ("pids.max=junk", "pids.max"),
        ("nosuch.max=1", "no cgroup hierarchy"),
    ] {
        let parent = parent("bad");
        let jail = Jail::with("bad", &["--cgroup", setting, "--parent-cgroup", &parent]);
        let line = jail.refused();
        assert!(line.contains(says), "{setting}: {line}");
        // Nothing even before a reaper came.
        assert!(!place("pids").0.join(&parent).exists());
        assert_eq!(crate::support::walk(&jail.base()).count(), 0);
        jail.nothing_is_left();
    }
}

#[test]
fn each_controller_is_taken_where_it_is() {
    // On a hybrid host one is in a v1 hierarchy and one in the v2 tree.
    let huge = std::fs::read_dir("/sys/kernel/mm/hugepages")
        .into_iter()
        .flatten()
        .count();
    let file = match place("hugetlb").1 {
        _ if huge == 0 => return,
        Version::V1 => "hugetlb.2MB.limit_in_bytes",
        Version::V2 => "hugetlb.2MB.max",
    };
    let parent = parent("hybrid");
    let deep = format!("{parent}/deep");
    let setting = format!("{file}=4M");
    let flags = [
        "--cgroup",
        &setting,
        "--cgroup",
        "pids.max=13",
        "--parent-cgroup",
        &deep,
    ];
    let jail = Jail::with("hybrid", &flags);
    let running = jail.start(&["sleep"]);
    let leaf = |controller| place(controller).0.join(&deep).join(&jail.id);
    assert_eq!(read(&leaf("hugetlb"), file), "4194304");
    assert_eq!(read(&leaf("pids"), "pids.max"), "13");
    for controller in ["hugetlb", "pids"] {
        assert!(holds(&leaf(controller), running.pid()), "{controller}");
    }
    running.kill();
    jail.nothing_is_left();
    for controller in ["hugetlb", "pids"] {
        assert!(!place(controller).0.join(&parent).exists(), "{controller}");
    }
}

#[test]
fn a_version_that_has_not_the_controller_is_refused() {
    let other = match place("pids").1 {
        Version::V1 => "2",
        Version::V2 => "1",
    };
    let jail = Jail::with(
        "version",
        &["--cgroup", "pids.max=9", "--cgroup-version", other],
    );
    let line = jail.refused();
    assert!(line.contains("leave --cgroup-version out"), "{line}");
    let own = match other {
        "1" => "2",
        _ => "1",
    };
    let parent = parent("version");
    let flags = [
        "--cgroup",
        "pids.max=9",
        "--cgroup-version",
        own,
        "--parent-cgroup",
        &parent,
    ];
    Jail::with("version", &flags).report(&["exit", "0"]);
}

#[test]
fn version_2_without_a_value_joins_the_parent_if_it_is_there() {
    let parent = parent("join");
    let flags = ["--cgroup-version", "2", "--parent-cgroup", &parent];
    let jail = Jail::with("join", &flags);
    jail.report(&["exit", "0"]);
    let operators = v2().join(&parent);
    assert!(!operators.exists());
    std::fs::create_dir(&operators).unwrap();
    let running = jail.start(&["sleep"]);
    assert!(holds(&operators, running.pid()));
    running.kill();
    jail.nothing_is_left();
    // The operator's own stays.
    std::fs::remove_dir(&operators).unwrap();
}

#[test]
fn a_cgroup_with_somebody_elses_processes_is_refused() {
    let parent = parent("taken");
    let jail = Jail::with(
        "taken",
        &["--cgroup", "pids.max=9", "--parent-cgroup", &parent],
    );
    let leaf = place("pids").0.join(&parent).join(&jail.id);
    std::fs::create_dir_all(&leaf).unwrap();
    let mut other = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    std::fs::write(leaf.join("cgroup.procs"), other.id().to_string()).unwrap();
    let line = jail.refused();
    assert!(line.contains("not this jail's"), "{line}");
    assert!(holds(&leaf, other.id() as i32));
    other.kill().unwrap();
    other.wait().unwrap();
    // Empty, and not ours: used, and left where it is.
    crate::support::eventually("it is empty", || read(&leaf, "cgroup.procs").is_empty());
    let running = jail.start(&["sleep"]);
    assert_eq!(read(&leaf, "pids.max"), "9");
    running.kill();
    jail.nothing_is_left();
    std::fs::remove_dir(&leaf).unwrap();
    std::fs::remove_dir(leaf.parent().unwrap()).unwrap();
}

#[test]
fn kill_9_leaves_processes_and_cgroups_to_the_next_start() {
    let parent = parent("killed");
    let jail = Jail::with(
        "killed",
        &["--cgroup", "pids.max=9", "--parent-cgroup", &parent],
    );
    let leaf = place("pids").0.join(&parent).join(&jail.id);
    let mut first = jail.start(&["child"]);
    first.child.wait().unwrap();
    let orphan = read(&leaf, "cgroup.procs");
    assert_eq!(orphan.lines().count(), 1);
    let running: Running = jail.start(&["sleep"]);
    assert_eq!(read(&leaf, "cgroup.procs"), running.pid().to_string());
    running.kill();
    jail.nothing_is_left();
    assert!(!leaf.parent().unwrap().exists());
}

#[test]
fn thirty_at_once_share_and_remove_one_parent() {
    let parent = parent("parallel");
    for _ in 0..3 {
        let jails: Vec<Jail> = (0..30)
            .map(|n| {
                let flags = ["--cgroup", "pids.max=9", "--parent-cgroup", &parent];
                Jail::with(&format!("parallel-{n}"), &flags)
            })
            .collect();
        let children: Vec<_> = jails
            .iter()
            .map(|jail| {
                jail.command(&["exit", "0"])
                    .stdout(std::process::Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        for (jail, mut child) in jails.iter().zip(children) {
            assert!(child.wait().unwrap().success());
            jail.reap();
        }
        assert!(!place("pids").0.join(&parent).exists());
    }
}
