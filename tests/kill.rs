//! kill -9 of any process of a run, at any moment, leaves nothing: or the next
//! run of the same id clears it.

use casemate_tests::proc::Process;
use casemate_tests::{cell, leftovers};
use std::time::{Duration, Instant};

const ROUNDS: u32 = 50;

/// A small generator, seeded so that a failure can be repeated: delays from
/// before the jailer exists to well into the guest's life.
fn delay(round: u32) -> Duration {
    let x = (u64::from(round) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    Duration::from_micros((x >> 40) % 60_000)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Victim {
    Vmm,
    Supervisor,
    Cli,
}

fn find(victim: Victim, cli: Process) -> Option<Process> {
    let supervisor = || {
        cli.children()
            .into_iter()
            .find(|p| p.name().starts_with("casemate-jail"))
    };
    match victim {
        Victim::Cli => Some(cli),
        Victim::Supervisor => supervisor(),
        Victim::Vmm => supervisor()?.children().into_iter().next(),
    }
}

fn rounds(victim: Victim) {
    let run_dir = cell::run_folder();
    let mut hits = 0;
    for round in 0..ROUNDS {
        let mut guest = cell::spawn(cell::Mode::Idle, run_dir.path(), "killed", &[]);
        std::thread::sleep(delay(round));
        let deadline = Instant::now() + Duration::from_secs(5);
        let target = loop {
            match find(victim, guest.cli()) {
                Some(target) => break Some(target),
                None if Instant::now() > deadline || !guest.cli().alive() => break None,
                None => std::thread::sleep(Duration::from_micros(200)),
            }
        };
        if let Some(target) = target {
            target.kill();
            hits += 1;
        }
        if victim == Victim::Cli {
            guest.reap();
        } else {
            let status = guest.wait(Duration::from_secs(10));
            assert!(
                matches!(status, 123 | 125),
                "round {round}: status {status}"
            );
        }
        settle(run_dir.path(), victim, round);
    }
    assert!(hits >= ROUNDS * 9 / 10, "only {hits} kills hit");
    // The same id starts again, whatever the last kill left.
    let guest = cell::start_in(cell::Mode::Idle, run_dir.path(), "killed", &[]);
    guest.stop_in_place();
    assert_eq!(leftovers::all(run_dir.path()), Vec::<String>::new());
}

/// Waits until nothing is left. Only where the supervisor itself was killed may
/// files and cgroups remain, and then no process.
fn settle(run_dir: &std::path::Path, victim: Victim, round: u32) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let mut left = leftovers::all(run_dir);
        if victim == Victim::Supervisor {
            left.retain(|what| what.starts_with("process") || what.starts_with("mount"));
        }
        if left.is_empty() {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "round {round}: {victim:?} killed, left: {left:?}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn of_the_vmm() {
    rounds(Victim::Vmm);
}

#[test]
fn of_the_supervisor() {
    rounds(Victim::Supervisor);
}

#[test]
fn of_the_cli() {
    rounds(Victim::Cli);
}
