//! seccomp: the VMM's threads install their own filters, each for its work; the jailer only
//! lets no guest run before the kernel shows one on every thread (`Seccomp: 2`).

use super::Observation;
use crate::readback::Seen;

/// SECCOMP_MODE_FILTER.
const FILTER: u32 = 2;

/// Mode and number of filters of every thread.
pub fn read_back(seen: &Seen<'_>) -> Observation {
    let observed = seen
        .of_threads(|thread| match thread.seccomp == FILTER {
            true => Ok(()),
            false => Err(format!("Seccomp {}", thread.seccomp)),
        })
        .map(|()| {
            let names: Vec<&str> = seen.threads().iter().map(|t| t.name.as_str()).collect();
            format!("a filter on every thread: {}", names.join(", "))
        });
    Observation::of("a filter on every thread", observed)
}
