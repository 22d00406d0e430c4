//! Kernel version, privilege and memory.

use crate::check::Check;
use casemate_proto::size::{ByteSize, MIB};
use std::fs;
use std::io;

/// Oldest kernel we test on, that of Debian 12.
const TESTED: (u32, u32) = (6, 1);

/// Capabilities that the jailer needs in its effective set, by number (capabilities(7)).
const NEEDED: [(&str, u32); 7] = [
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_KILL", 5),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    ("CAP_SETPCAP", 8),
    ("CAP_SYS_ADMIN", 21),
];

/// The running kernel.
pub fn kernel() -> Check {
    let name = "kernel";
    let release = match nix::sys::utsname::uname() {
        Ok(uts) => uts.release().to_string_lossy().into_owned(),
        Err(e) => format!("unknown ({e})"),
    };
    match version(&release) {
        Some(found) if found >= TESTED => Check::ok(
            name,
            format!("Linux {release}"),
            "has every layer of the jail, if its configuration does",
        ),
        _ => Check::warn(
            name,
            format!("Linux {release}"),
            "older than what Casemate is tested on, layers of the jail may be missing",
            format!("run Linux {}.{} or later", TESTED.0, TESTED.1),
        ),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Whether we are root, with the capabilities that building a jail takes.
pub fn privilege() -> Check {
    let name = "privilege";
    if !nix::unistd::geteuid().is_root() {
        return Check::fail(
            name,
            format!("running as uid {}", nix::unistd::geteuid()),
            "only root can build the jail of a VM",
            "run it as root, with sudo for example, or use `casemate jail`, which works without",
        );
    }
    let absent = match fs::read_to_string("/proc/self/status") {
        Ok(status) => absent_capabilities(&status),
        Err(e) => {
            return Check::fail(
                name,
                format!("/proc/self/status cannot be read ({e})"),
                "the confinement could not be read back",
                "mount /proc",
            );
        }
    };
    if absent.is_empty() {
        Check::ok(
            name,
            "root, with the capabilities needed",
            "a jail can be built",
        )
    } else {
        Check::fail(
            name,
            format!("root without {}", absent.join(", ")),
            "a jail cannot be built",
            "run it outside of the container, or give the container these capabilities",
        )
    }
}

fn absent_capabilities(status: &str) -> Vec<&'static str> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    NEEDED
        .iter()
        .filter(|&&(_, number)| effective & (1 << number) == 0)
        .map(|&(name, _)| name)
        .collect()
}

/// Memory of the host.
pub fn memory() -> Check {
    let name = "memory";
    match (meminfo("MemTotal"), meminfo("MemAvailable")) {
        (Ok(total), Ok(available)) => {
            let found = format!("{} MiB available of {} MiB", available / MIB, total / MIB);
            if available >= 512 * MIB {
                Check::ok(
                    name,
                    found,
                    format!("guests of up to {} fit now", ByteSize::mib(available / MIB)),
                )
            } else {
                Check::warn(
                    name,
                    found,
                    "even a guest of 256 MiB may be ended by the host for want of memory",
                    "free memory, or give guests less with --memory",
                )
            }
        }
        (Err(e), _) | (_, Err(e)) => Check::warn(
            name,
            format!("/proc/meminfo cannot be read ({e})"),
            "it is not known how large a guest may be",
            "mount /proc",
        ),
    }
}

/// One value of `/proc/meminfo`, in bytes.
pub fn meminfo(key: &str) -> io::Result<u64> {
    parse_meminfo(&fs::read_to_string("/proc/meminfo")?, key)
        .ok_or_else(|| io::Error::other(format!("no {key}")))
}

fn parse_meminfo(text: &str, key: &str) -> Option<u64> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions() {
        assert_eq!(version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(version("5.10.0-33-cloud-amd64"), Some((5, 10)));
        assert_eq!(version("6.1-rc3"), Some((6, 1)));
        assert_eq!(version("unknown"), None);
    }

    #[test]
    fn reads_meminfo() {
        let text = "MemTotal:       24683724 kB\nMemAvailable:  1 kB\n";
        assert_eq!(parse_meminfo(text, "MemTotal"), Some(24_683_724 * 1024));
        assert_eq!(parse_meminfo(text, "MemAvailable"), Some(1024));
        assert_eq!(parse_meminfo(text, "Mem"), None);
    }

    #[test]
    fn names_absent_capabilities() {
        assert!(absent_capabilities("CapEff:\t000001ffffffffff\n").is_empty());
        assert_eq!(
            absent_capabilities("CapEff:\t000001ffffdfffff\n"),
            ["CAP_SYS_ADMIN"]
        );
        assert_eq!(absent_capabilities("").len(), NEEDED.len());
    }
}
