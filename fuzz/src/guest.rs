//! A guest that sets up queues, properly or not, and does anything with them.

use arbitrary::Arbitrary;
use casemate_vmm::virtio::Mem;
use casemate_vmm::virtio::device::VirtioDevice;
use casemate_vmm::virtio::queue::Placement;
use casemate_vmm::virtio::testing::direct::Direct;
use vm_memory::{Bytes, GuestAddress};

/// Guest memory: two regions that meet, and one behind a hole.
const REGIONS: [(u64, usize); 3] = [(0, 0x4_0000), (0x4_0000, 0x2_0000), (0x10_0000, 0x1000)];
/// The first byte that no properly placed queue occupies.
const FREE: u64 = 0x3_0000;

/// Zeroed guest memory.
pub fn memory() -> Mem {
    let regions = REGIONS.map(|(at, len)| (GuestAddress(at), len));
    Mem::from_ranges(&regions).expect("guest memory")
}

/// An address that the guest names.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Place {
    /// Memory that is free, near where regions meet.
    Free(u16),
    /// Inside the rings.
    Rings(u16),
    /// Around the end of memory and the hole.
    Edge(u8),
    /// Anything.
    Any(u64),
}

impl Place {
    /// As a guest-physical address.
    pub fn address(self) -> u64 {
        match self {
            Self::Free(n) => FREE + u64::from(n) * 2,
            Self::Rings(n) => u64::from(n) % 0x300,
            Self::Edge(n) => {
                let ends = REGIONS.map(|(at, len)| at + len as u64);
                (ends[usize::from(n) % 3] + u64::from(n) / 3).saturating_sub(48)
            }
            Self::Any(n) => n,
        }
    }
}

/// A buffer's length.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Len {
    /// Of the usual size.
    Small(u8),
    /// Sectors of 512 bytes.
    Sectors(u8),
    /// Anything.
    Any(u32),
}

impl Len {
    /// In bytes.
    pub fn bytes(self) -> u32 {
        match self {
            Self::Small(n) => n.into(),
            Self::Sectors(n) => u32::from(n) * 512,
            Self::Any(n) => n,
        }
    }
}

/// A buffer of a chain.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub struct Buffer {
    pub at: Place,
    pub len: Len,
    pub writable: bool,
}

/// How the queues are placed.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub struct Start {
    pub features: u64,
    /// log₂ of the size.
    pub size: u8,
    /// Moves the first queue's areas from where they should lie.
    pub moved: Option<(Place, Place, Place)>,
}

/// One thing a guest does.
#[derive(Debug, Clone, Arbitrary)]
pub enum Step<R> {
    /// What the device is for, with a header of its own.
    Request(R),
    /// A chain as it should be, of any buffers.
    Chain(u8, Vec<Buffer>),
    /// A descriptor of any kind.
    Descriptor {
        queue: u8,
        index: u8,
        at: Place,
        len: Len,
        flags: u8,
        next: u16,
    },
    /// Makes a head available, whatever stands there.
    Head(u8, u16),
    /// Moves an available index.
    Advance(u8, u16),
    /// Writes into memory.
    Poke(Place, [u8; 8]),
    /// Notifies a queue.
    Kick(u8),
    /// Resets and starts again.
    Start(Start),
}

/// The driver's side of a queue.
#[derive(Debug, Clone, Copy)]
struct Ring {
    at: Placement,
    descriptor: u16,
    available: u16,
}

/// A guest and its device.
pub struct Guest<D: VirtioDevice> {
    pub device: Direct<D>,
    pub mem: Mem,
    rings: Vec<Ring>,
}

impl<D: VirtioDevice> Guest<D> {
    /// A device that runs with `queues` empty queues of 16 entries.
    pub fn new(device: D, queues: usize) -> Self {
        let mem = memory();
        let mut guest = Self {
            device: Direct::new(device, mem.clone()),
            mem,
            rings: Vec::with_capacity(queues),
        };
        guest.restart(queues);
        guest
    }

    /// Resets the device and starts it properly.
    pub fn restart(&mut self, queues: usize) {
        let proper = Start {
            features: u64::MAX,
            size: 4,
            moved: None,
        };
        self.rings.resize(
            queues,
            Ring {
                at: Placement::default(),
                descriptor: 0,
                available: 0,
            },
        );
        assert!(self.start(proper), "queues in their places are refused");
        assert!(self.device.is_active(), "an empty queue breaks the device");
    }

