//! The hostile guest (`tests/guests/hostile`): a catalogue of attacks, carried out on
//! this machine's own KVM against a whole VMM. Inside, the guest sees that what comes
//! of each is what was expected, and that all devices work afterwards; outside, the
//! oracle sees that the guest alone suffers.
//!
//! | file | holds |
//! |---|---|
//! | `catalogue.rs` | the guest's own list of attacks, in batches for one VM each |
//! | `machine.rs` | a VM with every device, and one batch of attacks on it |
//! | `oracle.rs` | what must hold for the VMM, measured from `/proc` |
//! | `host.rs` | the far ends of the guest's connections |
//! | `mutations.rs` | attacks that are seen to fail against a VMM with one check off |

mod catalogue;
mod host;
mod machine;
#[cfg(feature = "mutation")]
mod mutations;
mod oracle;

use catalogue::Catalogue;
use std::fmt::Write;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

/// How many VMs are under attack at a time: most of them wait, or watch.
const AT_ONCE: usize = 4;

/// Carries out all attacks of a class.
fn class(name: &str) {
    let batches = Mutex::new(Catalogue::read().batches(name).into_iter());
    let failures = Mutex::new(String::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(batch) = next(&batches) {
                    if let Err(failure) = machine::carry_out(&batch, None) {
                        let _ = writeln!(failures.lock().unwrap(), "{failure}");
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "\n{failures}");
}

fn next<T>(items: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    items.lock().unwrap().next()
}

#[test]
fn transport() {
    class("transport");
}

#[test]
fn setup() {
    class("setup");
}

#[test]
fn queue() {
    class("queue");
}

#[test]
fn block() {
    class("block");
}

#[test]
fn entropy() {
    class("entropy");
}

#[test]
fn vsock() {
    class("vsock");
}

#[test]
fn legacy() {
    class("legacy");
}

#[test]
fn ports() {
    class("ports");
}

#[test]
fn vcpu() {
    class("vcpu");
}

#[test]
fn smp() {
    class("smp");
}

/// The list that a reader sees is the guest's own. `CASEMATE_BLESS=1` writes it anew.
#[test]
fn the_catalogue_is_written_down() {
    let text = Catalogue::read().to_markdown();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests/attacks.md");
    if std::env::var_os("CASEMATE_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(
        written == text,
        "tests/guests/attacks.md is not the guest's list: run this test with CASEMATE_BLESS=1"
    );
}

#[test]
fn the_catalogue_is_large_and_knows_the_published_flaws() {
    let catalogue = Catalogue::read();
    let names: Vec<&str> = catalogue.attacks.iter().map(|a| a.name.as_str()).collect();
    assert!(names.len() >= 150, "{} attacks", names.len());
    let mut once = names.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), names.len(), "a name is there twice");
    for flaw in [
        "cve-2026-5747",
        "cve-2026-45782",
        "cve-2020-27174",
        "cve-2019-18960",
        "fc-5762",
        "fc-5818",
        "queue-select-out-of-range-cloud-hypervisor",
        "fetched-twice-cloud-hypervisor",
        "not-negotiated-cloud-hypervisor",
    ] {
        assert!(names.iter().any(|name| name.contains(flaw)), "{flaw}");
    }
}
