//! A VMM with one check off (`vmm/src/unless_off.rs`) does not pass: the attack that the
//! check is there for is noticed, by the guest or by the oracle.
//!
//! `cargo nextest run -p casemate-vmm --features mutation mutations`

use super::catalogue::Catalogue;
use super::{AT_ONCE, machine, next};
use std::fmt::Write;
use std::sync::Mutex;
use std::thread;

/// The check that is off, the attack that must be noticed, and how it is.
#[rustfmt::skip] // A line a mutation.
const MUTATIONS: &[(&str, &str, &str)] = &[
    ("queue-size-power-of-two", "queue-size-not-a-power-of-two", "the queue is ready"),
    ("queue-size-offer", "queue-size-above-the-offer", "the queue is ready"),
    ("queue-alignment", "available-misaligned", "the queue is ready"),
    ("queue-inside-memory", "used-over-the-end", "the VMM ended"),
    ("queue-frozen", "queue-size-rewritten-after-activation-cve-2026-5747", "taken away"),
    ("queue-frozen", "queue-before-features-ok", "had an effect"),
    ("features-offered", "features-not-offered", "had an effect"),
    ("features-version-1", "features-without-version-1", "had an effect"),
    ("features-frozen", "features-after-features-ok", "had an effect"),
    ("reset-waits", "notify-after-reset", "had an effect"),
    ("reset-halts", "reset-behind-a-gigabyte", "waits for every request"),
    ("register-width", "registers-read-in-every-width", "the VMM ended"),
    ("bus-end", "acpi-over-its-end", "beyond its end"),
    ("bus-end", "ports-around-devices", "over a device's edge"),
    ("available-jump", "available-index-jumps/entropy", "instead of NeedsReset"),
    ("indirect", "indirect-not-offered/entropy", "instead of NeedsReset"),
    ("chain-length", "descriptors-in-a-ring/entropy", "the VMM grew"),
    ("chain-order", "readable-after-writable/entropy", "instead of NeedsReset"),
    ("chain-4-gib", "lengths-sum-to-more-than-4-gib/block", "the VMM ended"),
    ("broken-queue", "available-index-jumps/block", "spin"),
    ("guard-pages", "status-driver-ok-first", "no guard page"),
    ("disk-end", "write-over-the-end", "instead of IoError"),
    ("disk-end", "write-over-the-end", "another length"),
    ("whole-sectors", "length-not-whole-sectors", "instead of IoError"),
    ("some-data", "read-of-nothing", "instead of IoError"),
    ("most-data", "amplification", "instead of IoError"),
    ("get-id-room", "get-id-one-byte-short", "instead of IoError"),
    ("entropy-bound", "overlapping-descriptors-fc-5762", "more than a request may get"),
    ("vsock-cids", "foreign-source", "it was answered"),
    ("vsock-header", "header-too-short", "another answer"),
    ("vsock-length", "data-beyond-the-chain", "no RST"),
    ("vsock-refusals", "request-flood-without-room", "without bound"),
    ("vsock-open-twice", "port-reused-while-open", "no RST"),
    ("vsock-credit", "data-beyond-credit", "NeedsReset instead of Closed"),
];

#[test]
fn each_is_noticed() {
    let catalogue = Catalogue::read();
    let items = Mutex::new(MUTATIONS.iter());
    let failures = Mutex::new(String::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((mutation, attack, words)) = next(&items) {
                    let outcome = machine::carry_out(&catalogue.one(attack), Some(mutation));
                    println!("{mutation}: {outcome:?}");
                    let noticed = matches!(&outcome, Err(reason) if reason.contains(words));
                    if !noticed {
                        let mut failures = failures.lock().unwrap();
                        let _ = writeln!(failures, "{mutation}, {attack}: {outcome:?}");
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "not noticed as they should be:\n{failures}"
    );
}

#[test]
fn there_are_twenty_checks_and_more() {
    let mut checks: Vec<&str> = MUTATIONS.iter().map(|mutation| mutation.0).collect();
    checks.dedup();
    assert!(checks.len() >= 20, "{}", checks.len());
}
