//! Two users: neither touches what is the other's.

use crate::{NO_CGROUP, assert_refused, err, nothing_is_left, out, ran};
use casemate_tests::rootless::User;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

/// Every name below a folder, with its mode and content.
fn all(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let mode = entry.metadata().map_or(0, |meta| meta.permissions().mode());
        let text = fs::read_to_string(&path).unwrap_or_default();
        found.push(format!("{} {mode:o} {text}", path.display()));
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(all(&path));
        }
    }
    found.sort_unstable();
    found
}

#[test]
fn anothers_run_directory_is_not_touched() {
    let (one, two) = (User::new(4330), User::new(4331));
    let output = ran(&mut one.jail(&NO_CGROUP, &["true"]));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    one.make(&one.run_dir().join("left"), 0o700);
    // Even where the folders above let anybody pass and write.
    fs::set_permissions(one.runtime(), fs::Permissions::from_mode(0o777)).expect("its mode");
    let before = all(&one.runtime());
    let run_dir = format!("--run-dir={}", one.run_dir().display());
    let options = [NO_CGROUP[0], NO_CGROUP[1], &run_dir];
    let output = ran(&mut two.jail(&options, &["true"]));
    assert_refused(&two, &output, &["cannot open", "Permission denied"]);
    let mut command = two.jail(&NO_CGROUP, &["true"]);
    let output = ran(command.env("XDG_RUNTIME_DIR", one.runtime()));
    assert_refused(&two, &output, &["XDG_RUNTIME_DIR", "--run-dir"]);
    assert_eq!(all(&one.runtime()), before);
}

#[test]
fn what_others_placed_at_the_run_directory_is_not_followed() {
    let user = User::new(4332);
    let (outside, run_dir) = (user.own("outside"), user.run_dir());
    user.make(&outside, 0o700);
    let refused = |what: &str| {
        let output = ran(&mut user.jail(&NO_CGROUP, &["true"]));
        let said = err(&output);
        assert_eq!(output.status.code(), Some(125), "{output:?}");
        assert!(
            said.contains(&*run_dir.to_string_lossy()) && said.contains(what),
            "{said}"
        );
        assert_eq!(all(&outside), Vec::<String>::new());
    };
    symlink(&outside, &run_dir).expect("a link");
    refused("a symbolic link");
    fs::remove_file(&run_dir).expect("removed");
    fs::create_dir(&run_dir).expect("a folder");
    fs::set_permissions(&run_dir, fs::Permissions::from_mode(0o755)).expect("its mode");
    refused("owned by uid 0");
    chown(&run_dir, Some(4332), Some(4332)).expect("its owner");
    fs::set_permissions(&run_dir, fs::Permissions::from_mode(0o770)).expect("its mode");
    refused("mode 770");
    fs::remove_dir(&run_dir).expect("removed");
    assert!(ran(&mut user.jail(&NO_CGROUP, &["true"])).status.success());
}

#[test]
fn without_a_runtime_folder_there_is_no_guess() {
    let user = User::new(4333);
    let without = |folder: Option<&Path>| {
        let mut command = user.jail(&NO_CGROUP, &["true"]);
        match folder {
            Some(folder) => command.env("XDG_RUNTIME_DIR", folder),
            None => command.env_remove("XDG_RUNTIME_DIR"),
        };
        ran(&mut command)
    };
    assert_refused(&user, &without(None), &["/run/user/4333", "--run-dir"]);
    assert_refused(&user, &without(Some(Path::new("/tmp"))), &["uid 0"]);
    assert_refused(&user, &without(Some(Path::new("tmp"))), &["not absolute"]);
    let link = user.own("link");
    symlink(user.runtime(), &link).expect("a link");
    assert_refused(&user, &without(Some(&link)), &["is no folder"]);
}

/// Of different users, and of one: the same name is another's jail, or taken.
#[test]
fn jails_of_two_users_do_not_meet() {
    let (one, two) = (User::new(4334), User::new(4335));
    let options = [NO_CGROUP[0], NO_CGROUP[1], "--id=same", "--proc"];
    let script = "ls /proc | grep -c '^[0-9]'; sleep 0.3";
    let start = |user: &User| {
        let mut command = user.jail(&options, &["sh", "-c", script]);
        command.stdout(std::process::Stdio::piped());
        command.spawn().expect("casemate starts")
    };
    for child in [start(&one), start(&two)] {
        let output = child.wait_with_output().expect("its end");
        assert_eq!(output.status.code(), Some(0));
        // The init is hidden; of its own there are the shell, ls and grep.
        assert_eq!(out(&output), "3\n");
    }
    nothing_is_left(&one);
    nothing_is_left(&two);
}

/// A user's log is its own, and verifies.
#[test]
fn decisions_are_recorded_in_the_users_own_log() {
    let user = User::new(4336);
    assert!(ran(&mut user.jail(&NO_CGROUP, &["true"])).status.success());
    let refused = ran(&mut user.jail(&[], &["true"]));
    assert_refused(&user, &refused, &["cgroup"]);
    let audit = |word: &str| {
        let mut command = user.command(&user.program());
        let output = ran(command.args(["audit", word]));
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        out(&output)
    };
    audit("verify");
    let told = audit("show");
    for event in ["start", "layers", "exit", "refused"] {
        assert!(told.contains(event), "{event}: {told}");
    }
    let log = user.own("home/.local/state/casemate/audit");
    let mode = |path: &Path| fs::metadata(path).expect("a folder").permissions().mode() & 0o777;
    assert_eq!(mode(&log), 0o700);
    assert_eq!(mode(&user.own("home/.local")), 0o700);
    let nowhere = ran(user.jail(&NO_CGROUP, &["true"]).env_remove("HOME"));
    assert_refused(&user, &nowhere, &["XDG_STATE_HOME", "--audit-dir"]);
}
