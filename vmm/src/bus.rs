//! The two address spaces of the guest that end in a device: port I/O and MMIO.
//!
//! A bus is built before the vCPUs start and never changes afterwards, so that
//! a look-up takes no lock; only the device found is locked.

use crate::unless_off::unless_off;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;

/// Something the guest reads and writes through a [`Bus`].
///
/// Called on a vCPU thread, under the device's lock: an implementation never
/// blocks and never waits for another thread. The guest is hostile: it chooses
/// the offset, the length (1 to 8 bytes) and the data.
pub trait BusDevice: Send {
    /// Reads `data.len()` bytes at `offset` from the device's base. What is not
    /// written stays all ones.
    fn read(&mut self, offset: u64, data: &mut [u8]);
    /// Writes `data` at `offset` from the device's base.
    fn write(&mut self, offset: u64, data: &[u8]);
}

/// A device as a bus holds it.
pub type SharedDevice = Arc<Mutex<dyn BusDevice>>;

/// Why a device was not put on a bus.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BusError {
    /// The range is empty or ends beyond 64 bits.
    #[error("bus range of {len:#x} bytes at {base:#x} is empty or wraps")]
    BadRange {
        /// First address.
        base: u64,
        /// Length in bytes.
        len: u64,
    },
    /// Another device stands there.
    #[error("bus range of {len:#x} bytes at {base:#x} meets the device at {other:#x}")]
    Overlap {
        /// First address.
        base: u64,
        /// Length in bytes.
        len: u64,
        /// First address of the device that stands there.
        other: u64,
    },
}

struct Slot {
    /// Last address, inclusive.
    last: u64,
    device: SharedDevice,
}

/// Devices by address.
#[derive(Default)]
pub struct Bus {
    slots: BTreeMap<u64, Slot>,
}

impl Bus {
    /// An empty bus.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a device at `base`, `len` bytes long.
    pub fn insert(&mut self, base: u64, len: u64, device: SharedDevice) -> Result<(), BusError> {
        let bad = BusError::BadRange { base, len };
        let Some(last) = len.checked_sub(1).and_then(|l| base.checked_add(l)) else {
            return Err(bad);
        };
        if let Some((&other, slot)) = self.slots.range(..=last).next_back()
            && slot.last >= base
        {
            return Err(BusError::Overlap { base, len, other });
        }
        self.slots.insert(base, Slot { last, device });
        Ok(())
    }

    /// Reads from the device at `address`; all ones where there is none, or
    /// where the access runs past the device's end.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let Some((offset, device)) = self.find(address, data.len()) {
            let mut device = device.lock().unwrap_or_else(PoisonError::into_inner);
            device.read(offset, data);
        }
    }

    /// Writes to the device at `address`; ignored where there is none, or where
    /// the access runs past the device's end.
    pub fn write(&self, address: u64, data: &[u8]) {
        if let Some((offset, device)) = self.find(address, data.len()) {
            let mut device = device.lock().unwrap_or_else(PoisonError::into_inner);
            device.write(offset, data);
        }
    }

    fn find(&self, address: u64, len: usize) -> Option<(u64, &SharedDevice)> {
        let (base, slot) = self.slots.range(..=address).next_back()?;
        let last = address.checked_add((len as u64).checked_sub(1)?)?;
        let beyond = unless_off!("bus-end", last > slot.last);
        (!beyond).then(|| (address - base, &slot.device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Remembers what was asked of it.
    struct Probe(Vec<(u64, usize)>);
    impl BusDevice for Probe {
        fn read(&mut self, offset: u64, data: &mut [u8]) {
            self.0.push((offset, data.len()));
            data.fill(0x11);
        }
        fn write(&mut self, offset: u64, data: &[u8]) {
            self.0.push((offset, data.len()));
        }
    }

    fn probe() -> Arc<Mutex<Probe>> {
        Arc::new(Mutex::new(Probe(Vec::new())))
    }

    #[test]
    fn finds_the_device_and_its_offset() {
        let mut bus = Bus::new();
        let device = probe();
        bus.insert(0x1000, 0x100, device.clone()).unwrap();
        let mut data = [0; 4];
        bus.read(0x1004, &mut data);
        assert_eq!(data, [0x11; 4]);
        bus.write(0x10ff, &[0]);
        assert_eq!(device.lock().unwrap().0, [(4, 4), (0xff, 1)]);
    }

    #[test]
    fn nothing_there_reads_as_ones() {
        let mut bus = Bus::new();
        let device = probe();
        bus.insert(0x1000, 0x100, device.clone()).unwrap();
        for address in [0, 0xfff, 0x10fd, 0x1100, u64::MAX] {
            let mut data = [0; 4];
            bus.read(address, &mut data);
            assert_eq!(data, [0xff; 4], "{address:#x}");
            bus.write(address, &data);
        }
        assert!(device.lock().unwrap().0.is_empty());
    }

    #[test]
    fn refuses_ranges_that_meet_or_wrap() {
        let mut bus = Bus::new();
        bus.insert(0x1000, 0x100, probe()).unwrap();
        for (base, len) in [(0xfff, 2), (0x1000, 1), (0x10ff, 1), (0, 0x2000)] {
            assert!(matches!(
                bus.insert(base, len, probe()),
                Err(BusError::Overlap { other: 0x1000, .. })
            ));
        }
        for (base, len) in [(0, 0), (u64::MAX, 2)] {
            assert!(matches!(
                bus.insert(base, len, probe()),
                Err(BusError::BadRange { .. })
            ));
        }
        bus.insert(0x1100, 1, probe()).unwrap();
        bus.insert(0xfff, 1, probe()).unwrap();
    }

    proptest! {
        #[test]
        fn an_access_stays_inside_its_device(
            ranges in prop::collection::vec((0u64..64, 1u64..16), 0..8),
            address in 0u64..96, len in 1usize..=8,
        ) {
            let mut bus = Bus::new();
            let mut placed = Vec::new();
            for (base, size) in ranges {
                let device = probe();
                if bus.insert(base, size, device.clone()).is_ok() {
                    placed.push((base, size, device));
                }
            }
            bus.write(address, &vec![0; len]);
            for (base, size, device) in placed {
                let inside = address >= base && address + len as u64 <= base + size;
                let seen = &device.lock().unwrap().0;
                prop_assert_eq!(seen.len(), usize::from(inside));
                if inside {
                    prop_assert_eq!(seen[0], (address - base, len));
                }
            }
        }
    }
}
