//! Gives the VM its virtio devices: which there are, in which order, and how each
//! is wired to KVM.
//!
//! The order is part of the contract with the guest: disks as configured (`vda`,
//! `vdb`, …), then vsock, then entropy. Device `n` has window, interrupt and ACPI
//! name number `n`.

use crate::arch::x86_64::layout::{MAX_VIRTIO, VIRTIO_GSI, VIRTIO_MMIO, VIRTIO_MMIO_LEN};
use crate::bus::{Bus, BusError};
use crate::kvm::{self, KvmError};
use crate::layer_off::install;
use crate::memory::GuestMemory;
use crate::virtio::block::{Block, Disk, DiskError};
use crate::virtio::device::VirtioDevice;
use crate::virtio::entropy::Entropy;
use crate::virtio::mmio::{MmioTransport, NOTIFY, WINDOW};
use crate::virtio::vsock::{Streams, StreamsError, Vsock};
use crate::virtio::worker::WorkerError;
use casemate_policies::{Filter, Role, ThreadClass, filter};
use casemate_proto::agent::GUEST_CID;
use casemate_proto::control::VmConfig;
use casemate_proto::fds;
use kvm_ioctls::VmFd;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use thiserror::Error;

const _: () = {
    assert!(WINDOW == VIRTIO_MMIO_LEN);
    assert!(fds::MAX_DISKS + 2 <= MAX_VIRTIO);
};

/// Why the VM does not get its devices.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// More of a kind than there are fds for.
    #[error("{have} {what}: give at most {most}")]
    TooMany {
        /// "disks" or "vsock streams".
        what: &'static str,
        /// As configured.
        have: usize,
        /// The limit.
        most: usize,
    },
    /// The vsock streams are not usable.
    #[error(transparent)]
    Streams(#[from] StreamsError),
    /// A disk is not usable.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A device's thread.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// KVM does not wire it.
    #[error("device {name}: {source}")]
    Wire {
        /// The device's thread.
        name: String,
        /// KVM's answer.
        source: KvmError,
    },
    /// Its window is taken.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl DeviceError {
    /// Whether it is the user's to mend.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::TooMany { .. } | Self::Streams(_) | Self::Disk(_)
        )
    }
}

/// Checks the devices of a configuration without making any.
pub fn check(config: &VmConfig) -> Result<(), DeviceError> {
    for (what, have, most) in [
        ("disks", config.disks.len(), fds::MAX_DISKS),
        ("vsock streams", config.streams.len(), fds::MAX_STREAMS),
    ] {
        if have > most {
            return Err(DeviceError::TooMany { what, have, most });
        }
    }
    Ok(())
}

/// Makes every device of `config` and gives the names of their threads, one a device.
pub fn add_all(
    vm: &VmFd,
    mmio: &mut Bus,
    memory: &GuestMemory,
    config: &VmConfig,
    disks: Vec<File>,
    streams: Vec<OwnedFd>,
) -> Result<Vec<String>, DeviceError> {
    let mut slots = Slots {
        vm,
        mmio,
        memory,
        threads: Vec::new(),
    };
    for (number, (file, disk)) in disks.into_iter().zip(&config.disks).enumerate() {
        let disk = Disk::new(file, disk)?;
        let fd = fds::DISK_BASE + number as i32;
        let filter = filter(ThreadClass::Block).bind(Role::Disk, fd);
        slots.add(&format!("blk{number}"), Block::new(disk), filter)?;
    }
    if !streams.is_empty() {
        let streams = Streams::new(config.streams.iter().cloned().zip(streams))?;
        let device = Vsock::new(GUEST_CID, streams);
        slots.add("vsock", device, filter(ThreadClass::Vsock))?;
    }
    if config.entropy {
        slots.add("rng", Entropy::new(), filter(ThreadClass::Entropy))?;
    }
    Ok(slots.threads)
}

/// The virtio-mmio windows, taken one after another.
struct Slots<'a> {
    vm: &'a VmFd,
    mmio: &'a mut Bus,
    memory: &'a GuestMemory,
    threads: Vec<String>,
}

impl Slots<'_> {
    /// Starts a device's thread, which installs `filter`, and wires the device.
    fn add(
        &mut self,
        name: &str,
        device: impl VirtioDevice,
        filter: Filter,
    ) -> Result<(), DeviceError> {
        let number = self.threads.len() as u32;
        let window = VIRTIO_MMIO + u64::from(number) * VIRTIO_MMIO_LEN;
        let confine = Box::new(move || Ok(install(filter)?));
        let device = MmioTransport::new(name, device, self.memory.clone(), confine)?;
        let wire = |source| DeviceError::Wire {
            name: name.to_owned(),
            source,
        };
        let transport = device.transport();
        kvm::add_irqfd(self.vm, transport.interrupt().line(), VIRTIO_GSI + number).map_err(wire)?;
        for (queue, kick) in (0..).zip(transport.kicks()) {
            kvm::add_ioeventfd(self.vm, kick, window + NOTIFY, queue).map_err(wire)?;
        }
        let device = Arc::new(Mutex::new(device));
        self.mmio.insert(window, VIRTIO_MMIO_LEN, device)?;
        self.threads.push(name.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use casemate_proto::control::StreamConfig;

    #[test]
    fn no_more_streams_than_fds() {
        let config = |streams: usize| VmConfig {
            vcpus: 1,
            memory_mib: 128,
            cmdline: String::new(),
            initrd: false,
            disks: Vec::new(),
            streams: vec![StreamConfig { port: 1 }; streams],
            entropy: false,
        };
        assert!(check(&config(fds::MAX_STREAMS)).is_ok());
        let error = check(&config(fds::MAX_STREAMS + 1)).unwrap_err();
        assert_eq!(error.to_string(), "9 vsock streams: give at most 8");
        assert!(error.is_refusal());
    }
}
