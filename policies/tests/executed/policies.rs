//! The shipped policies, compiled, with the own fds of their threads bound.

use casemate_policy_compiler::{AnyPolicy, Readers, Role, Rule, compile_any, sock_filter};
use std::fs;

/// One policy.
pub struct Policy {
    pub name: String,
    pub rules: Vec<Rule>,
    pub program: Vec<sock_filter>,
}

/// The fd that a thread is bound to.
pub fn own(role: Role) -> u64 {
    match role {
        Role::Disk => 17,
        Role::Vcpu => 33,
        other => panic!("no policy has its own {}", other.name()),
    }
}

/// Those of the VMM's thread classes, of jails, and of the jail's init.
pub fn all() -> Vec<Policy> {
    let threads = ["setup", "main", "vcpu", "block", "vsock", "entropy"];
    let jail = ["strict", "default", "network", "init"];
    let of = |folder: &'static str, names: &[&str]| -> Vec<Policy> {
        names.iter().map(|name| policy(folder, name)).collect()
    };
    let mut all = of("vmm", &threads);
    all.extend(of("jail", &jail));
    all
}

fn policy(folder: &str, name: &str) -> Policy {
    let folder = format!("{}/{folder}", env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| fs::read_to_string(format!("{folder}/{file}"));
    let readers = Readers {
        folder: &read,
        shipped: &read,
    };
    let (rules, program) = match compile_any(&format!("{name}.toml"), readers).unwrap() {
        AnyPolicy::Rules(mut compiled) => {
            for hole in &compiled.holes {
                compiled.program[hole.index].k = own(hole.role) as u32;
            }
            (compiled.rules, compiled.program)
        }
        AnyPolicy::Whole(whole) => {
            let filter = whole.policy.seccomp.as_ref().unwrap();
            let instructions = filter.program.iter().map(|i| sock_filter {
                code: i.code,
                jt: i.jt,
                jf: i.jf,
                k: i.k,
            });
            (whole.rules, instructions.collect())
        }
    };
    Policy {
        name: name.to_owned(),
        rules,
        program,
    }
}
