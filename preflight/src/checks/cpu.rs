//! The CPU's own leaks: vulnerabilities without mitigation, and SMT.

use crate::check::Check;
use std::fs;
use std::path::Path;

/// Which vulnerabilities the kernel calls unmitigated
/// (Documentation/admin-guide/hw-vuln).
pub fn mitigations() -> Check {
    verdict(Path::new("/sys/devices/system/cpu/vulnerabilities"))
}

fn verdict(folder: &Path) -> Check {
    let name = "mitigations";
    let Ok(entries) = fs::read_dir(folder) else {
        return Check::warn(
            name,
            "the kernel does not tell",
            "a guest may read the host's memory through the CPU",
            "mount /sys, or run Linux 4.15 or later",
        );
    };
    let mut open: Vec<String> = entries
        .flatten()
        .filter(|entry| {
            fs::read_to_string(entry.path()).is_ok_and(|text| text.starts_with("Vulnerable"))
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    open.sort();
    if open.is_empty() {
        Check::ok(
            name,
            "no known vulnerability of this CPU is open",
            "a guest cannot read the host's memory by the known ways",
        )
    } else {
        Check::warn(
            name,
            format!("vulnerable to {}", open.join(", ")),
            "a guest may read the host's memory through the CPU",
            "remove mitigations=off from the host's kernel arguments, update kernel and microcode",
        )
    }
}

/// Whether two hardware threads share a core.
pub fn smt() -> Check {
    let active = fs::read_to_string("/sys/devices/system/cpu/smt/active");
    smt_verdict(active.ok().as_deref().map(str::trim))
}

fn smt_verdict(active: Option<&str>) -> Check {
    let name = "smt";
    match active {
        Some("0") => Check::ok(
            name,
            "off",
            "no other tenant runs on the same core at the same time",
        ),
        Some(_) => Check::warn(
            name,
            "on",
            "a guest shares caches with whatever runs on the core's other thread",
            "boot the host with nosmt, or give each tenant whole cores",
        ),
        None => Check::warn(
            name,
            "the kernel does not tell",
            "a guest may share caches with another on the same core",
            "mount /sys, or boot the host with nosmt",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Status;

    #[test]
    fn smt_on_warns() {
        assert_eq!(smt_verdict(Some("0")).status, Status::Ok);
        assert_eq!(smt_verdict(Some("1")).status, Status::Warn);
        assert_eq!(smt_verdict(None).status, Status::Warn);
    }

    #[test]
    fn an_absent_folder_warns() {
        assert_eq!(verdict(Path::new("/nonexistent")).status, Status::Warn);
    }
}
