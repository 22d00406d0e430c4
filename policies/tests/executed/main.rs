//! Every rule of every shipped policy in the real kernel: a child installs the filter and
//! makes the call, as it is meant, and then with each argument perturbed. What a rule lets
//! through returns, what none does kills. A rule that no call reaches fails the test.

mod child;
mod policies;

use casemate_policy_compiler::{
    AUDIT_ARCH_X86_64, Action, Call, Condition, Kind, Rule, Syscall, Test, Verdict, decide,
};
use child::{End, make};
use policies::{Policy, own};
use std::collections::BTreeSet;

/// The call of the kernel's own trampoline for probes.
const URETPROBE: u32 = 335;

/// What a child that made an allowed call may end with: the call's return, or whatever
/// it did (a wait that an alarm ended, a jump to a frame that is none).
fn allowed(end: End) -> bool {
    matches!(
        end,
        End::Returned(_) | End::Signal(libc::SIGALRM | libc::SIGSEGV)
    ) || end == End::Exited
}

/// Arguments with which a call does nothing: no fd, no pointer, no length.
fn harmless(call: Syscall) -> [u64; 6] {
    let mut args = [u64::MAX; 6];
    for (arg, known) in args.iter_mut().zip(call.args) {
        *arg = match known.kind {
            Kind::Fd => u64::MAX,
            Kind::Int | Kind::Long | Kind::Ptr => 0,
        };
    }
    match call.name {
        "exit" | "exit_group" | "fork" | "vfork" | "umask" | "alarm" => [0; 6],
        // With -1 it would make one.
        "msgget" => [0x7fff_fffe, 0, 0, 0, 0, 0],
        _ => args,
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

/// Values beside the test: most do not pass it.
fn beside(condition: &Condition) -> Vec<u64> {
    let width = if condition.wide { 64 } else { 32 };
    match condition.test {
        Test::Equals(value) => vec![
            value ^ 1,
            value.wrapping_add(1),
            value | 1 << (width - 1),
            !value,
        ],
        Test::Masked { mask, value } => (0..width)
            .filter(|bit| mask & (1 << bit) != 0)
            .map(|bit| value ^ (1 << bit))
            .collect(),
        Test::Range { from, to } => vec![from.wrapping_sub(1), to + 1, u64::MAX],
        Test::Own(role) => vec![own(role) - 1, own(role) + 1, u64::MAX],
    }
}

fn call_of(rule: &Rule) -> Call {
    let mut args = harmless(rule.call);
    for condition in &rule.conditions {
        args[usize::from(condition.arg)] = meant(condition.test);
    }
    Call {
        number: rule.call.number as u32,
        arch: AUDIT_ARCH_X86_64,
        args,
    }
}

/// Makes the call in the kernel and holds its end against what the program says.
fn hold(policy: &Policy, call: &Call, what: &str) -> Verdict {
    let verdict = decide(&policy.program, call);
    let end = make(&policy.program, call, verdict == Verdict::Allow);
    let right = match verdict {
        Verdict::Allow => allowed(end),
        Verdict::Errno(number) => end == End::Returned(-i64::from(number)),
        // Since Linux 6.14 no filter is asked about it, and whoever makes it dies of SIGILL.
        Verdict::KillProcess if call.number == URETPROBE => {
            matches!(end, End::Signal(libc::SIGSYS | libc::SIGILL))
        }
        Verdict::KillProcess => end == End::Signal(libc::SIGSYS),
        Verdict::Other => false,
    };
    assert!(
        right,
        "{}: {what}: {call:x?}: {verdict:?}, but {end:?}",
        policy.name
    );
    verdict
}

#[test]
fn every_rule_is_executed_and_each_argument_perturbed() {
    for policy in policies::all() {
        let mut reached = BTreeSet::new();
        let mut denied = 0;
        for (index, rule) in policy.rules.iter().enumerate() {
            let call = call_of(rule);
            let verdict = hold(&policy, &call, &format!("{rule} [{}]", rule.at));
            let answer = match rule.action {
                Action::Allow => Verdict::Allow,
                Action::Errno(number) => Verdict::Errno(number),
                Action::Kill => Verdict::KillProcess,
            };
            if verdict == answer {
                reached.insert(index);
            }
            for condition in &rule.conditions {
                for value in beside(condition) {
                    let mut call = call;
                    call.args[usize::from(condition.arg)] = value;
                    // Allowed by another rule: executed as that one.
                    if decide(&policy.program, &call) != Verdict::Allow {
                        hold(&policy, &call, &format!("{rule} perturbed"));
                        denied += 1;
                    }
                }
            }
        }
        let missed: Vec<_> = (0..policy.rules.len())
            .filter(|index| !reached.contains(index))
            .map(|index| format!("{} [{}]", policy.rules[index], policy.rules[index].at))
            .collect();
        assert!(
            missed.is_empty(),
            "{}: no call reaches {missed:#?}",
            policy.name
        );
        println!(
            "{}: {} rules executed, {denied} perturbed calls denied",
            policy.name,
            reached.len()
        );
    }
}

#[test]
fn every_call_that_is_not_named_kills() {
    for policy in policies::all() {
        let named: BTreeSet<i64> = policy.rules.iter().map(|rule| rule.call.number).collect();
        for call in Syscall::all().filter(|call| !named.contains(&call.number)) {
            let call = Call {
                number: call.number as u32,
                arch: AUDIT_ARCH_X86_64,
                args: harmless(call),
            };
            assert_eq!(
                hold(&policy, &call, "not named"),
                Verdict::KillProcess,
                "{}",
                policy.name
            );
        }
        // Calls of kernels to come.
        for number in [470, 511, 1000, 0x4000_0000, 0x4000_0027, u32::MAX] {
            let call = Call {
                number,
                arch: AUDIT_ARCH_X86_64,
                args: [0; 6],
            };
            assert_eq!(
                hold(&policy, &call, "unknown"),
                Verdict::KillProcess,
                "{}",
                policy.name
            );
        }
    }
}

/// What no policy may let through, whatever else it says.
const NEVER: &[&str] = &[
    "unshare",
    "setns",
    "mount",
    "umount2",
    "pivot_root",
    "chroot",
    "open_tree",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    "open_tree_attr",
    "bpf",
    "userfaultfd",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "perf_event_open",
    "kexec_load",
    "kexec_file_load",
    "init_module",
    "finit_module",
    "delete_module",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "process_madvise",
    "process_mrelease",
    "pidfd_getfd",
    "kcmp",
    "keyctl",
    "add_key",
    "request_key",
    "open_by_handle_at",
    "name_to_handle_at",
    "fanotify_init",
    "fanotify_mark",
    "quotactl",
    "quotactl_fd",
    "acct",
    "swapon",
    "swapoff",
    "reboot",
    "syslog",
    "settimeofday",
    "clock_settime",
    "adjtimex",
    "clock_adjtime",
    "sethostname",
    "setdomainname",
    "iopl",
    "ioperm",
    "modify_ldt",
    "vhangup",
    "nfsservctl",
    "lookup_dcookie",
    "setuid",
    "setgid",
    "setresuid",
    "setresgid",
    "setgroups",
    "capset",
    "move_pages",
    "migrate_pages",
    "clone3",
    "openat2",
    "uselib",
    "ustat",
    "sysfs",
    "_sysctl",
];

#[test]
fn what_must_be_out_of_reach_is() {
    for policy in policies::all() {
        for name in NEVER {
            let call = Syscall::find(name).unwrap_or_else(|| panic!("{name}"));
            for args in [harmless(call), [0; 6], [1; 6]] {
                let call = Call {
                    number: call.number as u32,
                    arch: AUDIT_ARCH_X86_64,
                    args,
                };
                assert_ne!(
                    hold(&policy, &call, name),
                    Verdict::Allow,
                    "{}: {name}",
                    policy.name
                );
            }
        }
    }
}

/// Asserts that each of these argument lists of a call is denied.
fn denied(policy: &Policy, name: &str, lists: impl IntoIterator<Item = [u64; 3]>) {
    let number = Syscall::find(name).unwrap().number as u32;
    for [a, b, c] in lists {
        let call = Call {
            number,
            arch: AUDIT_ARCH_X86_64,
            args: [a, b, c, 0, 0, 0],
        };
        assert_ne!(
            hold(policy, &call, name),
            Verdict::Allow,
            "{}: {name}({a:#x}, {b:#x}, {c:#x})",
            policy.name
        );
    }
}

#[test]
fn arguments_that_must_be_out_of_reach_are() {
    const THREAD: u64 = 0x3d_0f00;
    for policy in policies::all() {
        let namespaces = [
            libc::CLONE_NEWNS,
            libc::CLONE_NEWUTS,
            libc::CLONE_NEWIPC,
            libc::CLONE_NEWUSER,
            libc::CLONE_NEWPID,
            libc::CLONE_NEWNET,
            libc::CLONE_NEWCGROUP,
            libc::CLONE_PTRACE,
            libc::CLONE_UNTRACED,
            libc::CLONE_PARENT,
        ]
        .map(|flag| u64::from(flag as u32));
        let base = [0, libc::SIGCHLD as u64, THREAD, libc::CLONE_VM as u64];
        denied(
            &policy,
            "clone",
            namespaces
                .iter()
                .flat_map(|flag| base.map(|base| [flag | base, 0, 0])),
        );
        // The kernel looks at 32 bits of a command: so must the filter.
        let typed = [libc::TIOCSTI, 0x541C, libc::TIOCSETD, libc::TIOCCONS];
        let high = [0, 1 << 32, 0xffff_ffff_0000_0000];
        let lists = typed
            .iter()
            .flat_map(|cmd| high.map(|high| [u64::MAX, cmd | high, 0]));
        denied(&policy, "ioctl", lists);
        // ADDR_NO_RANDOMIZE, READ_IMPLIES_EXEC, PER_LINUX32, the question.
        denied(
            &policy,
            "personality",
            [0x4_0000, 0x40_0000, 8, 0xffff_ffff].map(|p| [p, 0, 0]),
        );
        let named: &[u64] = match policy.name.as_str() {
            "network" => &[1, 2, 10],
            _ => &[],
        };
        let families = (0..48).filter(|family| !named.contains(family));
        denied(&policy, "socket", families.map(|family| [family, 1, 0]));
        denied(
            &policy,
            "socket",
            [[2, 3, 0], [2, 3, 1], [10, 3, 58], [2, 10, 0], [2, 2, 1]],
        );
        denied(
            &policy,
            "prctl",
            [
                libc::PR_SET_MM,
                libc::PR_SET_PTRACER,
                libc::PR_SET_SECCOMP,
                libc::PR_CAP_AMBIENT,
                libc::PR_SET_KEEPCAPS,
                libc::PR_SET_SECUREBITS,
                libc::PR_CAPBSET_DROP,
                libc::PR_SCHED_CORE,
            ]
            .map(|option| [option as u64, 0, 0]),
        );
        denied(&policy, "mmap", [[0, 4096, 8], [0, 4096, 0x100]]);
    }
}
