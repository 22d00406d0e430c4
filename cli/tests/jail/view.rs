//! What a program finds inside.

use crate::support::{Bench, err, good};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

/// The user and group whose a shared directory is.
const OWNER: u32 = 4321;

/// A folder of the owner's that everybody may enter.
fn shared(bench: &Bench, name: &str) -> String {
    std::fs::set_permissions(bench.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let path = bench.path(name);
    std::fs::create_dir(&path).unwrap();
    chown(&path, Some(OWNER), Some(OWNER)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_root_has_what_is_mounted_and_nothing_else() {
    let bench = Bench::new("root");
    let found = good(bench.sh(&[], "ls -A /; ls -A /dev"));
    let names: Vec<&str> = found.split_ascii_whitespace().collect();
    for name in [
        "usr", "tmp", "dev", "null", "zero", "full", "random", "urandom",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    for name in ["proc", "sys", "root", "home", "kvm", "tty", "mem"] {
        assert!(!names.contains(&name), "{names:?}");
    }
    let said = good(bench.sh(
        &[],
        "for f in / /dev /usr; do touch $f/x 2>/dev/null && echo $f; done; true",
    ));
    assert_eq!(said, "");
    let tried = "echo x > /dev/null && head -c 3 /dev/zero | wc -c && cat /etc/shadow";
    let output = bench.sh(&[], tried);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn read_only_is_read_only_whoever_owns_it() {
    let bench = Bench::new("ro");
    let dir = shared(&bench, "dir");
    std::fs::write(bench.path("dir/f"), "text\n").unwrap();
    std::fs::set_permissions(bench.path("dir/f"), PermissionsExt::from_mode(0o666)).unwrap();
    std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o777)).unwrap();
    let ro = format!("--ro={dir}:/d");
    let script = "cat /d/f; echo y > /d/f || touch /d/g || chmod 600 /d/f || rm -f /d/f";
    let output = bench.sh(&[&ro], script);
    assert_ne!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(output.stdout, b"text\n");
    assert_eq!(std::fs::read(bench.path("dir/f")).unwrap(), b"text\n");
}

#[test]
fn what_is_made_in_a_writable_mount_is_its_owners() {
    let bench = Bench::new("rw");
    let dir = shared(&bench, "dir");
    std::fs::write(bench.path("dir/in"), "in\n").unwrap();
    chown(bench.path("dir/in"), Some(OWNER), Some(OWNER)).unwrap();
    std::fs::set_permissions(bench.path("dir/in"), PermissionsExt::from_mode(0o600)).unwrap();
    let rw = format!("--rw={dir}:/d");
    let script = "cat /d/in; echo out > /d/out; mkdir /d/sub; stat -c %u:%g /d/in /d/out /d/sub";
    let said = good(bench.sh(&[&rw], script));
    assert_eq!(said, "in\n1000:1000\n1000:1000\n1000:1000\n");
    for name in ["dir/out", "dir/sub"] {
        let meta = std::fs::metadata(bench.path(name)).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (OWNER, OWNER), "{name}");
    }
    // Nothing in it can be executed.
    let script = "cp /bin/true /d/true; chmod 755 /d/true; /d/true";
    assert_eq!(bench.sh(&[&rw], script).status.code(), Some(126));
}

#[test]
fn a_directory_of_roots_is_not_shared() {
    let bench = Bench::new("rw-root");
    let rw = format!("--rw={}:/d", bench.dir.path().display());
    let output = bench.sh(&[&rw], "true");
    assert_eq!(output.status.code(), Some(125));
    assert!(err(&output).contains("chown"), "{output:?}");
}

#[test]
fn a_tmpfs_is_bounded_and_ones_own() {
    let bench = Bench::new("tmpfs");
    let script = "head -c 3M /dev/zero > /t/x; stat -c %s /t/x; cp /bin/true /tmp/t; /tmp/t";
    let output = bench.sh(&["--tmpfs=/t:1M"], script);
    assert_eq!(output.stdout, b"1048576\n", "{output:?}");
    assert_eq!(output.status.code(), Some(126), "{output:?}");
}

#[test]
fn links_lead_nowhere_that_others_choose() {
    let bench = Bench::new("links");
    let dir = shared(&bench, "dir");
    symlink("/etc", bench.path("dir/etc")).unwrap();
    // Somebody else's directory: the link in it is not followed.
    let ro = format!("--ro={dir}/etc:/d");
    let output = bench.sh(&[&ro], "true");
    assert_eq!(output.status.code(), Some(125));
    assert!(err(&output).contains("symbolic link"), "{output:?}");
    // Root's own is.
    symlink("/usr/share", bench.path("share")).unwrap();
    let ro = format!("--ro={}:/d", bench.path("share").display());
    assert!(good(bench.sh(&[&ro], "ls /d")).contains("doc"));
    // A mount point on a link inside of a shared directory is none.
    let (rw, tmpfs) = (format!("--rw={dir}:/d"), "--tmpfs=/d/etc");
    let output = bench.sh(&[&rw, tmpfs], "true");
    assert_eq!(output.status.code(), Some(125));
    assert!(err(&output).contains("symbolic link"), "{output:?}");
}

#[test]
fn the_whole_root_can_be_shown() {
    let bench = Bench::new("whole");
    let said = good(bench.sh(
        &["--ro=/"],
        "ls /; test -e /etc/passwd && touch /x 2>&1; ls -A /proc /sys; ls /dev",
    ));
    assert!(said.contains("etc") && said.contains("Read-only"), "{said}");
    assert!(
        !said.contains("self") && !said.contains("kvm") && said.contains("null"),
        "{said}"
    );
}

#[test]
fn proc_shows_the_jails_own() {
    let bench = Bench::new("proc");
    let said = good(bench.sh(
        &["--proc"],
        "ls /proc; cat /proc/self/status; cat /proc/1/environ 2>&1; true",
    ));
    let names: Vec<&str> = said
        .lines()
        .take_while(|line| !line.contains(':'))
        .collect();
    assert!(!names.contains(&"1"), "{names:?}");
    assert!(
        !names.contains(&"sys") && names.contains(&"self"),
        "{names:?}"
    );
    assert!(said.contains("CapBnd:\t0000000000000000"), "{said}");
    assert!(said.contains("No such file"), "{said}");
}

#[test]
fn nothing_of_the_environment_gets_in_but_what_is_asked() {
    let bench = Bench::new("env");
    let output = bench
        .command(&["--env=ASKED=1 2"], &["env"])
        .env("SECRET", "hidden")
        .env("ODD", std::ffi::OsStr::new("x"))
        .output()
        .unwrap();
    let said = good(output);
    let mut names: Vec<&str> = said.lines().collect();
    // What the default policy keeps and sets.
    let policys = ["PATH=", "HOME=/tmp", "LANG=", "LC_ALL=", "TERM=", "TZ="];
    names.retain(|line| !policys.iter().any(|own| line.starts_with(own)));
    assert_eq!(names, ["ASKED=1 2"], "{said}");
}

#[test]
fn fds_that_were_inherited_are_closed() {
    let bench = Bench::new("fds");
    let dir = std::fs::File::open("/").unwrap();
    // SAFETY: a copy without close-on-exec, closed below.
    let leaked = unsafe { libc::dup(std::os::fd::AsRawFd::as_raw_fd(&dir)) };
    let script = format!("ls /proc/self/fd/{leaked}/ 2>&1; ls /proc/self/fd");
    let output = bench.sh(&["--proc"], &script);
    // SAFETY: made above, and nobody else's.
    unsafe { libc::close(leaked) };
    let said = good(output);
    assert!(said.contains("No such file"), "{said}");
}

#[test]
fn networks() {
    let bench = Bench::new("net");
    let script = "cat /proc/self/net/dev | grep -c ' lo:'; ls -l /proc/self/ns/net";
    let link = |said: &str| {
        let at = said.find("net:[").expect("a link");
        said[at..].trim().to_owned()
    };
    let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
    let own = link(&good(bench.sh(&["--proc"], script)));
    assert_ne!(own, ours.to_str().unwrap());
    let host = link(&good(bench.sh(&["--proc", "--net=host"], script)));
    assert_eq!(host, ours.to_str().unwrap());
    let joined = link(&good(
        bench.sh(&["--proc", "--net=netns=/proc/self/ns/net"], script),
    ));
    assert_eq!(joined, ours.to_str().unwrap());
    for bad in ["--net=netns=/etc/passwd", "--net=netns=/nowhere"] {
        let output = bench.sh(&[bad], "true");
        assert_eq!(output.status.code(), Some(125), "{bad}: {output:?}");
        assert!(err(&output).contains("net-namespace"), "{output:?}");
    }
}

#[test]
fn it_runs_where_it_is_told_to() {
    let bench = Bench::new("where");
    assert_eq!(good(bench.sh(&["--workdir=/tmp"], "pwd")), "/tmp\n");
    let output = bench.sh(&["--workdir=/nowhere"], "pwd");
    assert_eq!(output.status.code(), Some(125));
    assert!(err(&output).contains("/nowhere"), "{output:?}");
    assert_eq!(good(bench.sh(&["--cpu-list=0"], "nproc")), "1\n");
    let output = bench.sh(&["--cpu-list=1000"], "true");
    assert_eq!(output.status.code(), Some(125));
}

#[test]
fn user_and_clocks_are_its_own() {
    let bench = Bench::new("own");
    assert_eq!(
        good(bench.sh(&[], "id -u; id -g; id -G; hostname")),
        "1000\n1000\n1000\ncasemate\n"
    );
    let said = good(bench.sh(&["--ro=/", "--proc"], "cat /proc/self/timens_offsets"));
    let offset: i64 = said
        .split_ascii_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    assert!(offset < -60, "{said}");
}