    fn start(&mut self, start: Start) -> bool {
        let size = 1u32.checked_shl((start.size % 12).into()).unwrap_or(0);
        let small = start.moved.is_none();
        for (n, ring) in (0..).zip(&mut self.rings) {
            let base = n * 0x8000;
            ring.at = Placement {
                size: if small { size.min(64) } else { size },
                descriptors: base,
                available: base + 0x1000,
                used: base + 0x2000,
            };
            (ring.descriptor, ring.available) = (0, 0);
            for address in [base + 0x1000, base + 0x2000] {
                let _ = self.mem.write_slice(&[0; 0x800], GuestAddress(address));
            }
        }
        if let (Some((descriptors, available, used)), Some(ring)) =
            (start.moved, self.rings.first_mut())
        {
            ring.at.descriptors = descriptors.address() & !15;
            ring.at.available = available.address() & !1;
            ring.at.used = used.address() & !3;
        }
        let places: Vec<_> = self.rings.iter().map(|r| r.at).collect();
        self.device.start(start.features | 1 << 32, &places)
    }

    /// Writes what lies in memory, and drops the rest.
    pub fn poke(&mut self, at: u64, bytes: &[u8]) {
        let _ = self.mem.write(bytes, GuestAddress(at));
    }

    fn ring(&mut self, queue: u8) -> (usize, &mut Ring) {
        let queue = usize::from(queue) % self.rings.len();
        (queue, &mut self.rings[queue])
    }

    fn descriptor(&mut self, queue: u8, index: u16, at: u64, len: u32, flags: u16, next: u16) {
        let (_, ring) = self.ring(queue);
        let slot = ring.at.descriptors.wrapping_add(16 * u64::from(index));
        let bytes = [
            &at.to_le_bytes()[..],
            &len.to_le_bytes(),
            &flags.to_le_bytes(),
            &next.to_le_bytes(),
        ];
        self.poke(slot, &bytes.concat());
    }

    fn head(&mut self, queue: u8, head: u16) {
        let (_, ring) = self.ring(queue);
        let size = ring.at.size.max(1);
        let entry = u64::from(ring.available) % u64::from(size);
        let slot = ring.at.available.wrapping_add(4 + 2 * entry);
        self.poke(slot, &head.to_le_bytes());
        self.advance(queue, 1);
    }

    fn advance(&mut self, queue: u8, by: u16) {
        let (_, ring) = self.ring(queue);
        ring.available = ring.available.wrapping_add(by);
        let (at, index) = (ring.at.available.wrapping_add(2), ring.available);
        self.poke(at, &index.to_le_bytes());
    }

    /// Makes a chain available that is one as far as its links go.
    pub fn chain(&mut self, queue: u8, buffers: &[(u64, u32, bool)]) {
        let (_, ring) = self.ring(queue);
        let size = ring.at.size.clamp(1, 256) as u16;
        let first = ring.descriptor;
        ring.descriptor = first.wrapping_add(buffers.len() as u16) % size;
        for (n, &(at, len, writable)) in (0u16..).zip(buffers) {
            let more = usize::from(n) + 1 < buffers.len();
            let (index, next) = (
                first.wrapping_add(n) % size,
                first.wrapping_add(n + 1) % size,
            );
            let flags = u16::from(more) | u16::from(writable) << 1;
            self.descriptor(queue, index, at, len, flags, next);
        }
        self.head(queue, first);
    }

    /// Notifies the device.
    pub fn kick(&mut self, queue: u8) {
        let (queue, _) = self.ring(queue);
        self.device.kick(queue);
    }

    /// Does one thing; `request` does what only this device's guest does.
    pub fn step<R>(&mut self, step: &Step<R>, request: impl FnOnce(&mut Self, &R)) {
        match step {
            Step::Request(what) => request(self, what),
            Step::Chain(queue, buffers) => {
                let buffers = buffers.iter().take(256);
                let buffers: Vec<_> = buffers
                    .map(|b| (b.at.address(), b.len.bytes(), b.writable))
                    .collect();
                if !buffers.is_empty() {
                    self.chain(*queue, &buffers);
                }
            }
            &Step::Descriptor {
                queue,
                index,
                at,
                len,
                flags,
                next,
            } => {
                self.descriptor(
                    queue,
                    index.into(),
                    at.address(),
                    len.bytes(),
                    flags.into(),
                    next,
                );
            }
            &Step::Head(queue, head) => self.head(queue, head),
            &Step::Advance(queue, by) => self.advance(queue, by),
            Step::Poke(at, bytes) => self.poke(at.address(), bytes),
            &Step::Kick(queue) => self.kick(queue),
            &Step::Start(start) => {
                let _ = self.start(start);
            }
        }
    }
}
