//! A virtio-mmio device's registers (virtio 1.2 §4.2.2), and its start and reset.

use super::queue::{Place, Queue};
use crate::outcome::Outcome;
use casemate_guest_base::{peek, poke, wait};

/// The first device's window, and the distance to the next.
pub const FIRST: u64 = 0xd000_0000;
/// Bytes of a window.
pub const WINDOW: u64 = 0x1000;

/// Registers.
pub const DEVICE_FEATURES: u64 = 0x10;
pub const DEVICE_FEATURES_SEL: u64 = 0x14;
pub const DRIVER_FEATURES: u64 = 0x20;
pub const DRIVER_FEATURES_SEL: u64 = 0x24;
pub const QUEUE_SEL: u64 = 0x30;
pub const QUEUE_MAX: u64 = 0x34;
pub const QUEUE_SIZE: u64 = 0x38;
pub const QUEUE_READY: u64 = 0x44;
pub const NOTIFY: u64 = 0x50;
pub const INTERRUPT_STATUS: u64 = 0x60;
pub const INTERRUPT_ACK: u64 = 0x64;
pub const STATUS: u64 = 0x70;
pub const DESCRIPTORS: u64 = 0x80;
pub const AVAILABLE: u64 = 0x90;
pub const USED: u64 = 0xa0;
pub const SHM_SEL: u64 = 0xac;
pub const CONFIG: u64 = 0x100;

/// The status register with all of the driver's steps.
pub const RUNNING: u32 = 15;
/// Device-needs-reset.
pub const NEEDS_RESET: u32 = 0x40;
/// Feature bits.
pub const VERSION_1: u64 = 1 << 32;
pub const EVENT_IDX: u64 = 1 << 29;
pub const INDIRECT_DESC: u64 = 1 << 28;

/// Entries of the queues of a proper driver here.
pub const SIZE: u32 = 64;
/// Where the queues lie, and the distance to the next.
const QUEUES: u64 = 0x100_0000;
const QUEUE_ROOM: u64 = 0x1_0000;

/// A device and what its driver knows.
pub struct Device {
    /// First address of the registers.
    pub base: u64,
    /// Where its queues' memory begins.
    rings: u64,
    /// How many queues it has.
    pub queue_count: u32,
    /// The queues, once started.
    pub queues: [Queue; 3],
}

impl Device {
    /// Device `n` of the machine.
    pub fn new(n: u64, queue_count: u32) -> Self {
        let rings = QUEUES + n * 4 * QUEUE_ROOM;
        Self {
            base: FIRST + n * WINDOW,
            rings,
            queue_count,
            queues: [0, 1, 2].map(|q| Queue::over(Place::at(rings + q * QUEUE_ROOM, SIZE))),
        }
    }

    /// Reads a register.
    pub fn get(&self, register: u64) -> u32 {
        peek(self.base + register)
    }

    /// Writes a register.
    pub fn set(&self, register: u64, value: u32) {
        poke(self.base + register, value);
    }

    /// The status register.
    pub fn status(&self) -> u32 {
        self.get(STATUS)
    }

    /// Whether the device asks for a reset.
    pub fn is_broken(&self) -> bool {
        self.status() & NEEDS_RESET != 0
    }

    /// Back to the start; true once the device says so.
    pub fn reset(&self) -> bool {
        self.set(STATUS, 0);
        wait(|| self.status() == 0)
    }

    /// All the features on offer.
    pub fn offered(&self) -> u64 {
        let half = |n| {
            self.set(DEVICE_FEATURES_SEL, n);
            u64::from(self.get(DEVICE_FEATURES))
        };
        half(0) | half(1) << 32
    }

    /// Writes the driver's choice of features.
    pub fn choose(&self, features: u64) {
        for half in [0, 1] {
            self.set(DRIVER_FEATURES_SEL, half);
            self.set(DRIVER_FEATURES, (features >> (32 * half)) as u32);
        }
    }

    /// From reset to FEATURES_OK with exactly these features; false when refused.
    pub fn negotiate(&self, features: u64) -> bool {
        if !self.reset() {
            return false;
        }
        self.set(STATUS, 1);
        self.set(STATUS, 3);
        self.choose(features);
        self.set(STATUS, 11);
        self.status() == 11
    }

    /// Where queue `q` of a proper driver lies.
    pub fn place_of(&self, q: u32) -> Place {
        Place::at(self.rings + u64::from(q) * QUEUE_ROOM, SIZE)
    }

    /// Tells the device where a queue lies; whether it is ready then.
    pub fn place(&self, q: u32, at: Place) -> bool {
        self.set(QUEUE_SEL, q);
        self.set(QUEUE_SIZE, at.size);
        for (register, address) in [
            (DESCRIPTORS, at.descriptors),
            (AVAILABLE, at.available),
            (USED, at.used),
        ] {
            self.set(register, address as u32);
            self.set(register + 4, (address >> 32) as u32);
        }
        self.set(QUEUE_READY, 1);
        self.get(QUEUE_READY) == 1
    }

    /// Places all queues afresh.
    pub fn place_all(&mut self) -> bool {
        (0..self.queue_count).all(|q| {
            let at = self.place_of(q);
            self.queues[q as usize] = Queue::new(at);
            self.place(q, at)
        })
    }

    /// The last step.
    pub fn run(&self) -> bool {
        self.set(STATUS, RUNNING);
        self.status() == RUNNING
    }

    /// The whole start of a proper driver with these of the offered features.
    pub fn start_with(&mut self, features: u64) -> bool {
        self.negotiate(features & self.offered()) && self.place_all() && self.run()
    }

    /// The same with all that is offered.
    pub fn start(&mut self) -> bool {
        self.start_with(u64::MAX)
    }

    /// Notifies a queue.
    pub fn kick(&self, q: usize) {
        self.set(NOTIFY, q as u32);
    }

    /// Notifies a queue that something was put on, and waits for what comes of it:
    /// all of it used, or a broken device.
    pub fn verdict(&mut self, q: usize) -> Outcome {
        self.kick(q);
        let wanted = self.queues[q].made;
        let mut spins = 0u32;
        let mut broken = false;
        let came = wait(|| {
            spins += 1;
            // The register costs an exit; the ring does not.
            broken = spins.is_multiple_of(256) && self.is_broken();
            broken || self.queues[q].used() == wanted
        });
        match (came, broken || self.is_broken()) {
            (_, true) => Outcome::NeedsReset,
            (true, false) => Outcome::Served,
            (false, false) => Outcome::Wrong("neither served nor broken"),
        }
    }
}
