//! Limits that the kernel counts.

use crate::{List, Resource, Text};
use serde::{Deserialize, Serialize};

/// One resource limit; soft and hard are the same, so that it cannot be raised again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RlimitValue {
    /// Of what.
    pub resource: Resource,
    /// In the unit of getrlimit(2): bytes, seconds or a count.
    pub value: u64,
}

/// What the cgroup holds a jail to. `None`: the kernel's default, no limit of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CgroupLimits {
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Swap beside that, in bytes; 0: none.
    pub swap_bytes: Option<u64>,
    /// CPU time per wall-clock time, in thousandths of one CPU.
    pub cpu_millis: Option<u32>,
    /// Share of CPU time among the busy, 1 to 10,000; the kernel's default is 100
    /// (`cpu.weight`; on v1 `cpu.shares` in proportion).
    pub cpu_weight: Option<u32>,
    /// Tasks.
    pub pids: Option<u32>,
    /// I/O bandwidth, by device.
    pub io: List<IoLimit>,
}

/// I/O bandwidth of one block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IoLimit {
    /// `MAJOR:MINOR`.
    pub device: Text,
    /// Bytes read in a second.
    pub read_bps: Option<u64>,
    /// Bytes written in a second.
    pub write_bps: Option<u64>,
}
