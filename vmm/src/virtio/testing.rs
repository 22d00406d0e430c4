//! A driver for tests and fuzz targets: it drives a device as a guest does,
//! through the registers and through rings in guest memory, properly or not.

pub mod direct;

use super::device::VirtioDevice;
use super::mmio::MmioTransport;
use super::queue::Placement;
use super::{Mem, worker::Confine};
use crate::bus::BusDevice;
use std::num::Wrapping;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use virtio_bindings::virtio_mmio::*;
use vm_memory::{Bytes, GuestAddress};

/// Guest memory of the tests, in bytes, from address 0.
pub const MEMORY: usize = 4 << 20;
/// First byte that no queue of [`Driver::start`] occupies.
pub const FREE: u64 = 0x4_0000;
/// A longer wait is a failure.
const PATIENCE: Duration = Duration::from_secs(10);

/// A buffer of a chain: address, length, whether the device writes it.
pub type Buffer = (u64, u32, bool);

/// Zeroed guest memory.
pub fn memory() -> Mem {
    Mem::from_ranges(&[(GuestAddress(0), MEMORY)]).expect("memory for a test")
}

/// For threads that need no filter.
pub fn unconfined() -> Confine {
    Box::new(|| Ok(()))
}

/// A driver and its device.
pub struct Driver {
    /// The device.
    pub mmio: MmioTransport,
    /// Guest memory, shared with the device.
    pub mem: Mem,
    /// The queues, as set up by [`Self::start`].
    pub queues: Vec<Ring>,
}

