//! From the value of an argument back to the words of the language, as far as it has some:
//! for reports, and for policies proposed from what was seen.

use crate::constants;
use crate::syscalls::{Kind, Syscall};

/// How the constants of an argument are called.
struct Family {
    call: &'static str,
    arg: &'static str,
    /// What their names begin with.
    prefixes: &'static [&'static str],
    /// Whether they are bits that are joined.
    bits: bool,
}

const fn one(call: &'static str, arg: &'static str, prefixes: &'static [&'static str]) -> Family {
    Family {
        call,
        arg,
        prefixes,
        bits: false,
    }
}

const fn bits(call: &'static str, arg: &'static str, prefixes: &'static [&'static str]) -> Family {
    Family {
        call,
        arg,
        prefixes,
        bits: true,
    }
}

static FAMILIES: &[Family] = &[
    one(
        "ioctl",
        "cmd",
        &[
            "TC", "TIOC", "FIO", "FICLONE", "FIDEDUPE", "FS_IOC_", "KVM_",
        ],
    ),
    one("fcntl", "cmd", &["F_"]),
    one("prctl", "option", &["PR_"]),
    one("arch_prctl", "option", &["ARCH_"]),
    one("personality", "persona", &["PER_"]),
    one("madvise", "advice", &["MADV_"]),
    bits("futex", "op", &["FUTEX_"]),
    bits("mmap", "prot", &["PROT_"]),
    bits("mmap", "flags", &["MAP_"]),
    bits("mprotect", "prot", &["PROT_"]),
    bits("mremap", "flags", &["MREMAP_"]),
    bits("clone", "flags", &["CLONE_", "SIGCHLD"]),
    bits("memfd_create", "flags", &["MFD_"]),
    one("socket", "domain", &["AF_"]),
    bits("socket", "type", &["SOCK_"]),
    one("socket", "protocol", &["IPPROTO_"]),
    one("socketpair", "domain", &["AF_"]),
    bits("socketpair", "type", &["SOCK_"]),
    one("setsockopt", "level", &["SOL_SOCKET", "IPPROTO_"]),
    one("getsockopt", "level", &["SOL_SOCKET", "IPPROTO_"]),
];

/// Which option names belong to a level of `setsockopt`.
fn options(level: u64) -> &'static [&'static str] {
    match i32::try_from(level) {
        Ok(libc::SOL_SOCKET) => &["SO_"],
        Ok(libc::IPPROTO_TCP) => &["TCP_"],
        Ok(libc::IPPROTO_IP) => &["IP_"],
        Ok(libc::IPPROTO_IPV6) => &["IPV6_"],
        _ => &[],
    }
}

/// The arguments of a call that the language can bind by a constant: name, and the words
/// for the value. Those whose value it has no words for are left out.
pub fn spoken(call: Syscall, args: &[u64; 6]) -> Vec<(&'static str, String)> {
    let mut spoken = Vec::new();
    for (index, arg) in call.args.iter().enumerate() {
        let value = match arg.kind {
            Kind::Ptr | Kind::Fd => continue,
            Kind::Int => args[index] & u64::from(u32::MAX),
            Kind::Long => args[index],
        };
        let option = arg.name == "optname" && call.name.ends_with("sockopt");
        let family = FAMILIES
            .iter()
            .find(|family| family.call == call.name && family.arg == arg.name);
        let words = match (option, family) {
            (true, _) => constants::name(options(args[1] & u64::from(u32::MAX)), value),
            (_, Some(family)) if family.bits => constants::names(family.prefixes, value),
            (_, Some(family)) => constants::name(family.prefixes, value),
            _ => None,
        };
        spoken.extend(words.map(|words| (arg.name, words)));
    }
    spoken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, args: [u64; 6]) -> Vec<(&'static str, String)> {
        spoken(Syscall::find(name).unwrap(), &args)
    }

    #[test]
    fn constants_are_named_by_what_they_are_for() {
        let sock = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
        let socket = of("socket", [2, sock as u64, 6, 0, 0, 0]);
        let words: Vec<_> = socket.iter().map(|(_, words)| words.as_str()).collect();
        assert_eq!(
            words,
            ["AF_INET", "SOCK_STREAM|SOCK_CLOEXEC", "IPPROTO_TCP"]
        );
        let mmap = of("mmap", [0, 1, 3, 0x22, u64::MAX, 0]);
        assert_eq!(mmap[0], ("prot", "PROT_READ|PROT_WRITE".into()));
        assert_eq!(mmap[1], ("flags", "MAP_PRIVATE|MAP_ANONYMOUS".into()));
        assert_eq!(of("mprotect", [0, 1, 0, 0, 0, 0])[0].1, "PROT_NONE");
        assert_eq!(of("ioctl", [0, 0x5401, 0, 0, 0, 0])[0].1, "TCGETS");
        assert!(of("ioctl", [0, 0xdead, 0, 0, 0, 0]).is_empty());
        assert!(of("read", [0; 6]).is_empty());
    }

    #[test]
    fn what_is_spoken_is_understood() {
        for family in FAMILIES {
            let call = Syscall::find(family.call).unwrap();
            assert!(call.args.iter().any(|arg| arg.name == family.arg));
            for value in 0..0x2000u64 {
                if let Some(words) = constants::names(family.prefixes, value) {
                    assert_eq!(constants::value(&words), Ok(value), "{words}");
                }
            }
        }
    }
}
