//! The supervisor's own process: signals taken, rights given up.

use crate::layers::capabilities::keep_in_bounding_set;
use crate::refusal::Refusal;
use crate::rights::Rights;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, geteuid, getrlimit, set_dumpable_behavior, setrlimit,
    setsid,
};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};

/// What the supervisor needs from the exec of the VMM on: to kill a process of another
/// user, to read that process' `/proc`, and to remove cgroups: the root of a v1 hierarchy
/// has mode 0555.
const KEEP: CapabilitySet = CapabilitySet::KILL
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::DAC_OVERRIDE);

/// As [`block_signals`], and leaves the terminal, too.
///
/// # Errors
/// The calls' own.
pub fn take_signals() -> Result<SignalFd, Refusal> {
    // Fails where we lead a process group already; the signals are blocked all the same.
    let _ = setsid();
    block_signals()
}

/// Blocks the signals that ask a process to end, and returns the fd that tells of them:
/// none of them may end the supervisor before it has cleaned up.
///
/// # Errors
/// The calls' own.
pub fn block_signals() -> Result<SignalFd, Refusal> {
    let mut mask = SigSet::empty();
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        mask.add(signal);
    }
    mask.thread_block()
        .and_then(|()| SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC))
        .map_err(|e| Refusal::new(format!("cannot take signals: {e}; report this")))
}

/// How many seccomp filters this process is under; all its children are.
pub fn filters() -> u32 {
    crate::read::text("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("Seccomp_filters:"))?;
            line.trim().parse().ok()
        })
        .unwrap_or(0)
}

/// This process' environment, as exec takes it: what a child has that leaves that layer out.
pub fn environment() -> *const *const libc::c_char {
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    // SAFETY: libc's own variable, which this program never changes.
    unsafe { environ }
}

/// # Errors
/// Where this process is not root.
pub fn must_be_root() -> Result<(), Refusal> {
    let uid = geteuid();
    match uid.is_root() {
        true => Ok(()),
        false => Err(Refusal::new(format!(
            "the jailer runs as uid {}, and only root can build a VM's jail: run casemate with sudo",
            uid.as_raw()
        ))),
    }
}

/// Gives up all but [`KEEP`], and all where it is an ordinary user's. After the clone: the
/// child needs the rest.
///
/// # Errors
/// The calls' own.
pub fn drop_rights(rights: &Rights) -> Result<(), Refusal> {
    let failed = |e: &dyn std::fmt::Display| {
        Refusal::new(format!(
            "the supervisor cannot give up its rights: {e}; report this"
        ))
    };
    let keep = match rights {
        Rights::Root => {
            keep_in_bounding_set(KEEP).map_err(|e| failed(&e))?;
            KEEP
        }
        // The bounding set is not its to lower, nor of use to it under no_new_privs. Its
        // power over the jail is that of the owner of a user namespace.
        Rights::User(_) => CapabilitySet::empty(),
    };
    let keep = CapabilitySets {
        effective: keep,
        permitted: keep,
        inheritable: CapabilitySet::empty(),
    };
    // An ordinary user cannot raise a hard limit.
    let core = getrlimit(Resource::Core)
        .maximum
        .map_or(1, |hard| hard.min(1));
    let no_core = Rlimit {
        current: Some(core),
        maximum: Some(core),
    };
    set_capabilities(None, keep)
        .and_then(|()| set_no_new_privs(true))
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable))
        .and_then(|()| setrlimit(Resource::Core, no_core))
        .map_err(|e| failed(&e))
}
