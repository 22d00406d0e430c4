//! The whole confinement, as the report has it and as root sees it from outside.

use crate::{NO_CGROUP, layer, nothing_is_left, out, ran, report, report_file};
use casemate_proto::cell::{Layer, LayerReport, Strength};
use casemate_tests::proc::Process;
use casemate_tests::rootless::{User, become_user};
use std::collections::BTreeSet;
use std::io::Read;
use std::process::{Child, Stdio};

/// Layers that a plain program's jail has at all.
const LAYERS: usize = 22;

/// Says `up` and waits for the end of its input.
fn waiting(user: &User, options: &[&str]) -> Child {
    let mut child = user
        .jail(options, &["sh", "-c", "echo up; cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("casemate starts");
    let mut up = [0; 3];
    let out = child.stdout.as_mut().expect("a pipe");
    out.read_exact(&mut up).expect("up");
    child
}

/// The supervisor, the init and the program.
fn processes(child: &Child) -> [Process; 3] {
    let supervisor = Process(child.id() as i32);
    let init = supervisor.children()[0];
    [supervisor, init, init.children()[0]]
}

#[test]
fn every_layer_holds_and_the_report_says_how_strong() {
    let user = User::new(4310);
    let file = report_file(&user);
    let options = [NO_CGROUP[0], NO_CGROUP[1], "--report", &file];
    let output = ran(&mut user.jail(&options, &["true"]));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = report(&user);
    let layers = &report.confinement;
    assert_eq!(layers.len(), LAYERS, "{layers:#?}");
    let set = |wanted: &dyn Fn(&LayerReport) -> bool| {
        let found = layers.iter().filter(|report| wanted(report));
        found.map(|report| report.layer).collect::<BTreeSet<_>>()
    };
    assert_eq!(set(&|layer| !layer.holds), BTreeSet::from([Layer::Cgroup]));
    let weaker = set(&|layer| layer.strength != Strength::Full);
    assert_eq!(weaker, BTreeSet::from([Layer::Cgroup, Layer::User]));
    nothing_is_left(&user);
}

#[test]
fn as_root_every_layer_is_full() {
    let user = User::new(4311);
    let output = user
        .early(&user.program())
        .args(["jail", "--no-audit", "--tenant", &user.tenant(), "--report"])
        .arg(report_file(&user))
        .arg("--run-dir")
        .arg(user.own("roots"))
        .args(["--", "true"])
        .output()
        .expect("casemate starts");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = report(&user);
    for layer in &report.confinement {
        assert!(layer.holds && layer.strength == Strength::Full, "{layer:?}");
    }
}

#[test]
fn the_kernel_shows_the_same_to_root() {
    let user = User::new(4312);
    let mut child = waiting(&user, &NO_CGROUP);
    let [supervisor, init, program] = processes(&child);
    for process in [init, program] {
        let status = process.status(process.0);
        let shows = |key: &str| status[key].split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(shows("Uid"), "4312 4312 4312 4312");
        assert_eq!(shows("Gid"), "4312 4312 4312 4312");
        assert_eq!(shows("Groups"), "");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(shows(set), "0000000000000000", "{set}");
        }
        assert_eq!((&*shows("NoNewPrivs"), &*shows("Seccomp")), ("1", "2"));
        for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user"] {
            let (theirs, ours) = (process.namespace(kind), supervisor.namespace(kind));
            assert!(!theirs.is_empty() && theirs != ours, "{kind}: {theirs}");
        }
        let text = |file| String::from_utf8_lossy(&process.read(file)).into_owned();
        for map in ["uid_map", "gid_map"] {
            let map = text(map);
            let map: Vec<&str> = map.split_whitespace().collect();
            assert_eq!(map, ["1000", "4312", "1"]);
        }
        assert_eq!(text("setgroups"), "deny\n");
        assert!(text("limits").lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words[..] == ["Max", "core", "file", "size", "1", "1", "bytes"]
        }));
    }
    assert_ne!(program.namespace("time"), supervisor.namespace("time"));
    let mut root = program.root().expect("its root");
    root.sort_unstable();
    root.retain(|name| !["bin", "sbin", "lib", "lib64"].contains(&&**name));
    assert_eq!(root, ["dev", "etc", "tmp", "usr"]);
    let environment = String::from_utf8_lossy(&program.read("environ")).into_owned();
    assert!(!environment.contains("XDG_RUNTIME_DIR"), "{environment}");
    // Nor is the user's process of any use to others of that user.
    let dumpable = |process: Process| {
        use std::os::unix::fs::MetadataExt;
        let stat = std::fs::metadata(format!("/proc/{}/environ", process.0));
        stat.expect("a process").uid() != 0
    };
    assert!(!dumpable(supervisor) && !dumpable(init));
    drop(child.stdin.take());
    child.wait().expect("its end");
    nothing_is_left(&user);
}

