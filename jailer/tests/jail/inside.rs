//! What a VMM finds inside.

use crate::support::Bench;
use std::collections::BTreeMap;

#[test]
fn a_vmm_reaches_nothing_and_gets_nothing_back() {
    let bench = Bench::told("inside", "dump");
    let cell = bench.run();
    // "done" is the last line; stopping before it would cut the list short.
    let mut lines = String::new();
    let mut log = std::io::BufReader::new(cell.ends.log.try_clone().unwrap());
    while !lines.contains("\ndone ") {
        let read = std::io::BufRead::read_line(&mut log, &mut lines).unwrap();
        assert_ne!(read, 0, "{lines}");
    }
    cell.jailer.stop().unwrap();
    cell.ended();
    let found: BTreeMap<&str, &str> = lines
        .lines()
        .filter_map(|line| line.split_once(' '))
        .collect();
    let errno = |e: i32| format!("errno {e}");
    let wanted = [
        ("root", errno(libc::EACCES)),
        ("shadow", errno(libc::ENOENT)),
        ("proc", errno(libc::ENOENT)),
        ("pid", "1".to_owned()),
        ("session", "1".to_owned()),
        ("umask", 0o77.to_string()),
        // In a user namespace that has no 0.
        ("setuid", errno(libc::EINVAL)),
        ("parent-death", libc::SIGKILL.to_string()),
        ("hostname", "casemate".to_owned()),
        ("blocked-signals", "0".to_owned()),
        // NO_ROOT, NO_SETUID_FIXUP, NO_CAP_AMBIENT_RAISE, and all four locks.
        ("securebits", 0b1110_1111.to_string()),
        (
            "console-flags",
            (libc::O_WRONLY | libc::O_NONBLOCK).to_string(),
        ),
    ];
    for (name, value) in wanted {
        assert_eq!(found.get(name), Some(&value.as_str()), "{name} in {lines}");
    }
    assert!(found["write"].starts_with("errno"), "{lines}");
    // Landlock's answer from ABI 4 on; before that, the empty network namespace's.
    let unreachable = [errno(libc::EACCES), errno(libc::ENETUNREACH)];
    assert!(unreachable.iter().any(|e| e == found["connect"]), "{lines}");
    // SAFETY: asks for an id; no memory is passed.
    let ours = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_GET_KEYRING_ID, -3, 0) };
    assert_ne!(found["session-keyring"], ours.to_string());
}

#[test]
fn forks_end_at_the_limit() {
    let bench = Bench::told("forks", "fork");
    let cell = bench.run();
    let mut line = String::new();
    let mut log = std::io::BufReader::new(cell.ends.log.try_clone().unwrap());
    std::io::BufRead::read_line(&mut log, &mut line).unwrap();
    let made: u32 = line.trim().strip_prefix("forks ").unwrap().parse().unwrap();
    assert!(made < bench.launch.limits.pids, "{made}");
    cell.jailer.stop().unwrap();
    cell.ended();
    bench.nothing_is_left();
}
