//! System calls in words.

use casemate_jailer::jail::RefusedCall;
use casemate_policy_compiler::{AUDIT_ARCH_X86_64, Syscall, spoken};
use std::collections::BTreeSet;

/// What threads called that their policy refuses: of calls that differ only in values that
/// have no names, one.
pub fn all_refused(calls: &[RefusedCall]) -> Vec<String> {
    let mut told = BTreeSet::new();
    let new = |call: &&RefusedCall| {
        let named = Syscall::of_number(call.number).map(|known| spoken(known, &call.args));
        told.insert((call.thread.clone(), call.arch, call.number, named))
    };
    calls.iter().filter(new).map(refused).collect()
}

fn refused(call: &RefusedCall) -> String {
    let what = match (call.arch, Syscall::of_number(call.number)) {
        (AUDIT_ARCH_X86_64, Some(known)) if known.args.is_empty() => {
            let args = call.args.map(|value| format!("{value:#x}"));
            format!("{}({})", known.name, args.join(", "))
        }
        (AUDIT_ARCH_X86_64, Some(known)) => {
            let named = spoken(known, &call.args);
            let args = known.args.iter().zip(call.args).map(|(arg, value)| {
                let words = named.iter().find(|(name, _)| *name == arg.name);
                match words {
                    Some((name, words)) => format!("{name} = {words}"),
                    None => format!("{} = {value:#x}", arg.name),
                }
            });
            format!("{}({})", known.name, args.collect::<Vec<_>>().join(", "))
        }
        (AUDIT_ARCH_X86_64, None) => format!("call {:#x}", call.number),
        (arch, _) => format!("call {} of architecture {arch:#x}", call.number),
    };
    format!("{} called {what}, which the policy refuses", call.thread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_calls_that_are_named_alike_one_is_told() {
        let call = |cmd, arg| RefusedCall {
            thread: "sh".to_owned(),
            arch: AUDIT_ARCH_X86_64,
            number: 16,
            args: [2, cmd, arg, 0, 0, 0],
        };
        let calls = [call(0x5412, 1), call(0x5412, 2), call(0x541c, 1)];
        assert_eq!(all_refused(&calls).len(), 2);
    }

    #[test]
    fn arguments_have_their_names() {
        let call = |number, arch, args| {
            refused(&RefusedCall {
                thread: "sh".to_owned(),
                arch,
                number,
                args,
            })
        };
        assert_eq!(
            call(16, AUDIT_ARCH_X86_64, [2, 0x5412, 0, 0, 0, 0]),
            "sh called ioctl(fd = 0x2, cmd = TIOCSTI, arg = 0x0), which the policy refuses"
        );
        assert!(call(101, AUDIT_ARCH_X86_64, [1; 6]).contains("ptrace(0x1, 0x1, "));
        assert!(call(9999, AUDIT_ARCH_X86_64, [0; 6]).contains("call 0x270f"));
        assert!(call(20, 0x4000_0003, [0; 6]).contains("architecture 0x40000003"));
    }
}
