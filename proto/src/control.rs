//! What the supervisor and the VMM say to each other, over [`crate::fds::CONTROL`].
//!
//! ```text
//! supervisor                         VMM
//!    | -- Configure(VmConfig) -------> |  builds the VM, loads the kernel, starts its threads;
//!    | <------------------ Ready ----- |  each thread's filter is on, vCPUs are parked
//!    |  reads /proc back, compares     |
//!    | -- Go ------------------------> |  first guest instruction
//!    | <------------------ Ended ----- |  the guest reset, or the VMM failed
//! ```
//! The VMM's side is trusted no more than the guest: the supervisor bounds and
//! checks all it reads here. A closed socket ends the VMM.

use serde::{Deserialize, Serialize};

/// What the VM is made of. The fds it speaks of stand at the numbers of [`crate::fds`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmConfig {
    /// Number of vCPUs, 1 to [`crate::fds::MAX_VCPUS`].
    pub vcpus: u8,
    /// Guest memory in MiB.
    pub memory_mib: u32,
    /// The kernel's command line, without NUL.
    pub cmdline: String,
    /// Whether an initramfs stands at [`crate::fds::INITRD`].
    pub initrd: bool,
    /// Disks, in order of [`crate::fds::DISK_BASE`].
    pub disks: Vec<DiskConfig>,
    /// Pre-connected vsock streams, in order of [`crate::fds::STREAM_BASE`]: the guest's
    /// connection to host port `port` (CID 2) is spliced to that socket, once.
    pub streams: Vec<StreamConfig>,
    /// Whether the guest has an entropy device.
    pub entropy: bool,
}

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskConfig {
    /// Read-only: the fd was opened `O_RDONLY` and `VIRTIO_BLK_F_RO` is offered.
    pub read_only: bool,
    /// What `VIRTIO_BLK_T_GET_ID` answers, at most 20 bytes of ASCII.
    pub serial: String,
}

/// One vsock stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamConfig {
    /// The host port the guest connects to.
    pub port: u32,
}

/// From the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum ToVmm {
    /// Build this VM. Sent once, first.
    Configure(VmConfig),
    /// Let the vCPUs run. Sent once, after the read-back.
    Go,
}

/// From the VMM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum FromVmm {
    /// All threads are confined and parked.
    Ready(Ready),
    /// The guest ended by itself, or the VMM could not go on. Sent last.
    Ended(Ended),
}

/// The VMM's account of itself at [`FromVmm::Ready`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Thread names as in `/proc/PID/task/TID/comm` (`main`, `vcpu0`, `blk0`, `vsock`, `rng`).
    pub threads: Vec<String>,
    /// Guest memory's mappings in the VMM: (host virtual address, length), in bytes.
    pub guest_memory: Vec<(u64, u64)>,
    /// Microseconds of `CLOCK_MONOTONIC` when `main` was entered.
    pub entered_us: u64,
    /// Microseconds of `CLOCK_MONOTONIC` when ready.
    pub ready_us: u64,
}

/// Why the VMM ends by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Ended {
    /// The guest asked for a reset (i8042, or ACPI).
    Reset,
    /// The guest triple-faulted (`KVM_EXIT_SHUTDOWN`).
    TripleFault,
    /// The configuration or an image was refused: the user's to mend.
    Refused {
        /// One line: object and remedy.
        message: String,
    },
    /// KVM or the VMM failed.
    Failed {
        /// One line: what failed, on which object.
        message: String,
    },
}
