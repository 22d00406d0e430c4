//! What every virtio device has in common.
//!
//! ```text
//!          VM is built                    guest sets DRIVER_OK
//!  new ──────────────────> parked ──────────────────────────────> active
//!       its worker thread    ^  ^        queues, memory, irq         │ │
//!       starts, installs     │  └──────────────────────────────────┘ │
//!       its filter, waits    │       guest writes 0: the vCPU waits    │
//!                            │       until the queues are given up     │
//!                            └────── broken <──────────────────────────┘
//!                          guest     a queue is broken: queues given up
//!                          resets    at once, DEVICE_NEEDS_RESET set
//! ```
//! The device itself lives on its worker thread (see [`super::worker`]) and is
//! the only owner of its queues; the transport keeps no more than an [`Identity`].

use super::Mem;
use super::interrupt::Interrupt;
use super::queue::{Broken, Virtqueue};
use super::worker::{Events, Halt, Next, Ready};
use std::io;
use std::sync::{Arc, RwLock};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ids::{VIRTIO_ID_BLOCK, VIRTIO_ID_RNG, VIRTIO_ID_VSOCK};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;

/// Features every device of ours offers.
pub const COMMON_FEATURES: u64 = 1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX;

/// Device type (virtio 1.2 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum DeviceType {
    /// A disk.
    Block = VIRTIO_ID_BLOCK,
    /// A source of entropy.
    Entropy = VIRTIO_ID_RNG,
    /// Sockets to the host.
    Vsock = VIRTIO_ID_VSOCK,
}

/// What the guest can learn of a device before it drives it.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Device type.
    pub device_type: DeviceType,
    /// Offered features, [`COMMON_FEATURES`] included.
    pub features: u64,
    /// Largest size of each queue: powers of two, at most 32768.
    pub queue_sizes: Vec<u16>,
    /// The configuration space.
    pub config: ConfigSpace,
}

/// A device's configuration space (virtio 1.2 §2.5): shared with the device,
/// which may change it. No device so far lets the driver write to it.
#[derive(Debug, Clone)]
pub struct ConfigSpace(Arc<RwLock<(Vec<u8>, u32)>>);

impl ConfigSpace {
    /// With these bytes, as the device's section of the specification lays them out.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(RwLock::new((bytes, 0))))
    }

    /// Reads at `offset`; beyond the end stand zeroes.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let guard = self.0.read().unwrap_or_else(|e| e.into_inner());
        let from = usize::try_from(offset).ok().and_then(|o| guard.0.get(o..));
        for (to, byte) in data.iter_mut().zip(from.unwrap_or_default()) {
            *to = *byte;
        }
    }

    /// Counts the changes (virtio 1.2 §2.5.1).
    pub fn generation(&self) -> u32 {
        self.0.read().unwrap_or_else(|e| e.into_inner()).1
    }

    /// Puts other bytes there; the device raises [`Interrupt::config_changed`].
    pub fn replace(&self, bytes: Vec<u8>) {
        let mut guard = self.0.write().unwrap_or_else(|e| e.into_inner());
        *guard = (bytes, guard.1.wrapping_add(1));
    }
}

/// What a device gets at DRIVER_OK, by value: nobody else can change it.
#[derive(Debug)]
pub struct Active {
    /// Guest memory.
    pub mem: Mem,
    /// All the queues of [`Identity::queue_sizes`], in order.
    pub queues: Vec<Virtqueue>,
    /// The way to the guest's attention.
    pub interrupt: Interrupt,
    /// The features agreed on: a subset of the offered, with VERSION_1.
    pub features: u64,
    /// Says that the device should return at the next request's boundary.
    pub halt: Halt,
}

impl Active {
    /// Whether this feature bit was negotiated.
    pub fn has(&self, bit: u32) -> bool {
        self.features & 1 << bit != 0
    }

    /// Publishes a queue's used buffers and interrupts if the driver wants it.
    pub fn flush(&mut self, queue: usize) -> Result<(), Broken> {
        let queue = &mut self.queues[queue];
        queue.publish()?;
        if queue.wants_interrupt()? {
            self.interrupt.used();
        }
        Ok(())
    }
}

/// A device. All methods but [`Self::identity`] are called on its worker thread.
/// An error of `kicked` or `ready` breaks the device until the guest resets it.
pub trait VirtioDevice: Send + 'static {
    /// What the guest sees.
    fn identity(&self) -> Identity;

    /// Called once, confined, before the device is first parked; the place to
    /// watch fds of its own.
    fn started(&mut self, events: &Events) -> io::Result<()> {
        let _ = events;
        Ok(())
    }

    /// The guest drives the device now. [`Self::kicked`] follows for every queue.
    fn activate(&mut self, active: Active);

    /// The guest notified this queue (an index into [`Active::queues`]), or may have.
    fn kicked(&mut self, queue: usize, events: &Events) -> Result<Next, Broken>;

    /// One of the device's own fds is ready. Only while active; what happens to
    /// an fd while parked must be seen at activation.
    fn ready(&mut self, ready: Ready, events: &Events) -> Result<Next, Broken> {
        let (_, _) = (ready, events);
        Ok(Next::Wait)
    }

    /// Gives up queues and memory and forgets the guest; no I/O may be in flight
    /// afterwards. Also called when a queue is broken.
    fn reset(&mut self, events: &Events);
}
