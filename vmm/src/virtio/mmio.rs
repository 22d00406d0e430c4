//! The virtio-mmio transport, version 2 (virtio 1.2 §4.2).

use super::Mem;
use super::device::VirtioDevice;
use super::transport::{QueueField, Transport};
use super::worker::{Confine, WorkerError};
use crate::bus::BusDevice;
use crate::unless_off::unless_off;
use virtio_bindings::virtio_mmio::*;

/// Length of a device's register window, in bytes.
pub const WINDOW: u64 = 0x1000;
/// Where in the window a queue's index is written to notify it (for an
/// ioeventfd of 4 bytes with that index as datamatch).
pub const NOTIFY: u64 = VIRTIO_MMIO_QUEUE_NOTIFY as u64;

const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const VERSION: u32 = 2;
const VENDOR: u32 = u32::from_le_bytes(*b"CSMT");
const CONFIG: u64 = VIRTIO_MMIO_CONFIG as u64;

/// A device behind a window of registers.
#[derive(Debug)]
pub struct MmioTransport {
    transport: Transport,
    device_features_half: u32,
    driver_features_half: u32,
    refused: u64,
}

impl MmioTransport {
    /// Starts the device's worker thread `name`; returns when it is confined and parked.
    ///
    /// The caller wires [`Transport::kicks`] to ioeventfds at [`NOTIFY`] and the
    /// interrupt's line to an irqfd, and puts this on the bus, [`WINDOW`] bytes long.
    pub fn new<D: VirtioDevice>(
        name: &str,
        device: D,
        mem: Mem,
        confine: Confine,
    ) -> Result<Self, WorkerError> {
        Ok(Self {
            transport: Transport::new(name, device, mem, confine)?,
            device_features_half: 0,
            driver_features_half: 0,
            refused: 0,
        })
    }

    /// What lies behind the registers.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// How many writes had no effect, and accesses no meaning, so far.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn read_register(&self, register: u32) -> Option<u32> {
        let t = &self.transport;
        Some(match register {
            VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
            VIRTIO_MMIO_VERSION => VERSION,
            VIRTIO_MMIO_DEVICE_ID => t.identity().device_type as u32,
            VIRTIO_MMIO_VENDOR_ID => VENDOR,
            VIRTIO_MMIO_DEVICE_FEATURES => t.device_features(self.device_features_half),
            VIRTIO_MMIO_QUEUE_NUM_MAX => t.queue_max().into(),
            VIRTIO_MMIO_QUEUE_READY => t.queue_ready().into(),
            VIRTIO_MMIO_INTERRUPT_STATUS => t.interrupt().status(),
            VIRTIO_MMIO_STATUS => t.status(),
            VIRTIO_MMIO_CONFIG_GENERATION => t.identity().config.generation(),
            // "No such region" (§4.2.2): we have no shared memory.
            VIRTIO_MMIO_SHM_LEN_LOW
            | VIRTIO_MMIO_SHM_LEN_HIGH
            | VIRTIO_MMIO_SHM_BASE_LOW
            | VIRTIO_MMIO_SHM_BASE_HIGH => u32::MAX,
            _ => return None,
        })
    }

    fn write_register(&mut self, register: u32, value: u32) -> bool {
        let t = &mut self.transport;
        let field = match register {
            VIRTIO_MMIO_DEVICE_FEATURES_SEL => {
                self.device_features_half = value;
                return true;
            }
            VIRTIO_MMIO_DRIVER_FEATURES_SEL => {
                self.driver_features_half = value;
                return true;
            }
            VIRTIO_MMIO_DRIVER_FEATURES => {
                return t.write_driver_features(self.driver_features_half, value);
            }
            VIRTIO_MMIO_QUEUE_SEL => {
                t.select_queue(value);
                return true;
            }
            VIRTIO_MMIO_QUEUE_READY => return t.write_queue_ready(value),
            VIRTIO_MMIO_QUEUE_NOTIFY => return t.notify(value),
            VIRTIO_MMIO_INTERRUPT_ACK => {
                t.interrupt().acknowledge(value);
                return true;
            }
            VIRTIO_MMIO_STATUS => {
                if value == 0 {
                    (self.device_features_half, self.driver_features_half) = (0, 0);
                }
                return t.write_status(value);
            }
            VIRTIO_MMIO_SHM_SEL => return true,
            VIRTIO_MMIO_QUEUE_NUM => QueueField::Size,
            VIRTIO_MMIO_QUEUE_DESC_LOW => QueueField::DescriptorsLow,
            VIRTIO_MMIO_QUEUE_DESC_HIGH => QueueField::DescriptorsHigh,
            VIRTIO_MMIO_QUEUE_AVAIL_LOW => QueueField::AvailableLow,
            VIRTIO_MMIO_QUEUE_AVAIL_HIGH => QueueField::AvailableHigh,
            VIRTIO_MMIO_QUEUE_USED_LOW => QueueField::UsedLow,
            VIRTIO_MMIO_QUEUE_USED_HIGH => QueueField::UsedHigh,
            _ => return false,
        };
        t.write_queue(field, value)
    }
}

/// A register's number, if the access is one of a register: 4 bytes, aligned.
fn register(offset: u64, len: usize) -> Option<u32> {
    let odd = unless_off!("register-width", len != 4 || !offset.is_multiple_of(4));
    (!odd).then(|| u32::try_from(offset).ok()).flatten()
}

impl BusDevice for MmioTransport {
    /// What is no register reads as zero.
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(at) = offset.checked_sub(CONFIG) {
            self.transport.identity().config.read(at, data);
            return;
        }
        match register(offset, data.len()).and_then(|r| self.read_register(r)) {
            Some(value) => data.copy_from_slice(&value.to_le_bytes()),
            None => self.refused += 1,
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let value = data.try_into().map(u32::from_le_bytes);
        let took = match (register(offset, data.len()), value) {
            (Some(register), Ok(value)) => self.write_register(register, value),
            _ => false,
        };
        self.refused += u64::from(!took);
    }
}

#[cfg(test)]
mod tests;