impl Driver {
    /// Starts the device's worker; the guest has done nothing yet.
    pub fn new<D: VirtioDevice>(device: D) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("device{}", COUNT.fetch_add(1, Ordering::Relaxed));
        Self::confined(&name, device, unconfined())
    }

    /// [`Self::new`] with a thread of this name, confined like this.
    pub fn confined<D: VirtioDevice>(name: &str, device: D, confine: Confine) -> Self {
        let mem = memory();
        let mmio =
            MmioTransport::new(name, device, mem.clone(), confine).expect("a device that starts");
        Self {
            mmio,
            mem,
            queues: Vec::new(),
        }
    }

    /// A line of the worker thread's `/proc` status, without its name.
    pub fn thread_status(&self, key: &str) -> String {
        let name = self.mmio.transport().name();
        for task in std::fs::read_dir("/proc/self/task")
            .expect("/proc")
            .flatten()
        {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            if status.lines().next() == Some(&format!("Name:\t{name}")) {
                let line = status
                    .lines()
                    .find_map(|l| l.strip_prefix(&format!("{key}:")));
                return line.expect("a line of that name").trim().to_owned();
            }
        }
        panic!("no thread {name}");
    }

    /// Asserts that the worker sleeps while nothing happens.
    pub fn assert_asleep(&self) {
        let wakes = || self.thread_status("voluntary_ctxt_switches");
        std::thread::sleep(Duration::from_millis(20));
        let before = wakes();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(wakes(), before, "the worker does not sleep");
        assert!(
            self.thread_status("State").starts_with('S'),
            "the worker spins"
        );
    }

    /// [`Self::new`] and [`Self::start`], with all the device offers.
    pub fn started<D: VirtioDevice>(device: D, size: u16) -> Self {
        let mut driver = Self::new(device);
        driver.start(u64::MAX, size);
        driver
    }

    /// Reads a register.
    pub fn get(&mut self, register: u32) -> u32 {
        let mut data = [0xff; 4];
        self.mmio.read(register.into(), &mut data);
        u32::from_le_bytes(data)
    }

    /// Writes a register.
    pub fn set(&mut self, register: u32, value: u32) {
        self.mmio.write(register.into(), &value.to_le_bytes());
    }

    /// Reads the configuration space.
    pub fn config<const N: usize>(&mut self, offset: u64) -> [u8; N] {
        let mut data = [0xff; N];
        self.mmio
            .read(u64::from(VIRTIO_MMIO_CONFIG) + offset, &mut data);
        data
    }

    /// The status register.
    pub fn status(&mut self) -> u32 {
        self.get(VIRTIO_MMIO_STATUS)
    }

    /// All that the device offers.
    pub fn offered(&mut self) -> u64 {
        let mut half = |n| {
            self.set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, n);
            u64::from(self.get(VIRTIO_MMIO_DEVICE_FEATURES))
        };
        half(0) | half(1) << 32
    }

    /// From reset to FEATURES_OK, with those of `features` that are offered.
    /// Returns what was agreed on.
    pub fn negotiate(&mut self, features: u64) -> u64 {
        for status in [0, 1, 3] {
            self.set(VIRTIO_MMIO_STATUS, status);
        }
        let features = features & self.offered();
        for half in [0, 1] {
            self.set(VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
            self.set(
                VIRTIO_MMIO_DRIVER_FEATURES,
                (features >> (32 * half)) as u32,
            );
        }
        self.set(VIRTIO_MMIO_STATUS, 11);
        assert_eq!(self.status(), 11, "features refused");
        features
    }

    /// Writes a queue's registers and makes it ready; returns whether it is.
    pub fn place(&mut self, queue: u32, at: Placement) -> bool {
        self.set(VIRTIO_MMIO_QUEUE_SEL, queue);
        self.set(VIRTIO_MMIO_QUEUE_NUM, at.size);
        for (low, address) in [
            (VIRTIO_MMIO_QUEUE_DESC_LOW, at.descriptors),
            (VIRTIO_MMIO_QUEUE_AVAIL_LOW, at.available),
            (VIRTIO_MMIO_QUEUE_USED_LOW, at.used),
        ] {
            self.set(low, address as u32);
            self.set(low + 4, (address >> 32) as u32);
        }
        self.set(VIRTIO_MMIO_QUEUE_READY, 1);
        self.get(VIRTIO_MMIO_QUEUE_READY) == 1
    }

    /// The whole start of a driver: afterwards the device runs with empty
    /// queues of `size`, or of what it offers where that is less.
    pub fn start(&mut self, features: u64, size: u16) {
        let features = self.negotiate(features);
        let event_idx = features & 1 << 29 != 0;
        let count = self.mmio.transport().identity().queue_sizes.clone();
        self.queues.clear();
        for (index, max) in (0..).zip(count) {
            let ring = Ring::new(&self.mem, index, size.min(max), event_idx);
            assert!(self.place(index, ring.at), "queue {index} refused");
            self.queues.push(ring);
        }
        self.set(VIRTIO_MMIO_STATUS, 15);
        assert_eq!(self.status(), 15, "device did not start");
    }

    /// Makes a chain available without telling the device; returns its head.
    pub fn offer(&mut self, queue: usize, buffers: &[Buffer]) -> u16 {
        self.queues[queue].offer(&self.mem, buffers)
    }

    /// Notifies the device.
    pub fn kick(&mut self, queue: usize) {
        self.set(VIRTIO_MMIO_QUEUE_NOTIFY, queue as u32);
    }

    /// Takes the next used buffer, if there is one: head and length.
    pub fn used(&mut self, queue: usize) -> Option<(u16, u32)> {
        self.queues[queue].used(&self.mem)
    }

    /// Waits for the next used buffer.
    pub fn wait_used(&mut self, queue: usize) -> (u16, u32) {
        self.wait("a used buffer", |driver| driver.used(queue))
    }

    /// Offers one chain, notifies, and waits until it is used; returns the used length.
    pub fn transact(&mut self, queue: usize, buffers: &[Buffer]) -> u32 {
        let head = self.offer(queue, buffers);
        self.kick(queue);
        let (used, len) = self.wait_used(queue);
        assert_eq!(used, head);
        len
    }

    /// Waits until the device asks to be reset.
    pub fn wait_broken(&mut self) {
        self.wait("DEVICE_NEEDS_RESET and its interrupt", |driver| {
            let interrupt = driver.get(VIRTIO_MMIO_INTERRUPT_STATUS);
            let told = interrupt & VIRTIO_MMIO_INT_CONFIG != 0;
            (told && driver.status() & 0x40 != 0).then_some(())
        });
    }

    /// Waits until `what` comes out.
    pub fn wait<T>(&mut self, name: &str, mut what: impl FnMut(&mut Self) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(value) = what(self) {
                return value;
            }
            assert!(start.elapsed() < PATIENCE, "waited in vain for {name}");
            std::thread::yield_now();
        }
    }

    /// Writes into guest memory.
    pub fn poke(&self, address: u64, bytes: &[u8]) {
        self.mem
            .write_slice(bytes, GuestAddress(address))
            .expect("an address in memory");
    }

    /// Reads guest memory.
    pub fn peek(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.mem
            .read_slice(&mut bytes, GuestAddress(address))
            .expect("an address in memory");
        bytes
    }
}