#[test]
fn inspect_shows_a_user_its_own() {
    let user = User::new(4313);
    let mut options = NO_CGROUP.to_vec();
    options.extend(["--id", "seen"]);
    let mut child = waiting(&user, &options);
    let look = |who: u32| {
        let mut command = user.early(&user.program());
        command
            .args(["inspect", "--tenant", &user.tenant(), "--effective", "seen"])
            .arg("--run-dir")
            .arg(user.run_dir());
        become_user(&mut command, who, &[]);
        ran(&mut command)
    };
    let own = look(user.id);
    assert_eq!(own.status.code(), Some(1), "{own:?}");
    let text = out(&own);
    let differs: Vec<&str> = text.lines().filter(|l| l.ends_with("DIFFERS")).collect();
    assert_eq!(differs, ["cgroup           DIFFERS"], "{text}");
    assert_eq!(text.matches("    weaker    ").count(), 2, "{text}");
    let others = look(4314);
    assert_eq!(others.status.code(), Some(125), "{others:?}");
    drop(child.stdin.take());
    assert!(child.wait().expect("its end").success());
    nothing_is_left(&user);
}

#[test]
fn groups_stay_and_are_told() {
    let user = User::new(4315);
    let mut command = user.early(&user.program());
    command
        .args([
            "jail",
            "--allow-missing",
            "cgroup",
            "--tenant",
            &user.tenant(),
        ])
        .arg("--run-dir")
        .arg(user.run_dir())
        .arg("--report")
        .arg(report_file(&user))
        .args(["--", "true"]);
    become_user(&mut command, user.id, &[4317, 4316]);
    let output = ran(&mut command);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = report(&user);
    let told = layer(&report, Layer::User);
    assert!(
        told.holds && told.declared.contains("groups 4316 4317"),
        "{told:?}"
    );
    assert!(matches!(&told.strength, Strength::Weaker { why } if why.contains("groups")));
}

#[test]
fn a_hard_limit_of_the_users_counts_and_is_told() {
    let user = User::new(4318);
    let mut command = user.command(std::path::Path::new("sh"));
    let script = "ulimit -c 0; ulimit -n 100; exec \"$@\"";
    command
        .args(["-c", script, "sh"])
        .arg(user.program())
        .args(["jail", "--allow-missing", "cgroup", "--report"])
        .arg(report_file(&user))
        .args(["--", "sh", "-c", "ulimit -n; ulimit -c"]);
    let output = ran(&mut command);
    assert_eq!(
        (output.status.code(), &*out(&output)),
        (Some(0), "100\n0\n"),
        "{output:?}"
    );
    let report = report(&user);
    let told = layer(&report, Layer::Rlimits);
    assert!(told.holds && told.declared.contains("core 0"), "{told:?}");
    assert!(matches!(&told.strength, Strength::Weaker { why } if why.contains("core")));
}

/// From Linux 5.14 on: each jail's own processes, and no others of the user's.
#[test]
fn processes_are_counted_by_jail() {
    let user = User::new(4319);
    let count = "n=0; while [ $n -lt 300 ]; do sleep 5 & n=$((n+1)); echo $n; done";
    let made = |child: Child| {
        let output = child.wait_with_output().expect("its end");
        out(&output).lines().count()
    };
    let start = || {
        user.jail(&NO_CGROUP, &["sh", "-c", count])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("casemate starts")
    };
    // Both at once: each comes as far as the policy's nproc of 256 lets it.
    let (one, two) = (start(), start());
    for made in [made(one), made(two)] {
        assert!((240..256).contains(&made), "{made}");
    }
    nothing_is_left(&user);
}
