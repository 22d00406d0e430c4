//! The policy language and its compiler to BPF.
//!
//! A policy is a TOML file that says what one class of threads may ask of the kernel
//! ([`compile`]), or all that one jail is held to ([`compile_policy`]), and why;
//! `policies/README.md` is the language's reference. Its seccomp program kills the process
//! on any call that no rule names.

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
mod values;
mod whole;

pub use bpf::Hole;
pub use condition::{Condition, Test};
pub use constants::errno_name;
pub use policy::{Action, Reader, Rule};
pub use roles::Role;
pub use seccompiler::sock_filter;
pub use simulate::{AUDIT_ARCH_I386, AUDIT_ARCH_X86_64, Call, Verdict, decide};
pub use source::{Error, Location, Problem};
pub use syscalls::{Arg, Kind, Syscall};
pub use values::spoken;
pub use whole::{AnyPolicy, CompiledPolicy, Readers, Why, compile_any, compile_policy};

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
    let at = Location {
        file: name.into(),
        line: 1,
    };
    compile_asked(name, &at, read)
}

/// As [`compile`], for the policy whose name stands at `asked_at`.
fn compile_asked(name: &str, asked_at: &Location, read: &Reader) -> Result<Compiled, Error> {
    let rules = policy::load(name, asked_at, read)?;
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
