//! A disk's driver (virtio 1.2 §5.2).

use super::mmio::Device;
use super::queue::{Buffer, readable, writable};
use crate::outcome::Outcome;
use casemate_guest_base::{peek, poke};

/// Request types.
pub const IN: u32 = 0;
pub const OUT: u32 = 1;
pub const FLUSH: u32 = 4;
pub const GET_ID: u32 = 8;
/// Bytes of a sector.
pub const SECTOR: u32 = 512;

/// A disk.
pub struct Block {
    /// The device.
    pub device: Device,
    /// Where headers and status bytes go.
    pub scratch: u64,
    read_only: bool,
    stamp: u32,
}

impl Block {
    /// Device `n` of the machine.
    pub fn new(n: u64, scratch: u64, read_only: bool) -> Self {
        Self {
            device: Device::new(n, 1),
            scratch,
            read_only,
            stamp: 0x1234_5678,
        }
    }

    /// Length in sectors, from the configuration space.
    pub fn sectors(&self) -> u64 {
        u64::from(self.device.get(0x100)) | u64::from(self.device.get(0x104)) << 32
    }

    /// Writes a request's header.
    pub fn header(&self, at: u64, kind: u32, sector: u64) -> Buffer {
        poke(at, kind);
        poke(at + 4, 0u32);
        poke(at + 8, sector);
        readable(at, 16)
    }

    /// Where the status byte of [`Self::request`] goes.
    pub fn status_at(&self) -> u64 {
        self.scratch + 64
    }

    /// Offers a chain that ends in the status byte, and tells what came of it.
    pub fn submit(&mut self, buffers: &[Buffer]) -> Outcome {
        poke(self.status_at(), 0xffu8);
        self.device.queues[0].offer(buffers);
        self.answer()
    }

    /// Notifies, waits, and reads the status byte.
    pub fn answer(&mut self) -> Outcome {
        let outcome = self.device.verdict(0);
        if outcome != Outcome::Served {
            return outcome;
        }
        while self.device.queues[0].take().is_some() {}
        match peek::<u8>(self.status_at()) {
            0 => Outcome::Served,
            1 => Outcome::IoError,
            2 => Outcome::Unsupported,
            _ => Outcome::Wrong("no such status"),
        }
    }

    /// A request with a proper header and status around `data`.
    pub fn request(&mut self, kind: u32, sector: u64, data: &[Buffer]) -> Outcome {
        let mut all = [readable(0, 0); 64];
        all[0] = self.header(self.scratch, kind, sector);
        all[1..=data.len()].copy_from_slice(data);
        all[data.len() + 1] = writable(self.status_at(), 1);
        self.submit(&all[..data.len() + 2])
    }

    /// Reads or writes a few sectors and checks the bytes; mends nothing.
    ///
    /// # Errors
    /// What is not as it should be.
    pub fn check(&mut self) -> Result<(), &'static str> {
        let (from, to) = (self.scratch + 0x1000, self.scratch + 0x3000);
        let len = 4 * SECTOR;
        for offset in (0..u64::from(len)).step_by(4) {
            poke(to + offset, 0u32);
        }
        if self.read_only {
            if self.request(IN, 4, &[writable(to, len)]) != Outcome::Served {
                return Err("the read-only disk does not read");
            }
            // The host has filled it with the number of each 32-bit word.
            let good =
                (0..u64::from(len) / 4).all(|n| u64::from(peek::<u32>(to + 4 * n)) == 4 * 128 + n);
            return good.then_some(()).ok_or("the read-only disk reads wrong");
        }
        self.stamp = self.stamp.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        for n in 0..u64::from(len) / 4 {
            poke(from + 4 * n, self.stamp ^ n as u32);
        }
        for (kind, data) in [
            (OUT, Some(readable(from, len))),
            (FLUSH, None),
            (IN, Some(writable(to, len))),
        ] {
            if self.request(kind, 8, data.as_slice()) != Outcome::Served {
                return Err("the disk does not serve");
            }
        }
        let good =
            (0..u64::from(len) / 4).all(|n| peek::<u32>(to + 4 * n) == self.stamp ^ n as u32);
        good.then_some(()).ok_or("the disk reads back wrong")
    }
}
