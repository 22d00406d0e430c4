//! Shared paths below which the host has mounted something else.

use crate::{NO_CGROUP, nothing_is_left, out, ran, report, report_file};
use casemate_tests::rootless::User;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Runs a jail where these commands were given before, as root in a mount namespace.
fn after(user: &User, mounts: &str, options: &[&str], cmd: &[&str]) -> Output {
    let become_it = format!(
        "{mounts}\nexec setpriv --reuid {0} --regid {0} --clear-groups \"$@\"",
        user.id
    );
    let mut command = user.early(Path::new("unshare"));
    command
        .args(["--mount", "sh", "-ec", &become_it, "sh"])
        .arg(user.program())
        .args([
            "jail",
            "--tenant",
            &user.tenant(),
            "--report",
            &report_file(user),
        ])
        .args(NO_CGROUP)
        .args(options)
        .arg("--")
        .args(cmd);
    ran(&mut command)
}

fn all_hold(user: &User) {
    for layer in report(user).confinement {
        let missing = layer.layer == casemate_proto::cell::Layer::Cgroup;
        assert!(layer.holds != missing, "{layer:?}");
    }
    nothing_is_left(user);
}

#[test]
fn what_is_mounted_below_is_covered() {
    let user = User::new(4370);
    let shared = user.own("home/shared");
    user.make(&shared, 0o755);
    for (name, is_folder) in [("folder", true), ("file", false)] {
        let path = shared.join(name);
        match is_folder {
            true => fs::create_dir(path).expect("a folder"),
            false => fs::write(path, "under").expect("a file"),
        }
    }
    fs::write(user.own("secret"), "secret").expect("a file");
    let (shared, secret) = (shared.display(), user.own("secret"));
    let mounts = format!(
        "mount -t tmpfs none {shared}/folder
        echo secret > {shared}/folder/secret
        mkdir {shared}/folder/deep
        mount -t tmpfs none {shared}/folder/deep
        mount --bind {} {shared}/file",
        secret.display()
    );
    let look = "find /shared | sort; cat /shared/file || echo no; \
                ls /shared/folder/deep || echo no";
    let mount = format!("--ro={shared}:/shared");
    let output = after(&user, &mounts, &[&mount], &["sh", "-c", look]);
    let wanted = "/shared\n/shared/file\n/shared/folder\nno\nno\n";
    assert_eq!(out(&output), wanted, "{output:?}");
    all_hold(&user);
    // The same where it is to be written, and a folder that is made over what is covered.
    let mount = format!("--rw={shared}:/shared");
    let options = [&*mount, "--tmpfs=/shared/folder"];
    let script = "echo new > /shared/folder/new && ls /shared/folder; echo new > /shared/new";
    let output = after(&user, &mounts, &options, &["sh", "-c", script]);
    assert_eq!(out(&output), "new\n", "{output:?}");
    assert_eq!(
        fs::read_to_string(user.own("home/shared/new")).expect("a file"),
        "new\n"
    );
    all_hold(&user);
}

#[test]
fn the_whole_root_is_shared_without_what_is_mounted_in_it() {
    let user = User::new(4371);
    let look = "test -x /usr/bin/env && ls -A /sys; ls /dev; echo end";
    let output = after(&user, ":", &["--ro=/"], &["sh", "-c", look]);
    let dev = "full\nnull\nrandom\nurandom\nzero\n";
    assert_eq!(out(&output), format!("{dev}end\n"), "{output:?}");
    all_hold(&user);
}

/// What the host has mounted with stricter options than we ask for is shared as it is: by an
/// ordinary user, who could not have it otherwise, and by root.
#[test]
fn a_stricter_mount_of_the_hosts_will_do() {
    let user = User::new(4372);
    let shared = user.own("home/shared");
    user.make(&shared, 0o755);
    let options = "ro,noexec,nosuid,nodev,noatime";
    let mounts = format!("mount -t tmpfs -o {options} none {}", shared.display());
    for kind in ["ro", "rw"] {
        let mount = format!("--{kind}={}:/shared", shared.display());
        let write = ["sh", "-c", "echo > /shared/file || echo no"];
        let output = after(&user, &mounts, &[&mount], &write);
        assert_eq!(out(&output), "no\n", "{output:?}");
        all_hold(&user);
    }
    let script = format!("{mounts}; exec \"$@\"");
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-ec", &script, "sh"])
        .arg(user.program())
        .args(["jail", "--no-audit", "--tenant", &user.tenant()])
        .arg("--run-dir")
        .arg(user.own("roots"))
        .arg("--ro")
        .arg(&shared)
        .args(["--", "true"])
        .output()
        .expect("casemate starts");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
