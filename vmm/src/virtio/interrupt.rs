//! The interrupt status register and the irqfd behind it.

use crate::event::{EventError, EventFd, event_fd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING};

/// A device's way to the guest's interrupt controller; shared by its worker
/// thread (which raises) and its transport (which the guest reads and acknowledges).
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    status: AtomicU32,
    needs_reset: AtomicBool,
    line: EventFd,
}

impl Interrupt {
    /// A quiet line; makes its eventfd.
    pub fn new() -> Result<Self, EventError> {
        Ok(Self(Arc::new(Shared {
            status: AtomicU32::new(0),
            needs_reset: AtomicBool::new(false),
            line: event_fd()?,
        })))
    }

    /// The eventfd to give KVM as irqfd (edge-triggered).
    pub fn line(&self) -> &EventFd {
        &self.0.line
    }

    /// Says that buffers were used (virtio 1.2 §4.2.2, bit 0).
    pub fn used(&self) {
        self.raise(VIRTIO_MMIO_INT_VRING);
    }

    /// Says that the configuration or the status changed (bit 1).
    pub fn config_changed(&self) {
        self.raise(VIRTIO_MMIO_INT_CONFIG);
    }

    /// Sets `DEVICE_NEEDS_RESET` and tells the driver (virtio 1.2 §2.1.2).
    pub fn needs_reset(&self) {
        self.0.needs_reset.store(true, Ordering::SeqCst);
        self.config_changed();
    }

    /// Whether the device waits for a reset.
    pub fn is_broken(&self) -> bool {
        self.0.needs_reset.load(Ordering::SeqCst)
    }

    /// The interrupt status register.
    pub fn status(&self) -> u32 {
        self.0.status.load(Ordering::SeqCst)
    }

    /// The guest's acknowledgement: clears these bits.
    pub fn acknowledge(&self, bits: u32) {
        self.0.status.fetch_and(!bits, Ordering::SeqCst);
    }

    /// Everything back to its first state; the worker must not hold queues.
    pub fn reset(&self) {
        self.0.needs_reset.store(false, Ordering::SeqCst);
        self.0.status.store(0, Ordering::SeqCst);
    }

    /// A bit that is still set has an edge under way that the guest has not
    /// answered: its handler will acknowledge and only then look at the rings, so
    /// a second edge would tell it nothing.
    fn raise(&self, bit: u32) {
        if self.0.status.fetch_or(bit, Ordering::SeqCst) & bit == 0 {
            // The only failure of an eventfd that is never read is a full
            // counter, and then the edge is pending already.
            let _ = self.0.line.write(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_edge_until_acknowledged() {
        let irq = Interrupt::new().unwrap();
        irq.used();
        irq.used();
        assert_eq!((irq.status(), irq.line().read().unwrap()), (1, 1));
        irq.config_changed();
        assert_eq!((irq.status(), irq.line().read().unwrap()), (3, 1));
        irq.acknowledge(1);
        assert_eq!(irq.status(), 2);
        irq.used();
        assert_eq!(irq.line().read().unwrap(), 1);
    }

    #[test]
    fn needs_reset_until_reset() {
        let irq = Interrupt::new().unwrap();
        irq.needs_reset();
        irq.acknowledge(u32::MAX);
        assert!(irq.is_broken());
        irq.reset();
        assert!(!irq.is_broken());
        assert_eq!(irq.status(), 0);
    }
}
