//! A split virtqueue from the driver's side (virtio 1.2 §2.7), all of it in reach.

use casemate_guest_base::{peek, poke};
use core::sync::atomic::{Ordering, fence};

/// Descriptor flags.
pub const NEXT: u16 = 1;
/// The device writes the buffer.
pub const WRITE: u16 = 2;
/// The buffer is a table of descriptors.
pub const INDIRECT: u16 = 4;

/// One buffer of a chain.
#[derive(Debug, Clone, Copy)]
pub struct Buffer {
    /// Physical.
    pub address: u64,
    /// In bytes.
    pub len: u32,
    /// [`WRITE`] or 0, and whatever an attack puts there.
    pub flags: u16,
}

/// A buffer that the device reads.
pub fn readable(address: u64, len: u32) -> Buffer {
    Buffer {
        address,
        len,
        flags: 0,
    }
}

/// A buffer that the device writes.
pub fn writable(address: u64, len: u32) -> Buffer {
    Buffer {
        address,
        len,
        flags: WRITE,
    }
}

/// Where a queue lies, as the driver tells the device.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Entries.
    pub size: u32,
    /// The descriptor table.
    pub descriptors: u64,
    /// The available ring.
    pub available: u64,
    /// The used ring.
    pub used: u64,
}

impl Place {
    /// The three parts one after another, a page or more each.
    pub fn at(base: u64, size: u32) -> Self {
        Self {
            size,
            descriptors: base,
            available: base + 0x4000,
            used: base + 0x8000,
        }
    }
}

/// A queue's driver.
#[derive(Debug, Clone, Copy)]
pub struct Queue {
    /// Where it lies.
    pub at: Place,
    /// The available ring's index as last written.
    pub made: u16,
    /// Used entries taken.
    pub taken: u16,
    /// The next descriptor to use.
    descriptor: u16,
}

impl Queue {
    /// An empty queue; clears its memory.
    pub fn new(at: Place) -> Self {
        for offset in (0..0xc000).step_by(8) {
            poke(at.descriptors + offset, 0u64);
        }
        Self::over(at)
    }

    /// The same without touching memory: for queues in places of their own.
    pub fn over(at: Place) -> Self {
        Self {
            at,
            made: 0,
            taken: 0,
            descriptor: 0,
        }
    }

    /// Entries.
    pub fn size(&self) -> u16 {
        self.at.size as u16
    }

    /// Writes a descriptor.
    pub fn describe(&self, index: u16, buffer: Buffer, next: u16) {
        let at = self.at.descriptors + 16 * u64::from(index);
        poke(at, buffer.address);
        poke(at + 8, buffer.len);
        poke(at + 12, buffer.flags);
        poke(at + 14, next);
    }

    /// Writes a chain to the next descriptors; returns its head.
    pub fn chain(&mut self, buffers: &[Buffer]) -> u16 {
        let size = self.size();
        let head = self.descriptor;
        for (n, &buffer) in (0..).zip(buffers) {
            let index = head.wrapping_add(n) % size;
            let last = usize::from(n) + 1 == buffers.len();
            let flags = buffer.flags | if last { 0 } else { NEXT };
            self.describe(index, Buffer { flags, ..buffer }, (index + 1) % size);
        }
        self.descriptor = (head + buffers.len() as u16) % size;
        head
    }

    /// Puts a head on the available ring without showing it.
    pub fn enter(&mut self, head: u16) {
        let entry = u64::from(self.made % self.size());
        poke(self.at.available + 4 + 2 * entry, head);
        self.made = self.made.wrapping_add(1);
    }

    /// Shows the device all that was entered.
    pub fn show(&self) {
        fence(Ordering::SeqCst);
        poke(self.at.available + 2, self.made);
        fence(Ordering::SeqCst);
    }

    /// Makes a chain available.
    pub fn offer(&mut self, buffers: &[Buffer]) -> u16 {
        let head = self.chain(buffers);
        self.enter(head);
        self.show();
        head
    }

    /// The used ring's index.
    pub fn used(&self) -> u16 {
        fence(Ordering::SeqCst);
        peek(self.at.used + 2)
    }

    /// Takes the next used entry, if there is one: head and bytes written.
    pub fn take(&mut self) -> Option<(u32, u32)> {
        if self.used() == self.taken {
            return None;
        }
        let at = self.at.used + 4 + 8 * u64::from(self.taken % self.size());
        self.taken = self.taken.wrapping_add(1);
        Some((peek(at), peek(at + 4)))
    }
}
