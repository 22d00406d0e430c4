//! The life of cells.

use crate::support::{Bench, alive, expect_refusal};
use casemate_jailer::client::Jailer;
use casemate_proto::cell::{FromJailer, VmEnd};
use casemate_proto::control::Ended;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

#[test]
fn a_cell_starts_reads_back_whole_and_stops_without_a_trace() {
    let bench = Bench::new("whole");
    let cell = bench.run();
    for report in &cell.confinement {
        assert!(report.holds, "{report:?}");
    }
    assert_eq!(cell.confinement.len(), 22);
    assert!(!bench.cgroups().is_empty());
    let pid = cell.pid;
    cell.jailer.stop().unwrap();
    assert_eq!(cell.ended().0, VmEnd::Stopped);
    assert!(!alive(pid));
    bench.nothing_is_left();
}

#[test]
fn what_the_vmm_says_at_its_end_is_passed_on() {
    for (word, ended) in [
        ("end-reset", Ended::Reset),
        ("end-lingers", Ended::TripleFault),
    ] {
        let bench = Bench::told(word, word);
        assert_eq!(bench.run().ended().0, VmEnd::Itself { ended });
        bench.nothing_is_left();
    }
}

#[test]
fn a_death_without_a_word_is_told_in_words() {
    for (word, how) in [("sigsys", "seccomp"), ("crash", "SIGSEGV")] {
        let bench = Bench::told(word, word);
        match bench.run().ended().0 {
            VmEnd::Died { how: told } => assert!(told.contains(how), "{told}"),
            other => panic!("{other:?}"),
        }
        bench.nothing_is_left();
    }
}

#[test]
fn a_vmm_that_exits_before_it_is_ready_has_died() {
    let bench = Bench::told("early", "exit");
    let (jailer, _ends) = bench.start();
    match jailer.next().unwrap() {
        Some(FromJailer::Ended {
            end: VmEnd::Died { how },
            ..
        }) => assert!(how.contains("status 3"), "{how}"),
        other => panic!("{other:?}"),
    }
    bench.nothing_is_left();
}

#[test]
fn a_vmm_that_breaks_the_protocol_is_killed() {
    for word in ["junk", "fds"] {
        let (layer, message) = Bench::told(word, word).refused();
        assert_eq!(layer, None);
        assert!(message.contains("protocol"), "{message}");
    }
    let bench = Bench::told("twice", "twice");
    match bench.run().ended().0 {
        VmEnd::Itself {
            ended: Ended::Failed { message },
        } => assert!(message.contains("protocol"), "{message}"),
        other => panic!("{other:?}"),
    }
    bench.nothing_is_left();
}

#[test]
fn time_is_up_at_its_time_whether_ready_or_not() {
    for word in ["", "mute"] {
        let mut bench = Bench::told(&format!("timeout{word}"), word);
        bench.launch.timeout_ms = Some(300);
        let begun = Instant::now();
        let (jailer, _ends) = bench.start();
        let end = loop {
            match jailer.next().unwrap().expect("an end") {
                FromJailer::Running { .. } => {}
                FromJailer::Ended { end, .. } => break end,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(end, VmEnd::Timeout);
        let took = begun.elapsed();
        assert!(
            took >= Duration::from_millis(300) && took < Duration::from_secs(2),
            "{took:?}"
        );
        bench.nothing_is_left();
    }
}

#[test]
fn an_id_that_runs_is_refused_at_once_and_free_afterwards() {
    let bench = Bench::new("twin");
    let cell = bench.run();
    let begun = Instant::now();
    let (second, _ends) = bench.start();
    let (layer, message) = expect_refusal(second);
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(layer, None);
    assert!(
        message.contains(bench.launch.id.as_str()) && message.contains("is running"),
        "{message}"
    );
    assert!(alive(cell.pid));
    cell.jailer.stop().unwrap();
    cell.ended();
    let cell = bench.run();
    cell.jailer.stop().unwrap();
    cell.ended();
    bench.nothing_is_left();
}

#[test]
fn of_32_starts_of_one_id_one_wins() {
    let bench = Bench::new("rush");
    let started: Vec<_> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..32).map(|_| scope.spawn(|| bench.start())).collect();
        starts.into_iter().map(|s| s.join().unwrap()).collect()
    });
    let mut winners: Vec<Jailer> = Vec::new();
    for (jailer, _ends) in started {
        match jailer.next().unwrap() {
            Some(FromJailer::Running { .. }) => winners.push(jailer),
            Some(FromJailer::Refused { message, .. }) => {
                assert!(message.contains("is running"), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(winners.len(), 1);
    winners.pop().unwrap().wait().unwrap();
    bench.nothing_is_left();
}

#[test]
fn cells_side_by_side_share_no_user() {
    let mut bench = Bench::new("many");
    let cells: Vec<_> = (0..6)
        .map(|n| {
            bench.launch.id = format!("many-{n}-{}", std::process::id()).parse().unwrap();
            bench.run()
        })
        .collect();
    let users: BTreeSet<String> = cells
        .iter()
        .map(|cell| {
            let status = std::fs::read_to_string(format!("/proc/{}/status", cell.pid)).unwrap();
            let uid = status
                .lines()
                .find(|line| line.starts_with("Uid:"))
                .unwrap();
            uid.to_owned()
        })
        .collect();
    assert_eq!(users.len(), cells.len(), "{users:?}");
    for cell in cells {
        cell.jailer.stop().unwrap();
        cell.ended();
    }
    bench.nothing_is_left();
}

#[test]
fn the_memory_limit_ends_only_the_cell() {
    let bench = Bench::told("memory", "allocate");
    match bench.run().ended().0 {
        VmEnd::Died { how } => assert!(how.contains("memory"), "{how}"),
        other => panic!("{other:?}"),
    }
    bench.nothing_is_left();
}

#[test]
fn usage_is_accounted() {
    let bench = Bench::new("usage");
    let cell = bench.run();
    cell.jailer.stop().unwrap();
    match cell.jailer.next().unwrap() {
        Some(FromJailer::Ended { usage, .. }) => {
            assert!(usage.cpu_user_us + usage.cpu_system_us > 0, "{usage:?}");
            assert!(usage.memory_peak_bytes > 0, "{usage:?}");
            assert!(
                usage.vmm_rss_bytes > 0 && usage.vmm_rss_bytes < 16 << 20,
                "{usage:?}"
            );
        }
        other => panic!("{other:?}"),
    }
}
