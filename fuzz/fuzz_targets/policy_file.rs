//! Policy files, which operators and tenants write: no text may panic the compiler, what
//! compiles must kill what it does not name, and what has a base must allow no more than it.
#![no_main]

use casemate_policy_compiler::{
    AUDIT_ARCH_I386, AUDIT_ARCH_X86_64, AnyPolicy, Call, CompiledPolicy, Readers, Verdict,
    compile_any, compile_policy, decide, sock_filter,
};
use libfuzzer_sys::fuzz_target;
use std::io::{Error, ErrorKind};

/// A system call that no policy can name.
const NO_SYSCALL: u32 = 4000;

/// The policy that a fuzzed one may have as its base.
const BASE: &str = r#"
[[rule]]
syscall = ["read", "write", "exit_group"]
why = "w"
[[rule]]
syscall = "ioctl"
args = { cmd = ["TCGETS", "FIONREAD"] }
why = "w"
[[rule]]
syscall = "mprotect"
args = { prot = { only = "PROT_READ|PROT_WRITE" } }
why = "w"
[[rule]]
syscall = "clone3"
errno = "ENOSYS"
why = "w"
[[mount]]
ro = "/usr"
why = "w"
[[mount]]
tmpfs = "/tmp"
size = "1M"
why = "w"
[rlimits]
nofile = 64
why = "w"
[cgroup]
memory = "64M"
pids = 8
why = "w"
"#;

fn program(policy: &CompiledPolicy) -> Vec<sock_filter> {
    let filter = policy.policy.seccomp.as_ref();
    let instructions = filter.map_or(&[][..], |filter| &filter.program);
    let of = |i: &casemate_policy::Instruction| sock_filter {
        code: i.code,
        jt: i.jt,
        jf: i.jf,
        k: i.k,
    };
    instructions.iter().map(of).collect()
}

/// What every program must do.
fn kills(program: &[sock_filter]) {
    assert!(!program.is_empty() && program.len() <= 4096);
    for arch in [AUDIT_ARCH_X86_64, AUDIT_ARCH_I386] {
        let call = Call {
            arch,
            number: NO_SYSCALL,
            args: [0; 6],
        };
        assert_eq!(decide(program, &call), Verdict::KillProcess);
    }
}

/// What every policy with [`BASE`] must keep to.
fn narrower(policy: &CompiledPolicy, base: &CompiledPolicy) {
    let (narrow, wide) = (program(policy), program(base));
    for number in 0..470 {
        for value in [0, 1, 2, 3, 4, 7, 0x5401, 0x541b, 0x541c, u64::MAX] {
            let call = Call {
                arch: AUDIT_ARCH_X86_64,
                number,
                args: [value; 6],
            };
            let allowed = decide(&narrow, &call) == Verdict::Allow;
            assert!(!allowed || decide(&wide, &call) == Verdict::Allow, "{call:?}");
        }
    }
    let (policy, base) = (&policy.policy, &base.policy);
    assert!(policy.cgroup.memory_bytes <= base.cgroup.memory_bytes);
    assert!(policy.cgroup.pids.is_some_and(|pids| pids <= 8));
    assert_eq!(policy.cgroup.swap_bytes, Some(0));
    assert!(policy.filesystem.mounts.len() <= 2 && !policy.filesystem.dev);
    assert_eq!(policy.network, base.network);
    assert_eq!(policy.namespaces, base.namespaces);
    assert_eq!(policy.capabilities, base.capabilities);
    assert!(policy.keep_fds.is_empty() && policy.environment.keep.is_empty());
    assert!(policy.landlock.bind_tcp.is_empty() && !policy.landlock.connect_any);
    for limit in base.rlimits.iter() {
        let same = |l: &&casemate_policy::RlimitValue| l.resource == limit.resource;
        let narrowed = policy.rlimits.iter().find(same).expect("kept");
        assert!(narrowed.value <= limit.value);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let folder = |name: &str| match name {
        "fuzz.toml" => Ok(text.to_owned()),
        _ => Err(Error::from(ErrorKind::NotFound)),
    };
    let shipped = |name: &str| match name {
        "base.toml" => Ok(BASE.to_owned()),
        _ => Err(Error::from(ErrorKind::NotFound)),
    };
    let readers = Readers {
        folder: &folder,
        shipped: &shipped,
    };
    match compile_any("fuzz.toml", readers) {
        Err(error) => assert!(error.to_string().contains(':')),
        Ok(AnyPolicy::Rules(rules)) => kills(&rules.program),
        Ok(AnyPolicy::Whole(policy)) => {
            if policy.policy.seccomp.is_some() {
                kills(&program(&policy));
            }
            if policy.bases.iter().any(|base| base == "base") {
                let readers = Readers {
                    folder: &shipped,
                    shipped: &shipped,
                };
                let base = compile_policy("base.toml", readers).expect("the base is sound");
                narrower(&policy, &base);
            }
        }
    }
});
