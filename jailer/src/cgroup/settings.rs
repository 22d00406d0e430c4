//! The limits as values of cgroup files (kernel documentation: cgroup-v2.rst,
//! cgroup-v1/memory.rst, sched-bwc.rst, cgroup-v1/pids.rst, cgroup-v1/blkio-controller.rst).

use super::{Controller, Version};
use casemate_policy::{CgroupLimits, IoLimit};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Period over which CPU time is measured out, in microseconds (the kernel's default).
const PERIOD_US: u64 = 100_000;
/// Memory limits are kept in whole pages.
const PAGE: u64 = 4096;
/// `cpu.shares` that go with the weight of 100; both are the kernel's defaults.
const SHARES: u64 = 1024;

/// One file and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// File name.
    pub file: Cow<'static, str>,
    /// Value as written, without newline.
    pub value: String,
    /// The line that must be among the file's then.
    pub shown: String,
    /// Whether it limits swap only, so that a host without swap can do without.
    pub only_swap: bool,
}

impl Setting {
    fn new(file: &'static str, value: impl ToString) -> Self {
        Self {
            file: Cow::Borrowed(file),
            value: value.to_string(),
            shown: value.to_string(),
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
pub fn settings(version: Version, controller: Controller, limits: &CgroupLimits) -> Vec<Setting> {
    match (version, controller) {
        (_, Controller::Memory) => memory(version, limits),
        (_, Controller::Cpu) => cpu(version, limits),
        (_, Controller::Pids) => {
            let pids = limits.pids.map(|pids| Setting::new("pids.max", pids));
            pids.into_iter().collect()
        }
        (_, Controller::Io) => limits
            .io
            .iter()
            .flat_map(|limit| io(version, limit))
            .collect(),
    }
}

fn memory(version: Version, limits: &CgroupLimits) -> Vec<Setting> {
    let whole = |bytes: u64| bytes & !(PAGE - 1);
    let memory = limits.memory_bytes.map(whole);
    let swap = limits.swap_bytes.map(whole);
    let settings = match version {
        Version::V2 => [
            memory.map(|memory| Setting::new("memory.max", memory)),
            swap.map(|swap| Setting::swap("memory.swap.max", swap)),
            memory.map(|_| Setting::new("memory.oom.group", 1)),
        ],
        // Memory and swap together may not be less than memory, so memory goes first.
        Version::V1 => [
            memory.map(|memory| Setting::new("memory.limit_in_bytes", memory)),
            memory.zip(swap).map(|(memory, swap)| {
                Setting::swap("memory.memsw.limit_in_bytes", memory.saturating_add(swap))
            }),
            None,
        ],
    };
    settings.into_iter().flatten().collect()
}

fn cpu(version: Version, limits: &CgroupLimits) -> Vec<Setting> {
    let quota = limits
        .cpu_millis
        .map(|millis| u64::from(millis) * (PERIOD_US / 1000));
    let weight = limits.cpu_weight.map(u64::from);
    let settings = match version {
        Version::V2 => [
            quota.map(|quota| Setting::new("cpu.max", format!("{quota} {PERIOD_US}"))),
            weight.map(|weight| Setting::new("cpu.weight", weight)),
            None,
        ],
        Version::V1 => [
            quota.map(|_| Setting::new("cpu.cfs_period_us", PERIOD_US)),
            quota.map(|quota| Setting::new("cpu.cfs_quota_us", quota)),
            // Less than 2 the kernel makes 2.
            weight.map(|weight| Setting::new("cpu.shares", (weight * SHARES / 100).max(2))),
        ],
    };
    settings.into_iter().flatten().collect()
}

fn io(version: Version, limit: &IoLimit) -> Vec<Setting> {
    let device = &limit.device;
    match version {
        Version::V2 => {
            let part = |name: &str, bps: Option<u64>| {
                format!(
                    "{name}={}",
                    bps.map_or("max".to_owned(), |bps| bps.to_string())
                )
            };
            let value = format!(
                "{device} {} {}",
                part("rbps", limit.read_bps),
                part("wbps", limit.write_bps)
            );
            vec![Setting {
                shown: format!("{value} riops=max wiops=max"),
                ..Setting::new("io.max", value)
            }]
        }
        Version::V1 => [
            ("blkio.throttle.read_bps_device", limit.read_bps),
            ("blkio.throttle.write_bps_device", limit.write_bps),
        ]
        .into_iter()
        .filter_map(|(file, bps)| Some(Setting::new(file, format!("{device} {}", bps?))))
        .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use casemate_policy::List;

    #[test]
    fn limits_become_the_kernels_units() {
        let limits = CgroupLimits {
            memory_bytes: Some((64 << 20) + 1),
            swap_bytes: Some(0),
            cpu_millis: Some(1500),
            cpu_weight: Some(50),
            pids: Some(32),
            io: vec![IoLimit {
                device: "8:0".into(),
                read_bps: Some(1 << 20),
                write_bps: None,
            }]
            .into(),
        };
        let of = |version, controller| settings(version, controller, &limits);
        assert_eq!(of(Version::V2, Controller::Cpu)[0].value, "150000 100000");
        assert_eq!(of(Version::V2, Controller::Cpu)[1].value, "50");
        assert_eq!(of(Version::V1, Controller::Cpu)[1].value, "150000");
        assert_eq!(of(Version::V1, Controller::Cpu)[2].value, "512");
        assert_eq!(of(Version::V2, Controller::Memory)[0].value, "67108864");
        assert_eq!(of(Version::V2, Controller::Memory)[1].value, "0");
        assert_eq!(of(Version::V1, Controller::Memory)[1].value, "67108864");
        assert_eq!(of(Version::V1, Controller::Pids)[0].value, "32");
        assert_eq!(
            of(Version::V2, Controller::Io)[0].value,
            "8:0 rbps=1048576 wbps=max"
        );
        assert_eq!(of(Version::V1, Controller::Io)[0].value, "8:0 1048576");
        assert_eq!(of(Version::V1, Controller::Io).len(), 1);
    }

    #[test]
    fn what_is_not_limited_is_not_touched() {
        let none = CgroupLimits {
            io: List::default(),
            ..CgroupLimits::default()
        };
        for version in [Version::V1, Version::V2] {
            for controller in Controller::ALL {
                assert_eq!(settings(version, controller, &none), []);
            }
        }
    }
}
