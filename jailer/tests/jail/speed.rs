//! What a start costs. Prints medians (`--nocapture`); fails only where something waits
//! that must not.

use crate::support::Bench;
use casemate_jailer::clock;
use casemate_proto::cell::FromJailer;

const ROUNDS: usize = 40;
/// Far above what even an emulated host takes, below every wait of ours.
const BOUND_US: u64 = 1_000_000;

#[test]
fn a_start_waits_for_nothing() {
    let bench = Bench::new("speed");
    let mut phases = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        let begun = clock::now_us();
        let (jailer, _ends) = bench.start();
        let Some(FromJailer::Running { times, .. }) = jailer.next().unwrap() else {
            panic!("not running");
        };
        let stopping = clock::now_us();
        jailer.stop().unwrap();
        jailer.next().unwrap();
        let ended = clock::now_us();
        jailer.wait().unwrap();
        let figures = [
            times.jailer_entered - begun,
            times.vmm_entered - times.jailer_entered,
            times.go - times.vmm_ready,
            ended - stopping,
        ];
        for (phase, figure) in phases.iter_mut().zip(figures) {
            phase.push(figure);
        }
    }
    let names = [
        "spawn to the jailer's main",
        "the jailer's main to the VMM's",
        "ready to go (read-back)",
        "stop to all removed",
    ];
    for (name, phase) in names.iter().zip(&mut phases) {
        phase.sort_unstable();
        let median = phase[ROUNDS / 2];
        println!("{name}: {median} µs (least {})", phase[0]);
        assert!(median < BOUND_US, "{name}: {median} µs");
    }
}
