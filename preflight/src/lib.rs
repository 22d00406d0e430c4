//! What this host can and cannot do, as typed checks.
//!
//! `casemate doctor` prints [`everything`]; `casemate run` asks [`for_run`] and
//! refuses with the same words. A check reads `/proc`, `/sys` and `/dev/kvm` and
//! changes nothing; all of them together take a few milliseconds.

mod check;
mod checks;
mod full_kvm;

pub use check::{Check, Preflight, Status};

/// Every check, in the order in which `casemate doctor` prints them.
pub fn everything() -> Preflight {
    let mut checks = vec![
        checks::host::kernel(),
        checks::host::privilege(),
        checks::host::memory(),
    ];
    checks.extend(checks::kvm::all());
    checks.extend([
        checks::namespaces::check(),
        checks::cgroup::check(),
        checks::landlock::check(),
        checks::seccomp::check(),
        checks::cpu::mitigations(),
        checks::cpu::smt(),
        checks::secrets::swap(),
        checks::secrets::ksm(),
    ]);
    Preflight { checks }
}

/// The checks whose failure stops a run, and no others.
pub fn for_run() -> Preflight {
    let mut checks = vec![checks::host::privilege()];
    // Without root the checks below would only fail in ways that mislead.
    if checks[0].status != Status::Fail {
        checks.extend(checks::kvm::all());
        checks.extend([
            checks::namespaces::check(),
            checks::cgroup::check(),
            checks::landlock::check(),
            checks::seccomp::check(),
        ]);
    }
    Preflight { checks }
}

/// The host's memory in bytes (`MemTotal` of proc_meminfo(5)).
pub fn host_memory() -> std::io::Result<u64> {
    checks::host::meminfo("MemTotal")
}
