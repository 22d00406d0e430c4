//! kill -9 of any process of a jail at any moment, and many of one name.

use crate::{NO_CGROUP, nothing_is_left, ran};
use casemate_tests::proc::Process;
use casemate_tests::rootless::User;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: u32 = 50;
/// Starts of one name.
const RIVALS: usize = 32;

/// A small generator, seeded so that a failure can be repeated: delays from before there is a
/// jail to well into the program's life.
fn delay(round: u32) -> Duration {
    let x = (u64::from(round) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    Duration::from_micros((x >> 40) % 12_000)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Victim {
    Supervisor,
    Init,
    Program,
}

fn start(user: &User) -> Child {
    let options = [NO_CGROUP[0], NO_CGROUP[1], "--id=killed"];
    user.jail(&options, &["sleep", "60"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("casemate starts")
}

fn find(victim: Victim, supervisor: Process) -> Option<Process> {
    let child = |of: Process| of.children().into_iter().next();
    match victim {
        Victim::Supervisor => Some(supervisor),
        Victim::Init => child(supervisor),
        Victim::Program => child(child(supervisor)?),
    }
}

fn rounds(id: u32, victim: Victim) {
    let user = User::new(id);
    for round in 0..ROUNDS {
        let mut jail = start(&user);
        std::thread::sleep(delay(round));
        let deadline = Instant::now() + Duration::from_secs(5);
        let target = loop {
            match find(victim, Process(jail.id() as i32)) {
                Some(target) => break target,
                None => assert!(Instant::now() < deadline, "round {round}: no {victim:?}"),
            }
            std::thread::sleep(Duration::from_micros(200));
        };
        target.kill();
        let status = jail.wait().expect("its end");
        if victim == Victim::Supervisor {
            // Files may be left, for the next start of the id; processes may not.
            let lives = || {
                user.leftovers()
                    .iter()
                    .any(|what| !what.starts_with("file "))
            };
            while lives() {
                assert!(
                    Instant::now() < deadline,
                    "round {round}: {:?}",
                    user.leftovers()
                );
                std::thread::sleep(Duration::from_millis(1));
            }
        } else {
            let code = status.code();
            assert!(matches!(code, Some(125 | 137)), "round {round}: {status}");
            nothing_is_left(&user);
        }
    }
    let options = [NO_CGROUP[0], NO_CGROUP[1], "--id=killed"];
    let output = ran(&mut user.jail(&options, &["true"]));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    nothing_is_left(&user);
}

#[test]
fn of_the_supervisor() {
    rounds(4340, Victim::Supervisor);
}

#[test]
fn of_the_init() {
    rounds(4341, Victim::Init);
}

#[test]
fn of_the_program() {
    rounds(4342, Victim::Program);
}

#[test]
fn of_one_name_exactly_one_starts() {
    let user = User::new(4343);
    let options = [NO_CGROUP[0], NO_CGROUP[1], "--id=rival"];
    let rivals: Vec<Child> = (0..RIVALS)
        .map(|_| {
            user.jail(&options, &["sh", "-c", "sleep 1.5; exit 9"])
                .stderr(Stdio::piped())
                .spawn()
                .expect("casemate starts")
        })
        .collect();
    let mut won = 0;
    for rival in rivals {
        let output = rival.wait_with_output().expect("its end");
        match output.status.code() {
            Some(9) => won += 1,
            _ => {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert_eq!(output.status.code(), Some(125), "{said}");
                assert!(said.contains("is running"), "{said}");
            }
        }
    }
    assert_eq!(won, 1);
    nothing_is_left(&user);
}

#[test]
fn a_hundred_at_once_do_not_meet() {
    let user = User::new(4344);
    let jails: Vec<Child> = (0..100)
        .map(|n| {
            let id = format!("--id=crowd-{n}");
            let options = [NO_CGROUP[0], NO_CGROUP[1], &id];
            user.jail(&options, &["sh", "-c", &format!("sleep 0.5; exit {n}")])
                .spawn()
                .expect("casemate starts")
        })
        .collect();
    for (n, mut jail) in jails.into_iter().enumerate() {
        assert_eq!(jail.wait().expect("its end").code(), Some(n as i32));
    }
    nothing_is_left(&user);
}
