//! `casemate policy compile`: what a policy comes to.

use super::{PolicyError, load, print, short};
use casemate_policy_compiler::AnyPolicy;
use casemate_proto::status::OWN_FAILURE;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

/// Compiles, writes, tells.
pub fn run(policy: &OsStr, out: Option<&Path>, json: bool) -> Result<ExitCode, PolicyError> {
    let name = short(policy);
    let compiled = load::any(policy)?;
    if let Some(path) = out {
        let program = program(&name, &compiled)?;
        fs::write(path, program).map_err(|error| PolicyError::Write {
            path: path.to_owned(),
            error,
        })?;
    }
    match (json, &compiled) {
        (true, AnyPolicy::Whole(whole)) => {
            let text = serde_json::to_string_pretty(&whole.policy).expect("plain data");
            print(&format!("{text}\n"))?;
        }
        (true, AnyPolicy::Rules(_)) => {
            crate::say::line(format!(
                "{name} has rules alone: --json is for whole policies"
            ));
            return Ok(ExitCode::from(OWN_FAILURE));
        }
        (false, _) => print(&counts(&name, &compiled))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The program as the kernel takes it: an array of `struct sock_filter`.
fn program(name: &str, compiled: &AnyPolicy) -> Result<Vec<u8>, PolicyError> {
    let bytes = |code: u16, jt: u8, jf: u8, k: u32| {
        let [c0, c1] = code.to_ne_bytes();
        let [k0, k1, k2, k3] = k.to_ne_bytes();
        [c0, c1, jt, jf, k0, k1, k2, k3]
    };
    match compiled {
        AnyPolicy::Rules(rules) if !rules.holes.is_empty() => {
            Err(PolicyError::Unbound(name.to_owned()))
        }
        AnyPolicy::Rules(rules) => Ok(rules
            .program
            .iter()
            .flat_map(|i| bytes(i.code, i.jt, i.jf, i.k))
            .collect()),
        AnyPolicy::Whole(whole) => match &whole.policy.seccomp {
            None => Err(PolicyError::NoProgram(name.to_owned())),
            Some(filter) => Ok(filter
                .program
                .iter()
                .flat_map(|i| bytes(i.code, i.jt, i.jf, i.k))
                .collect()),
        },
    }
}

fn counts(name: &str, compiled: &AnyPolicy) -> String {
    let line = |name: &str, rules: usize, instructions: usize| {
        format!("{name}: {rules} rules, {instructions} of 4096 BPF instructions\n")
    };
    let mut text = String::new();
    match compiled {
        AnyPolicy::Rules(rules) => text += &line(name, rules.rules.len(), rules.program.len()),
        AnyPolicy::Whole(whole) => {
            if let Some(filter) = &whole.policy.seccomp {
                text += &line(name, whole.rules.len(), filter.program.len());
            }
            for (thread, rules) in &whole.threads {
                let thread = format!("{name}, thread class {thread}");
                text += &line(&thread, rules.rules.len(), rules.program.len());
            }
            _ = writeln!(text, "digest {}", whole.policy.digest);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_written_as_the_kernel_takes_it() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("default.bpf");
        run(OsStr::new("default"), Some(&out), false).unwrap();
        let written = fs::read(out).unwrap();
        let filter = casemate_policies::jail("default")
            .unwrap()
            .seccomp
            .as_ref()
            .unwrap();
        assert_eq!(written.len(), 8 * filter.program.len());
        // The first instruction loads the architecture.
        assert_eq!(written[..8], [0x20, 0, 0, 0, 4, 0, 0, 0]);
        let vcpu = run(OsStr::new("vcpu"), Some(&folder.path().join("x")), false);
        assert!(matches!(vcpu, Err(PolicyError::Unbound(_))));
        let cell = run(OsStr::new("cell"), Some(&folder.path().join("x")), false);
        assert!(matches!(cell, Err(PolicyError::NoProgram(_))));
    }

    #[test]
    fn the_same_policy_comes_from_the_build_and_from_here() {
        for name in casemate_policies::JAIL_NAMES {
            let AnyPolicy::Whole(whole) = load::any(OsStr::new(name)).unwrap() else {
                panic!("{name} is whole");
            };
            assert_eq!(&whole.policy, casemate_policies::jail(name).unwrap());
        }
    }
}
