//! seccomp (seccomp(2)): the policy's filter for a plain program, one of our own for its
//! init. A VMM's threads install their own filters, each for its work; the jailer lets no
//! guest run before the kernel shows one on every thread (`Seccomp: 2`).

use super::{Observation, Step, StepError, Who, libc_result};
use crate::child::Jail;
use crate::readback::Seen;
use casemate_policies::report;
use casemate_policy::Filter;
use casemate_proto::cell::Layer;
use std::io;

/// The step; last but the wait, since the filter need allow no set-up.
pub const STEP: Step = Step {
    name: "seccomp",
    who: &[Who::Program],
    layer: Some(Layer::Seccomp),
    apply,
};

/// SECCOMP_MODE_FILTER.
const FILTER: u32 = 2;
fn apply(jail: &mut Jail<'_>) -> Result<(), StepError> {
    let Some(filter) = &jail.plan.policy.seccomp else {
        return Err(StepError::new(
            "installing the seccomp filter",
            format!(
                "the policy {} has none for a plain program",
                jail.plan.policy.name
            ),
            "choose a policy for jails",
        ));
    };
    install(filter)
        .map_err(|e| StepError::new("installing the seccomp filter", e, "see the policy"))
}

/// Puts the init under its filter, `policies/jail/init.toml`. Takes no memory.
///
/// # Errors
/// The call's own.
pub fn restrict_init() -> io::Result<()> {
    install(casemate_policies::jail_init())
}

fn install(filter: &Filter) -> io::Result<()> {
    // One that asks instead of killing: whom it asks is an fd that closes with the exec, and
    // that the supervisor takes a copy of before.
    let flags = match report::asks(filter) {
        true => libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
        false => 0,
    };
    let filter = libc::sock_fprog {
        len: filter.program.len().try_into().map_err(io::Error::other)?,
        // `Instruction` has the layout of `struct sock_filter`.
        filter: filter
            .program
            .as_ptr()
            .cast::<libc::sock_filter>()
            .cast_mut(),
    };
    // SAFETY: the program has as many instructions as `len` says; the kernel copies them and
    // writes nothing.
    libc_result(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const filter,
        )
    })
    .map(drop)
}

/// Mode of every thread and, of a plain program, the number of its filters and its init's.
pub fn read_back(seen: &Seen<'_>) -> Observation {
    let Some(program) = seen.plan.program() else {
        let observed = seen
            .of_threads(|thread| match thread.seccomp == FILTER {
                true => Ok(()),
                false => Err(format!("Seccomp {}", thread.seccomp)),
            })
            .map(|()| {
                let names: Vec<&str> = seen.threads().iter().map(|t| t.name.as_str()).collect();
                format!("a filter on every thread: {}", names.join(", "))
            });
        return Observation::of("a filter on every thread", observed);
    };
    let wanted = program.outer_filters + 1;
    let declared = format!("the policy's filter, and one on the init ({wanted} in all on each)");
    let observed = seen
        .of_all(|thread| {
            let enough = thread.seccomp == FILTER && thread.seccomp_filters >= wanted;
            match enough {
                true => Ok(()),
                false => Err(format!(
                    "Seccomp {}, {} filters",
                    thread.seccomp, thread.seccomp_filters
                )),
            }
        })
        .map(|()| declared.clone());
    Observation::of(declared, observed)
}