/// The driver's side of a queue.
#[derive(Debug)]
pub struct Ring {
    /// Where it lies.
    pub at: Placement,
    event_idx: bool,
    free: Vec<u16>,
    chains: Vec<Vec<u16>>,
    available: Wrapping<u16>,
    used: Wrapping<u16>,
}

impl Ring {
    /// An empty queue, its memory zeroed: number `index` of those below [`FREE`].
    pub fn new(mem: &Mem, index: u32, size: u16, event_idx: bool) -> Self {
        let base = 0x1_0000 * u64::from(index);
        let at = Placement {
            size: size.into(),
            descriptors: base,
            available: base + 0x4000,
            used: base + 0x8000,
        };
        assert!(
            size <= 1024 && base + 0x1_0000 <= FREE,
            "no room for the queue"
        );
        mem.write_slice(&[0; 0x1_0000], GuestAddress(base))
            .expect("memory for a queue");
        Self {
            at,
            event_idx,
            free: (0..size).rev().collect(),
            chains: vec![Vec::new(); size.into()],
            available: Wrapping(0),
            used: Wrapping(0),
        }
    }

    /// How many descriptors are free.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Writes one descriptor, whatever it says.
    pub fn descriptor(&self, mem: &Mem, index: u16, address: u64, len: u32, flags: u16, next: u16) {
        let mut raw = [0; 16];
        raw[..8].copy_from_slice(&address.to_le_bytes());
        raw[8..12].copy_from_slice(&len.to_le_bytes());
        raw[12..14].copy_from_slice(&flags.to_le_bytes());
        raw[14..].copy_from_slice(&next.to_le_bytes());
        let at = self.at.descriptors + 16 * u64::from(index);
        mem.write_slice(&raw, GuestAddress(at))
            .expect("a descriptor in memory");
    }

    /// Makes `head` available, whatever stands there.
    pub fn offer_head(&mut self, mem: &Mem, head: u16) {
        let entry = u64::from(self.available.0) % u64::from(self.at.size);
        mem.write_obj(head, GuestAddress(self.at.available + 4 + 2 * entry))
            .expect("a ring");
        self.advance(mem, 1);
    }

    /// Moves the available index on, whatever the entries say.
    pub fn advance(&mut self, mem: &Mem, by: u16) {
        self.available += by;
        let order = Ordering::SeqCst;
        mem.store(self.available.0, GuestAddress(self.at.available + 2), order)
            .expect("a ring");
    }

    /// Makes a chain available; returns its head.
    pub fn offer(&mut self, mem: &Mem, buffers: &[Buffer]) -> u16 {
        assert!(
            !buffers.is_empty() && buffers.len() <= self.free.len(),
            "no free descriptors"
        );
        let chain: Vec<u16> = buffers.iter().filter_map(|_| self.free.pop()).collect();
        for (n, &(address, len, writable)) in buffers.iter().enumerate() {
            let next = chain.get(n + 1).copied();
            let flags = u16::from(next.is_some()) | if writable { 2 } else { 0 };
            self.descriptor(mem, chain[n], address, len, flags, next.unwrap_or(0));
        }
        let head = chain[0];
        self.chains[usize::from(head)] = chain;
        self.offer_head(mem, head);
        head
    }

    /// Takes the next used buffer.
    pub fn used(&mut self, mem: &Mem) -> Option<(u16, u32)> {
        let order = Ordering::SeqCst;
        let index: u16 = mem
            .load(GuestAddress(self.at.used + 2), order)
            .expect("a ring");
        if index == self.used.0 {
            return None;
        }
        let entry = u64::from(self.used.0) % u64::from(self.at.size);
        let element: u64 = mem
            .read_obj(GuestAddress(self.at.used + 4 + 8 * entry))
            .expect("a ring");
        self.used += 1;
        if self.event_idx {
            let at = self.at.available + 4 + 2 * u64::from(self.at.size);
            mem.store(self.used.0, GuestAddress(at), order)
                .expect("a ring");
        }
        let head = element as u16;
        self.free.append(&mut self.chains[usize::from(head)]);
        Some((head, (element >> 32) as u32))
    }
}
