//! What the process around the guest is held to.

use casemate_proto::cell::Limits;
use casemate_proto::control::VmConfig;
use casemate_proto::size::MIB;

/// Memory beside the guest's: the VMM itself (less than 5 MiB), KVM's and the
/// kernel's own structures for it, and what a burst of disk I/O keeps in flight.
const OVERHEAD: u64 = 64 * MIB;
/// Page tables, the host's and KVM's, take 8 bytes for each 4 KiB, twice, when
/// no large page can be had; this is four times as much.
const PAGE_TABLES: u64 = 64;
/// CPU time of the device threads, in thousandths of a CPU.
const DEVICES: u32 = 500;
/// `main`, `vsock`, `rng`, and what KVM starts in a VMM's name.
const THREADS: u32 = 3 + 8;
/// Above every number of `proto::fds`, with room for the event fds.
const NOFILE: u32 = 256;

/// The limits of a cell with this VM.
pub fn of(vm: &VmConfig) -> Limits {
    let guest = u64::from(vm.memory_mib) * MIB;
    Limits {
        memory_bytes: guest + guest / PAGE_TABLES + OVERHEAD,
        cpu_millis: u32::from(vm.vcpus) * 1000 + DEVICES,
        pids: u32::from(vm.vcpus) + vm.disks.len() as u32 + THREADS,
        nofile: NOFILE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use casemate_proto::fds::{EVENT_BASE, MAX_VCPUS};

    #[test]
    fn limits_follow_the_vm() {
        let vm = VmConfig {
            vcpus: MAX_VCPUS as u8,
            memory_mib: 64 << 10,
            cmdline: String::new(),
            initrd: false,
            disks: Vec::new(),
            streams: Vec::new(),
            entropy: true,
        };
        let limits = of(&vm);
        assert_eq!(limits.memory_bytes, (64 << 30) + (1 << 30) + OVERHEAD);
        assert_eq!(limits.cpu_millis, 32_500);
        const { assert!(NOFILE as i32 > EVENT_BASE + 128) };
    }
}
