//! The policy language and its compiler to BPF.
//!
//! A policy is a TOML file that says what one class of threads may ask of the
//! kernel, and why; `policies/README.md` is the language's reference. [`compile`]
//! turns it into one seccomp program that kills the process on any other call.

mod bpf;
mod condition;
mod constants;
mod file;
mod kvm;
mod policy;
mod roles;
mod signatures;
mod simulate;
mod source;
mod syscalls;

pub use bpf::Hole;
pub use condition::{Condition, Test};
pub use policy::{Action, Reader, Rule};
pub use roles::Role;
pub use seccompiler::sock_filter;
pub use simulate::{AUDIT_ARCH_I386, AUDIT_ARCH_X86_64, Call, Verdict, decide};
pub use source::{Error, Location, Problem};
pub use syscalls::{Arg, Kind, Syscall};

/// A compiled policy.
#[derive(Debug)]
pub struct Compiled {
    /// Its rules, includes and alternatives expanded.
    pub rules: Vec<Rule>,
    /// The BPF program, at most 4096 instructions.
    pub program: Vec<sock_filter>,
    /// Where the numbers of the thread's own fds go.
    pub holes: Vec<Hole>,
}

/// Compiles the policy `name`; `read` gives the text of it and of what it includes.
///
/// # Errors
/// The first thing that is wrong, with file and line.
pub fn compile(name: &str, read: &Reader) -> Result<Compiled, Error> {
    let rules = policy::load(name, read)?;
    let (program, holes) = bpf::assemble(&rules).map_err(|problem| {
        problem.at(Location {
            file: name.into(),
            line: 1,
        })
    })?;
    Ok(Compiled {
        rules,
        program,
        holes,
    })
}
