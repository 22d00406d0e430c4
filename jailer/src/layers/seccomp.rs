//! seccomp (seccomp(2)): the policy's filter for a plain program, one of our own for its
//! init. A VMM's threads install their own filters, each for its work; the jailer lets no
//! guest run before the kernel shows one on every thread (`Seccomp: 2`).

use super::{Observation, Step, StepError, Who, libc_result};
use crate::child::Jail;
use crate::readback::Seen;
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
/// AUDIT_ARCH_X86_64.
const ARCH: u32 = 0xc000_003e;

/// What an init calls once the program is forked.
pub const INIT: [libc::c_long; 9] = [
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_wait4,
    libc::SYS_kill,
    libc::SYS_close,
    libc::SYS_exit_group,
    libc::SYS_rt_sigreturn,
];

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
    let program: Vec<libc::sock_filter> = filter
        .program
        .iter()
        .map(|i| op(i.code, i.jt, i.jf, i.k))
        .collect();
    install(&program)
        .map_err(|e| StepError::new("installing the seccomp filter", e, "see the policy"))
}

/// Puts the init under its filter: [`INIT`], and everything else kills.
///
/// # Errors
/// The call's own.
pub fn restrict_init() -> io::Result<()> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    // struct seccomp_data: the number at 0, the architecture at 4.
    let mut program = vec![
        op(LOAD, 0, 0, 4),
        op(EQUAL, 1, 0, ARCH),
        op(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        op(LOAD, 0, 0, 0),
    ];
    for (at, call) in INIT.into_iter().enumerate() {
        // Over those that follow, and the kill. x32 numbers equal none.
        program.push(op(EQUAL, (INIT.len() - at) as u8, 0, call as u32));
    }
    program.push(op(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS));
    program.push(op(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    install(&program)
}

const fn op(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

fn install(program: &[libc::sock_filter]) -> io::Result<()> {
    let filter = libc::sock_fprog {
        len: program.len().try_into().map_err(io::Error::other)?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: `program` has as many instructions as `len` says; the kernel copies them and
    // writes nothing.
    libc_result(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inits_calls_are_no_more_than_one_jump_reaches() {
        const { assert!(INIT.len() < u8::MAX as usize) };
        assert!(!INIT.contains(&libc::SYS_openat) && !INIT.contains(&libc::SYS_execve));
    }
}
