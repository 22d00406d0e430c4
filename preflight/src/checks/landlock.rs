//! Landlock's ABI (landlock_create_ruleset(2)).

use crate::check::Check;
use casemate_proto::cell::Layer;
use nix::errno::Errno;

/// With this ABI every right that the jail takes away is covered: files (1),
/// TCP (4), devices (5), abstract sockets and signals (6).
const WHOLE: i64 = 6;

/// Which ABI the kernel has.
pub fn check() -> Check {
    verdict(abi())
}

fn abi() -> Result<i64, Errno> {
    const VERSION: u32 = 1; // LANDLOCK_CREATE_RULESET_VERSION
    // SAFETY: with a null attribute of size 0 and the VERSION flag, the call
    // reads no memory and only returns a number.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0usize,
            VERSION,
        )
    };
    Errno::result(abi)
}

fn verdict(abi: Result<i64, Errno>) -> Check {
    let name = "landlock";
    match abi {
        Ok(abi) if abi >= WHOLE => Check::ok(
            name,
            format!("ABI {abi}"),
            "denies the VMM every path, TCP port, abstract socket and outside signal",
        ),
        Ok(abi) => {
            let open = match abi {
                ..4 => "TCP ports, device ioctls, abstract sockets and signals",
                4 => "device ioctls, abstract sockets and signals",
                _ => "abstract sockets and signals",
            };
            Check::warn(
                name,
                format!("ABI {abi}"),
                format!("denies the VMM every path; {open} are left to the namespaces and seccomp"),
                format!("run Linux 6.12 or later for ABI {WHOLE}"),
            )
        }
        Err(e) => {
            let (found, remedy) = match e {
                Errno::ENOSYS => (
                    "not in this kernel".to_owned(),
                    "run a kernel built with CONFIG_SECURITY_LANDLOCK",
                ),
                Errno::EOPNOTSUPP => (
                    "switched off at boot".to_owned(),
                    "add landlock to the lsm= argument of the host's kernel",
                ),
                e => (
                    format!("does not answer ({})", e.desc()),
                    "if a container's seccomp filter forbids it, run outside of the container",
                ),
            };
            Check::fail(
                name,
                found,
                "a VMM that was broken into would be held by the empty root and seccomp only",
                remedy,
            )
            .missing([Layer::Landlock])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Status;

    #[test]
    fn every_abi_has_its_words() {
        assert_eq!(verdict(Ok(7)).status, Status::Ok);
        for (abi, word) in [(1, "TCP"), (4, "device"), (5, "abstract")] {
            let check = verdict(Ok(abi));
            assert_eq!(check.status, Status::Warn);
            assert!(check.consequence.contains(word), "{check}");
        }
        for e in [Errno::ENOSYS, Errno::EOPNOTSUPP, Errno::EPERM] {
            assert!(verdict(Err(e)).missing.contains(&Layer::Landlock));
        }
    }
}
