//! Every rule of every shipped policy is asked of its program, as it is meant and with
//! each argument perturbed; and random calls are decided as the rules say.

use casemate_policies::{ThreadClass, digest};
use casemate_policy_compiler::{
    AUDIT_ARCH_X86_64, Action, Call, Compiled, Condition, Role, Rule, Test, Verdict, compile,
    decide,
};
use proptest::prelude::*;
use std::fs;

/// The own fds that the tests bind.
const OWN_DISK: u64 = 17;
const OWN_VCPU: u64 = 33;

fn compiled(class: ThreadClass) -> Compiled {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/vmm");
    let read = |name: &str| fs::read_to_string(format!("{folder}/{name}"));
    let mut compiled = compile(&format!("{class}.toml"), &read).unwrap();
    for hole in &compiled.holes {
        compiled.program[hole.index].k = own(hole.role) as u32;
    }
    compiled
}

fn own(role: Role) -> u64 {
    match role {
        Role::Disk => OWN_DISK,
        Role::Vcpu => OWN_VCPU,
        other => panic!("no policy has its own {}", other.name()),
    }
}

/// A value that passes the test.
fn meant(test: Test) -> u64 {
    match test {
        Test::Equals(value) | Test::Masked { value, .. } => value,
        Test::Range { from, .. } => from,
        Test::Own(role) => own(role),
    }
}

/// Values at the edges of the test: some pass it, some do not.
fn edges(test: Test) -> Vec<u64> {
    match test {
        Test::Equals(value) => vec![value ^ 1, value.wrapping_add(1), value | 1 << 31, !value],
        Test::Masked { mask, value } => (0..64)
            .filter(|bit| mask & (1 << bit) != 0)
            .map(|bit| value ^ (1 << bit))
            .collect(),
        Test::Range { from, to } => vec![from.wrapping_sub(1), from, to, to + 1],
        Test::Own(role) => vec![own(role) - 1, own(role) + 1, 3, u64::MAX],
    }
}

/// What the rules say, read plainly: an errno first, then what is allowed, then death.
fn expected(rules: &[Rule], call: &Call) -> Verdict {
    let passes = |condition: &Condition| {
        let width = if condition.wide {
            u64::MAX
        } else {
            u64::from(u32::MAX)
        };
        let arg = call.args[usize::from(condition.arg)] & width;
        match condition.test {
            Test::Equals(value) => arg == value & width,
            Test::Masked { mask, value } => arg & mask == value,
            Test::Range { from, to } => (from..=to).contains(&arg),
            Test::Own(role) => arg == own(role),
        }
    };
    let matching = || {
        rules
            .iter()
            .filter(|rule| rule.call.number == i64::from(call.number))
            .filter(|rule| rule.conditions.iter().all(passes))
    };
    let errno = matching().find_map(|rule| match rule.action {
        Action::Errno(number) => Some(Verdict::Errno(number)),
        Action::Allow | Action::Kill => None,
    });
    let killed = matching().any(|rule| rule.action == Action::Kill);
    match errno {
        _ if killed => Verdict::KillProcess,
        Some(verdict) => verdict,
        None if matching().next().is_some() => Verdict::Allow,
        None => Verdict::KillProcess,
    }
}

fn call_of(rule: &Rule) -> Call {
    let mut args = [0; 6];
    for condition in &rule.conditions {
        args[usize::from(condition.arg)] = meant(condition.test);
    }
    Call {
        number: rule.call.number as u32,
        arch: AUDIT_ARCH_X86_64,
        args,
    }
}

#[test]
fn every_rule_as_meant_and_with_each_argument_perturbed() {
    for class in ThreadClass::ALL {
        let Compiled { rules, program, .. } = compiled(class);
        let mut denied = 0;
        for rule in &rules {
            let call = call_of(rule);
            let meant = decide(&program, &call);
            assert_eq!(meant, expected(&rules, &call), "{class}: {}", rule.at);
            assert_ne!(meant, Verdict::KillProcess, "{class}: {}", rule.at);
            for condition in &rule.conditions {
                for value in edges(condition.test) {
                    let mut call = call;
                    call.args[usize::from(condition.arg)] = value;
                    let verdict = decide(&program, &call);
                    let what = format!("{class}: {} with {call:x?}", rule.at);
                    assert_eq!(verdict, expected(&rules, &call), "{what}");
                    denied += u32::from(verdict == Verdict::KillProcess);
                }
            }
        }
        assert!(denied > 20, "{class}: only {denied} perturbed calls denied");
    }
}

