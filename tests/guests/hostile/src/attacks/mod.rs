//! The catalogue: all attacks by class, one file a class. To add a device, add its
//! file here, its driver to [`crate::driver`] and to [`crate::bench::Bench`].

mod block;
mod entropy;
mod legacy;
mod ports;
mod queue;
mod setup;
mod smp;
mod transport;
mod vcpu;
mod vsock;

use crate::bench::Bench;
use crate::outcome::Outcome;

/// One attack.
pub struct Attack {
    /// Its name, with that of the published flaw where there is one.
    pub name: &'static str,
    /// What must come of it.
    pub expected: Outcome,
    /// How many vCPUs it needs.
    pub cpus: u8,
    /// What it does, in a line.
    pub what: &'static str,
    /// Does it, and tells what came of it.
    pub run: fn(&mut Bench) -> Outcome,
}

/// An attack from one vCPU.
const fn attack(
    name: &'static str,
    expected: Outcome,
    what: &'static str,
    run: fn(&mut Bench) -> Outcome,
) -> Attack {
    Attack {
        name,
        expected,
        cpus: 1,
        what,
        run,
    }
}

/// An attack that needs more vCPUs.
const fn attack_with(
    cpus: u8,
    name: &'static str,
    expected: Outcome,
    what: &'static str,
    run: fn(&mut Bench) -> Outcome,
) -> Attack {
    Attack {
        name,
        expected,
        cpus,
        what,
        run,
    }
}

/// Every class of attacks.
pub const CLASSES: &[(&str, &[Attack])] = &[
    ("transport", transport::ATTACKS),
    ("setup", setup::ATTACKS),
    ("queue", queue::ATTACKS),
    ("block", block::ATTACKS),
    ("entropy", entropy::ATTACKS),
    ("vsock", vsock::ATTACKS),
    ("legacy", legacy::ATTACKS),
    ("ports", ports::ATTACKS),
    ("vcpu", vcpu::ATTACKS),
    ("smp", smp::ATTACKS),
];

/// A write that must have no effect had none.
fn refused_when(yes: bool) -> Outcome {
    Outcome::refused_if(yes, "it had an effect")
}

/// Something odd that must change nothing changed nothing.
fn ignored_when(yes: bool) -> Outcome {
    Outcome::ignored_if(yes, "it had an effect")
}
