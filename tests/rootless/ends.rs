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