#[test]
fn setup_allows_all_that_the_threads_may_do() {
    let setup = compiled(ThreadClass::Setup);
    for class in ThreadClass::ALL {
        for rule in &compiled(class).rules {
            let call = call_of(rule);
            let verdict = decide(&setup.program, &call);
            assert_ne!(verdict, Verdict::KillProcess, "{class}: {}", rule.at);
            if rule.action == Action::Allow {
                assert_eq!(verdict, Verdict::Allow, "{class}: {}", rule.at);
            }
        }
    }
}

/// Calls by which code in the VMM could reach the host, or get around its filter.
#[test]
fn no_class_has_any_of_these() {
    for class in ThreadClass::ALL {
        let Compiled { rules, .. } = compiled(class);
        for name in [
            "open",
            "openat",
            "dup2",
            "openat2",
            "open_by_handle_at",
            "creat",
            "execve",
            "execveat",
            "fork",
            "vfork",
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "pidfd_getfd",
            "pidfd_open",
            "kill",
            "tkill",
            "socket",
            "socketpair",
            "connect",
            "bind",
            "accept4",
            "mount",
            "umount2",
            "pivot_root",
            "chroot",
            "unshare",
            "setns",
            "bpf",
            "perf_event_open",
            "io_uring_setup",
            "io_uring_enter",
            "userfaultfd",
            "keyctl",
            "add_key",
            "request_key",
            "init_module",
            "finit_module",
            "kexec_load",
            "setuid",
            "setresuid",
            "capset",
            "pkey_mprotect",
            "memfd_create",
            "remap_file_pages",
            "splice",
            "vmsplice",
            "modify_ldt",
            "arch_prctl",
            "personality",
            "ioperm",
            "iopl",
        ] {
            assert!(
                rules.iter().all(|rule| rule.call.name != name),
                "{class} has {name}"
            );
        }
    }
}

#[test]
fn only_setup_can_make_threads_or_build_a_vm() {
    for class in ThreadClass::ALL
        .into_iter()
        .filter(|class| *class != ThreadClass::Setup)
    {
        for rule in compiled(class).rules {
            let name = rule.call.name;
            assert!(
                !["clone", "prctl", "seccomp", "mprotect", "eventfd2"].contains(&name),
                "{class} has {name}"
            );
            assert!(
                name != "ioctl" || class == ThreadClass::Vcpu,
                "{class} has ioctl"
            );
        }
    }
}

#[test]
fn digests_differ() {
    let all: std::collections::BTreeSet<_> = ThreadClass::ALL.into_iter().map(digest).collect();
    assert_eq!(all.len(), ThreadClass::ALL.len());
}

/// A call near to a rule of the policy: mostly its syscall, mostly values of some rule.
fn near(rules: &[Rule]) -> impl Strategy<Value = Call> + use<> {
    let numbers: Vec<u32> = rules.iter().map(|rule| rule.call.number as u32).collect();
    let values: Vec<u64> = rules
        .iter()
        .flat_map(|rule| &rule.conditions)
        .flat_map(|c| edges(c.test).into_iter().chain([meant(c.test)]))
        .collect();
    let number = prop_oneof![9 => prop::sample::select(numbers), 1 => 0..500u32];
    let value = prop_oneof![8 => prop::sample::select(values), 1 => 0..128u64, 1 => any::<u64>()];
    (number, prop::array::uniform6(value)).prop_map(|(number, args)| Call {
        number,
        arch: AUDIT_ARCH_X86_64,
        args,
    })
}

#[test]
fn random_calls_are_decided_as_the_rules_say() {
    for class in ThreadClass::ALL {
        let Compiled { rules, program, .. } = compiled(class);
        proptest!(ProptestConfig::with_cases(4000), |(call in near(&rules))| {
            prop_assert_eq!(decide(&program, &call), expected(&rules, &call));
        });
    }
}
