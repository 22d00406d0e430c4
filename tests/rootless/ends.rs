//! How a jail ends, and what is refused.

use crate::{NO_CGROUP, assert_refused, err, nothing_is_left, out, ran};
use casemate_tests::rootless::{User, become_user};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

#[test]
fn the_status_is_the_programs_own() {
    let user = User::new(4300);
    let status = |options: &[&str], cmd: &[&str]| {
        let mut all = NO_CGROUP.to_vec();
        all.extend(options);
        let output = ran(&mut user.jail(&all, cmd));
        nothing_is_left(&user);
        (output.status.code(), out(&output), err(&output))
    };
    let sh = |script| status(&[], &["sh", "-c", script]);
    let plain = |code, out: &str, err: &str| (Some(code), out.to_owned(), err.to_owned());
    assert_eq!(sh("echo a; echo b >&2; exit 7"), plain(7, "a\n", "b\n"));
    assert_eq!(sh("kill -SEGV $$").0, Some(139));
    assert_eq!(status(&[], &["/none"]).0, Some(127));
    assert_eq!(status(&[], &["/usr/share"]).0, Some(126));
    assert_eq!(status(&["--memory", "x"], &["true"]).0, Some(125));
    let start = Instant::now();
    assert_eq!(
        status(&["--timeout", "300ms"], &["sleep", "60"]).0,
        Some(124)
    );
    assert!(start.elapsed().as_secs() < 5);
}

#[test]
fn a_signal_reaches_the_program() {
    let user = User::new(4301);
    let script = "trap 'echo got; exit 3' TERM; echo up; while :; do sleep 0.01; done";
    let mut child = user
        .jail(&NO_CGROUP, &["sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .expect("casemate starts");
    let mut up = [0; 3];
    std::io::Read::read_exact(child.stdout.as_mut().expect("a pipe"), &mut up).expect("up");
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("sent");
    let output = child.wait_with_output().expect("its end");
    assert_eq!((output.status.code(), &*out(&output)), (Some(3), "got\n"));
    nothing_is_left(&user);
}

#[test]
fn what_cannot_be_is_refused() {
    let user = User::new(4302);
    let refused = |options: &[&str], words: &[&str]| {
        assert_refused(&user, &ran(&mut user.jail(options, &["true"])), words);
    };
    refused(&[], &["cgroup", "--allow-missing", "Delegate"]);
    let with = |option| [NO_CGROUP[0], NO_CGROUP[1], option];
    refused(&with("--memory=64M"), &["--memory cannot be held"]);
    refused(&with("--pids=9"), &["--pids cannot be held"]);
    refused(&with("--cpus=1"), &["--cpus cannot be held"]);
    refused(&with("--net=netns=/run/netns/x"), &["only root can join"]);
    refused(
        &with("--rw=/nonexistent"),
        &["/nonexistent", "No such file"],
    );
    refused(&with("--id-map=range"), &["subordinate ids", "usermod"]);
    refused(&with("--cpu-list=4000"), &["4000"]);
}

#[test]
fn root_has_no_use_for_an_id_map() {
    let user = User::new(4303);
    let output = user
        .early(&user.program())
        .args(["jail", "--no-audit", "--id-map=single", "--", "true"])
        .output()
        .expect("casemate starts");
    assert_refused(&user, &output, &["--id-map is for ordinary users"]);
}

#[test]
fn group_0_of_the_host_gets_into_no_jail() {
    let user = User::new(4304);
    let mut command = user.early(Path::new("setpriv"));
    command
        .args(["--reuid", "4304", "--regid", "0", "--clear-groups"])
        .arg(user.program())
        .args(["jail", "--allow-missing", "cgroup", "--run-dir"])
        .arg(user.run_dir())
        .args(["--", "true"]);
    assert_refused(&user, &ran(&mut command), &["group 0"]);
}

#[test]
fn a_set_user_id_program_of_ours_refuses() {
    let user = User::new(4305);
    // Root's, and somebody else's.
    for owner in [0, 4306] {
        let program = user.own("set-user-id");
        std::fs::copy(user.program(), &program).expect("a copy");
        std::os::unix::fs::chown(&program, Some(owner), Some(owner)).expect("its owner");
        let mode = std::fs::Permissions::from_mode(0o4755);
        std::fs::set_permissions(&program, mode).expect("its mode");
        let mut command = user.early(&program);
        command
            .args(["jail", "--allow-missing", "cgroup", "--run-dir"])
            .arg(user.run_dir())
            .args(["--", "true"]);
        become_user(&mut command, user.id, &[]);
        assert_refused(&user, &ran(&mut command), &["set-user-ID"]);
    }
}

#[test]
fn doctor_tells_a_user_what_it_can_do() {
    let user = User::new(4307);
    let doctor = |options: &[&str]| {
        let mut command = user.command(&user.program());
        out(&ran(command.arg("doctor").args(options)))
    };
    let told: serde_json::Value = serde_json::from_str(&doctor(&["--json"])).expect("JSON");
    assert_eq!(
        (&told["can_run"], &told["can_jail"]),
        (&false.into(), &true.into())
    );
    let check = |name: &str| {
        let checks = told["checks"].as_array().expect("checks");
        checks
            .iter()
            .find(|check| check["name"] == name)
            .cloned()
            .expect(name)
    };
    assert_eq!(check("rootless")["status"], "ok");
    let cgroup = check("rootless-cgroup");
    assert_eq!(cgroup["status"], "warn");
    assert!(
        cgroup["remedy"]
            .as_str()
            .expect("a remedy")
            .contains("Delegate=yes")
    );
    assert!(doctor(&[]).contains("casemate jail can work on this host."));
}

/// A host that forbids it: what it says is why, and how to let it.
#[test]
fn a_host_without_user_namespaces_is_told_from_one_with() {
    let user = User::new(4308);
    // In a user namespace of its own, whose limit is 0.
    let script = "read go; exec sh -ec 'echo 0 > /proc/sys/user/max_user_namespaces; exec \
                  setpriv --reuid=4308 --regid=4308 --clear-groups \"$@\"' sh \"$@\"";
    let within = |cmd: &[&str]| {
        let mut child = user
            .early(Path::new("unshare"))
            .args(["--user", "sh", "-c", script, "sh"])
            .arg(user.program())
            .args(cmd)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let own = std::fs::read_link("/proc/self/ns/user").expect("a namespace");
        let file = |name: &str| format!("/proc/{}/{name}", child.id());
        let there = || std::fs::read_link(file("ns/user")).is_ok_and(|theirs| theirs != own);
        while !there() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        for map in ["uid_map", "gid_map"] {
            std::fs::write(file(map), "0 0 65536").expect("a map");
        }
        let mut go = child.stdin.take().expect("a pipe");
        std::io::Write::write_all(&mut go, b"\n").expect("written");
        child.wait_with_output().expect("its end")
    };
    let words = "/proc/sys/user/max_user_namespaces is 0: raise it";
    let output = within(&["jail", "--allow-missing=cgroup", "--", "true"]);
    assert_refused(&user, &output, &[words]);
    let output = within(&["doctor"]);
    let told = out(&output);
    assert!(
        told.contains("FAIL  rootless") && told.contains(words),
        "{told}"
    );
    assert!(told.contains("casemate jail cannot work"), "{told}");
}
