//! Where a guest's memory may go or leak: swap and same-page merging.

use crate::check::Check;
use std::fs;

/// Whether memory may be written to disk.
pub fn swap() -> Check {
    swap_verdict(fs::read_to_string("/proc/swaps").ok().as_deref())
}

fn swap_verdict(swaps: Option<&str>) -> Check {
    let name = "swap";
    let areas: Vec<&str> = swaps
        .unwrap_or("")
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    if areas.is_empty() {
        Check::ok(name, "none", "guest memory is never written to disk")
    } else {
        Check::warn(
            name,
            areas.join(", "),
            "guest memory may be written to disk where the cgroup cannot forbid it",
            "swapoff -a, or encrypt the swap",
        )
    }
}

/// Whether equal pages of different guests are merged
/// (Documentation/admin-guide/mm/ksm.rst).
pub fn ksm() -> Check {
    let run = fs::read_to_string("/sys/kernel/mm/ksm/run");
    ksm_verdict(run.ok().as_deref().map(str::trim))
}

fn ksm_verdict(run: Option<&str>) -> Check {
    let name = "ksm";
    match run {
        None | Some("0" | "2") => Check::ok(
            name,
            "off",
            "no guest can tell by timing what another has in memory",
        ),
        Some(_) => Check::warn(
            name,
            "on",
            "a guest may tell by timing what another that is merged with it has in memory; \
             Casemate never asks for merging",
            "echo 2 > /sys/kernel/mm/ksm/run",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Status;

    #[test]
    fn names_swap_areas() {
        let head = "Filename\tType\tSize\tUsed\tPriority\n";
        assert_eq!(swap_verdict(Some(head)).status, Status::Ok);
        let check = swap_verdict(Some(&format!("{head}/dev/sda2 partition 1 0 -2\n")));
        assert_eq!(
            (check.status, check.found.as_str()),
            (Status::Warn, "/dev/sda2")
        );
    }

    #[test]
    fn ksm_running_warns() {
        assert_eq!(ksm_verdict(Some("1")).status, Status::Warn);
        assert_eq!(ksm_verdict(Some("0")).status, Status::Ok);
        assert_eq!(ksm_verdict(None).status, Status::Ok);
    }
}
