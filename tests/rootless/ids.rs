//! Which ids a jail has, and what its program may write.

use crate::{NO_CGROUP, assert_refused, layer, nothing_is_left, out, ran, report, report_file};
use casemate_proto::cell::{Layer, Strength};
use casemate_tests::rootless::{User, become_user, sees};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A user whom root gave subordinate ids: (file, where it is to be seen).
struct Granted {
    files: [(PathBuf, &'static str); 3],
}

impl Granted {
    fn to(user: &User, first: u32, count: u32) -> Self {
        let id = user.id;
        let file = |name: &str, text: String| {
            let path = user.own(name);
            fs::write(&path, text).expect("written");
            path
        };
        let passwd = format!("root:x:0:0::/:/bin/sh\nlauncher:x:{id}:{id}::/:/bin/sh\n");
        let ids = format!("launcher:{first}:{count}\n");
        Self {
            files: [
                (file("passwd", passwd), "/etc/passwd"),
                (file("subuid", ids.clone()), "/etc/subuid"),
                (file("subgid", ids), "/etc/subgid"),
            ],
        }
    }

    fn jail(&self, user: &User, groups: &[u32], options: &[&str], cmd: &[&str]) -> Command {
        let mut command = user.early(&user.program());
        command
            .args(["jail", "--id-map=range", "--tenant", &user.tenant()])
            .args(NO_CGROUP)
            .arg("--run-dir")
            .arg(user.run_dir())
            .args(options)
            .arg("--")
            .args(cmd);
        let files: Vec<_> = self.files.iter().map(|(f, at)| (&**f, *at)).collect();
        sees(&mut command, &files);
        become_user(&mut command, user.id, groups);
        command
    }
}

#[test]
fn with_a_range_the_program_has_a_user_of_its_own() {
    let user = User::new(4320);
    let granted = Granted::to(&user, 700_000, 2000);
    let file = report_file(&user);
    let options = ["--report", &file];
    let output = ran(&mut granted.jail(&user, &[4321], &options, &["id", "-u"]));
    assert_eq!(
        (output.status.code(), &*out(&output)),
        (Some(0), "1000\n"),
        "{output:?}"
    );
    let report = report(&user);
    let layer = layer(&report, Layer::User);
    assert_eq!(layer.strength, Strength::Full);
    assert!(
        layer.holds && layer.declared.ends_with("no groups"),
        "{layer:?}"
    );
    // Of the upper half.
    let uid = layer.declared.split([' ', ',']).nth(1).expect("a number");
    let uid: u32 = uid.parse().expect("a number");
    assert!((701_000..702_000).contains(&uid), "{layer:?}");
    nothing_is_left(&user);
}

#[test]
fn with_a_range_of_one_two_jails_do_not_share_it() {
    let user = User::new(4322);
    let granted = Granted::to(&user, 710_000, 1);
    let mut first = granted
        .jail(&user, &[], &[], &["sh", "-c", "echo up; exec sleep 60"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("casemate starts");
    let mut up = [0; 3];
    std::io::Read::read_exact(first.stdout.as_mut().expect("a pipe"), &mut up).expect("up");
    let second = ran(&mut granted.jail(&user, &[], &[], &["true"]));
    assert_eq!(second.status.code(), Some(125), "{second:?}");
    assert!(String::from_utf8_lossy(&second.stderr).contains("user ids for cells are taken"));
    first.kill().expect("killed");
    first.wait().expect("its end");
    // What the killed one left is cleared by the next start, its user too.
    let third = ran(&mut granted.jail(&user, &[], &["--id=third"], &["true"]));
    assert_eq!(third.status.code(), Some(0), "{third:?}");
    let mut reap = user.command(&user.program());
    reap.args(["jail", "--allow-missing", "cgroup", "--", "true"]);
    assert!(ran(&mut reap).status.success());
}

#[test]
fn with_a_range_nothing_of_the_hosts_is_writable() {
    let user = User::new(4323);
    let granted = Granted::to(&user, 720_000, 10);
    let shared = user.own("home/shared");
    user.make(&shared, 0o777);
    let options = ["--rw", shared.to_str().expect("a path")];
    let output = ran(&mut granted.jail(&user, &[], &options, &["true"]));
    assert_refused(&user, &output, &["sharing", "--id-map range"]);
}

#[test]
fn the_helpers_no_is_told() {
    let user = User::new(4324);
    // subuid(5) and subgid(5) speak of somebody else, as newuidmap sees it.
    let granted = Granted::to(&user, 730_000, 10);
    fs::write(user.own("passwd"), "root:x:0:0::/:/bin/sh\n").expect("written");
    for file in ["subuid", "subgid"] {
        fs::write(user.own(file), "4324:730000:10\n").expect("written");
    }
    let output = ran(&mut granted.jail(&user, &[], &[], &["true"]));
    assert_refused(&user, &output, &["newgidmap did not map", "--id-map"]);
}

#[test]
fn what_is_shared_writable_is_the_users_own() {
    let user = User::new(4325);
    let (own, roots) = (user.own("home/shared"), user.own("roots"));
    user.make(&own, 0o700);
    fs::create_dir(&roots).expect("a folder");
    let mounts = |host: &PathBuf| format!("--rw={}:/shared", host.display());
    let mut options = NO_CGROUP.to_vec();
    let mount = mounts(&own);
    options.push(&mount);
    let output = ran(&mut user.jail(&options, &["sh", "-c", "echo made > /shared/file"]));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let made = fs::metadata(own.join("file")).expect("a file");
    assert_eq!(
        (made.uid(), made.gid(), made.mode() & 0o777),
        (4325, 4325, 0o600)
    );
    // Root's stays root's.
    let mount = mounts(&roots);
    options.pop();
    options.push(&mount);
    let output = ran(&mut user.jail(&options, &["sh", "-c", "echo made > /shared/file"]));
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(fs::read_dir(&roots).expect("a folder").next().is_none());
    nothing_is_left(&user);
}

#[test]
fn links_of_roots_and_the_users_are_followed_and_no_others() {
    let user = User::new(4326);
    let real = user.own("home/real");
    user.make(&real, 0o755);
    fs::write(real.join("file"), "content").expect("written");
    let link = user.own("home/link");
    symlink(&real, &link).expect("a link");
    let read = |path: &PathBuf| {
        let mut options = NO_CGROUP.to_vec();
        let mount = format!("--ro={}:/shared", path.display());
        options.push(&mount);
        ran(&mut user.jail(&options, &["cat", "/shared/file"]))
    };
    let own = |path| std::os::unix::fs::lchown(path, Some(4326), Some(4326)).expect("its owner");
    own(&link);
    assert_eq!(out(&read(&link)), "content");
    std::os::unix::fs::lchown(&link, Some(4327), Some(4327)).expect("its owner");
    assert_refused(&user, &read(&link), &["symbolic link"]);
    own(&link);
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(user.own("home"), open).expect("its mode");
    assert_refused(&user, &read(&link), &["symbolic link"]);
    assert_eq!(out(&read(&real)), "content");
}
