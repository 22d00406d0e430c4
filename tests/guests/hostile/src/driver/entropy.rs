//! The entropy device's driver (virtio 1.2 §5.4).

use super::mmio::Device;
use super::queue::{Buffer, writable};
use crate::outcome::Outcome;
use casemate_guest_base::{peek, poke};

/// A source of random bytes.
pub struct Entropy {
    /// The device.
    pub device: Device,
    /// Where its bytes go.
    pub scratch: u64,
}

impl Entropy {
    /// Device `n` of the machine.
    pub fn new(n: u64, scratch: u64) -> Self {
        Self {
            device: Device::new(n, 1),
            scratch,
        }
    }

    /// Offers a chain; what came of it, and how many bytes were written.
    pub fn request(&mut self, buffers: &[Buffer]) -> (Outcome, u32) {
        self.device.queues[0].offer(buffers);
        let outcome = self.device.verdict(0);
        let mut written = 0;
        while let Some((_, len)) = self.device.queues[0].take() {
            written = len;
        }
        (outcome, written)
    }

    /// Asks for some bytes.
    ///
    /// # Errors
    /// What is not as it should be.
    pub fn check(&mut self) -> Result<(), &'static str> {
        for n in 0..8 {
            poke(self.scratch + 8 * n, 0u64);
        }
        if self.request(&[writable(self.scratch, 64)]) != (Outcome::Served, 64) {
            return Err("no entropy");
        }
        let zeroes = (0..8).filter(|n| peek::<u64>(self.scratch + 8 * n) == 0);
        (zeroes.count() == 0)
            .then_some(())
            .ok_or("the entropy is zeroes")
    }
}
