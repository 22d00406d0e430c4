//! The limits as values of cgroup files (kernel documentation: cgroup-v2.rst,
//! cgroup-v1/memory.rst, sched-bwc.rst, cgroup-v1/pids.rst).

use super::{Controller, Version};
use casemate_proto::cell::Limits;

/// Period over which CPU time is measured out, in microseconds (the kernel's default).
const PERIOD_US: u64 = 100_000;
/// Memory limits are kept in whole pages.
const PAGE: u64 = 4096;

/// One file and its value, both as written and as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// File name.
    pub file: &'static str,
    /// Value, without newline.
    pub value: String,
    /// Whether it limits swap only, so that a host without swap can do without.
    pub only_swap: bool,
}

impl Setting {
    fn new(file: &'static str, value: impl ToString) -> Self {
        Self {
            file,
            value: value.to_string(),
            only_swap: false,
        }
    }

    fn swap(file: &'static str, value: impl ToString) -> Self {
        Self {
            only_swap: true,
            ..Self::new(file, value)
        }
    }
}

/// The settings of one controller, in the order in which they must be written.
pub fn settings(version: Version, controller: Controller, limits: &Limits) -> Vec<Setting> {
    let memory = limits.memory_bytes & !(PAGE - 1);
    let quota = u64::from(limits.cpu_millis) * (PERIOD_US / 1000);
    match (version, controller) {
        (Version::V2, Controller::Memory) => vec![
            Setting::new("memory.max", memory),
            Setting::swap("memory.swap.max", 0),
            Setting::new("memory.oom.group", 1),
        ],
        // Memory and swap together may not be less than memory, so memory goes first.
        (Version::V1, Controller::Memory) => vec![
            Setting::new("memory.limit_in_bytes", memory),
            Setting::swap("memory.memsw.limit_in_bytes", memory),
        ],
        (Version::V2, Controller::Cpu) => {
            vec![Setting::new("cpu.max", format!("{quota} {PERIOD_US}"))]
        }
        (Version::V1, Controller::Cpu) => vec![
            Setting::new("cpu.cfs_period_us", PERIOD_US),
            Setting::new("cpu.cfs_quota_us", quota),
        ],
        (_, Controller::Pids) => vec![Setting::new("pids.max", limits.pids)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_the_kernels_units() {
        let limits = Limits {
            memory_bytes: (64 << 20) + 1,
            cpu_millis: 1500,
            pids: 32,
            nofile: 256,
        };
        let of = |version, controller| settings(version, controller, &limits);
        assert_eq!(of(Version::V2, Controller::Cpu)[0].value, "150000 100000");
        assert_eq!(of(Version::V1, Controller::Cpu)[1].value, "150000");
        assert_eq!(of(Version::V2, Controller::Memory)[0].value, "67108864");
        assert_eq!(of(Version::V2, Controller::Memory)[1].value, "0");
        assert_eq!(of(Version::V1, Controller::Pids)[0].value, "32");
    }
}
