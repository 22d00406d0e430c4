//! Policy files, which operators and later tenants write: no text may panic the
//! compiler, and what compiles must kill what it does not name.
#![no_main]

use casemate_policy_compiler::{
    AUDIT_ARCH_I386, AUDIT_ARCH_X86_64, Call, Verdict, compile, decide,
};
use libfuzzer_sys::fuzz_target;

/// A system call that no policy can name.
const NO_SYSCALL: u32 = 4000;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let reader = |name: &str| {
        if name == "fuzz.toml" {
            Ok(text.to_owned())
        } else {
            Err(std::io::Error::from(std::io::ErrorKind::NotFound))
        }
    };
    let Ok(compiled) = compile("fuzz.toml", &reader) else {
        return;
    };
    assert!(!compiled.program.is_empty() && compiled.program.len() <= 4096);
    for arch in [AUDIT_ARCH_X86_64, AUDIT_ARCH_I386] {
        let call = Call {
            arch,
            number: NO_SYSCALL,
            args: [0; 6],
        };
        assert_eq!(decide(&compiled.program, &call), Verdict::KillProcess);
    }
});
