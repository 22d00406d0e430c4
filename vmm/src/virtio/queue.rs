//! The split virtqueue, seen from the device, with a driver that may be hostile.
//!
//! Everything the driver writes is copied once; the copy is judged and used.
//! What no honest driver writes is a [`Broken`] queue: the device lets go of all
//! its queues and asks to be reset. It is never a panic, a stall or a loop:
//! a chain has no more descriptors than the queue has entries, and no more
//! chains are taken than the driver can own.
//!
//! Unlike `virtio_queue::Queue` this keeps the rings' places in memory (no
//! look-up per access), publishes used buffers in batches and turns every
//! inconsistency into an error; that crate is the model in the tests.

mod chain;
mod layout;
#[cfg(test)]
mod tests;

use crate::unless_off::unless_off;
pub use chain::{Chain, Cursor, Segment};
pub use layout::{Layout, LayoutError, Part, Placement};
use std::num::Wrapping;
use std::sync::atomic::{Ordering, fence};
use thiserror::Error;
use virtio_bindings::virtio_ring::{VRING_AVAIL_F_NO_INTERRUPT, VRING_USED_F_NO_NOTIFY};
use virtio_queue::desc::split::Descriptor;
use vm_memory::Bytes;

/// Bytes of a descriptor.
const DESCRIPTOR: usize = 16;
/// Where a ring's `idx` and its entries begin, in bytes (virtio 1.2 §2.7.6, §2.7.8).
const RING_INDEX: usize = 2;
const RING_ENTRIES: usize = 4;

/// What no honest driver does to a queue. The device needs a reset.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// More buffers made available than the queue can hold.
    #[error("available index {to} is more than a queue ahead of {from}")]
    AvailableJumps {
        /// What the device had seen.
        from: u16,
        /// What stood there.
        to: u16,
    },
    /// A descriptor index beyond the table.
    #[error("descriptor index {index} is beyond the table of {size}")]
    Index {
        /// As written by the driver.
        index: u16,
        /// Entries.
        size: u16,
    },
    /// More descriptors than the table has.
    #[error("the chain from descriptor {head} loops")]
    Loop {
        /// First descriptor.
        head: u16,
    },
    /// An indirect table, which is not offered.
    #[error("descriptor {index} is indirect, which was not negotiated")]
    Indirect {
        /// The descriptor.
        index: u16,
    },
    /// 4 GiB or more.
    #[error("the chain from descriptor {head} is longer than 4 GiB")]
    TooLong {
        /// First descriptor.
        head: u16,
    },
    /// A readable buffer after a writable one.
    #[error("the chain from descriptor {head} mixes the directions")]
    Order {
        /// First descriptor.
        head: u16,
    },
    /// A buffer that is not guest memory.
    #[error("buffer of {len} bytes at {address:#x} is outside guest memory")]
    Outside {
        /// Guest physical.
        address: u64,
        /// Bytes.
        len: u32,
    },
    /// A chain without room for what its device must find or leave there.
    #[error("the chain is too short for its device")]
    Short,
    /// A ring could not be read or written.
    #[error("the queue's memory cannot be accessed")]
    Ring,
}

/// How far a queue has come: all there is to take along in a snapshot beside
/// its [`Placement`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Next entry of the available ring to look at.
    pub next_available: u16,
    /// Next entry of the used ring to fill.
    pub next_used: u16,
}

/// A queue at work. Owned by its device, out of the transport's reach.
#[derive(Debug)]
pub struct Virtqueue {
    layout: Layout,
    event_idx: bool,
    next_available: Wrapping<u16>,
    /// The driver's `idx` when last read: entries up to here are ours to take.
    seen_available: Wrapping<u16>,
    next_used: Wrapping<u16>,
    /// `next_used` as last published to the driver.
    published: Wrapping<u16>,
    /// `next_used` when last decided whether to interrupt.
    signalled: Wrapping<u16>,
    /// The driver was told not to notify (only without the event index).
    suppressed: bool,
}

impl Virtqueue {
    /// A queue at its start, or where `progress` says.
    pub fn new(layout: Layout, event_idx: bool, progress: Progress) -> Self {
        let next_used = Wrapping(progress.next_used);
        Self {
            layout,
            event_idx,
            next_available: Wrapping(progress.next_available),
            seen_available: Wrapping(progress.next_available),
            next_used,
            published: next_used,
            signalled: next_used,
            suppressed: false,
        }
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        Progress {
            next_available: self.next_available.0,
            next_used: self.next_used.0,
        }
    }

    /// Number of entries.
    pub fn size(&self) -> u16 {
        self.layout.size()
    }

    /// Takes the next available chain; false when there is none.
    pub fn pop(&mut self, chain: &mut Chain) -> Result<bool, Broken> {
        if self.next_available == self.seen_available && !self.look()? {
            return Ok(false);
        }
        let entry = usize::from(self.next_available.0 % self.size());
        let head = self.read_available(RING_ENTRIES + 2 * entry)?;
        self.walk(head, chain)?;
        self.next_available += 1;
        Ok(true)
    }

    /// Gives back the chain taken last, as if it had not been taken.
    pub fn unpop(&mut self) {
        self.next_available -= 1;
    }

    /// Puts a chain on the used ring, with the number of bytes written to it.
    /// The driver sees it after [`Self::publish`].
    pub fn push(&mut self, chain: &Chain, written: u32) -> Result<(), Broken> {
        let entry = usize::from(self.next_used.0 % self.size());
        let element = u64::from(chain.head) | u64::from(written) << 32;
        self.layout
            .used
            .slice()
            .write_slice(&element.to_le_bytes(), RING_ENTRIES + 8 * entry)
            .map_err(|_| Broken::Ring)?;
        self.next_used += 1;
        Ok(())
    }

    /// Shows the driver all that was pushed.
    pub fn publish(&mut self) -> Result<(), Broken> {
        if self.published != self.next_used {
            self.store_used(RING_INDEX, self.next_used.0, Ordering::Release)?;
            self.published = self.next_used;
        }
        Ok(())
    }

    /// Whether the driver wants an interrupt for what was published since this
    /// was last asked (virtio 1.2 §2.7.7).
    pub fn wants_interrupt(&mut self) -> Result<bool, Broken> {
        let new = self.published - self.signalled;
        if new.0 == 0 {
            return Ok(false);
        }
        // The used index must be visible before the driver's wish is read, or
        // both sides could conclude that no interrupt is needed.
        fence(Ordering::SeqCst);
        self.signalled = self.published;
        if self.event_idx {
            let event = Wrapping(self.read_available(RING_ENTRIES + 2 * usize::from(self.size()))?);
            return Ok(self.published - event - Wrapping(1) < new);
        }
        Ok(u32::from(self.read_available(0)?) & VRING_AVAIL_F_NO_INTERRUPT == 0)
    }

    /// Tells the driver that it need not notify while we work. (With the event
    /// index it only notifies where [`Self::arm`] asked.)
    pub fn suppress(&mut self) -> Result<(), Broken> {
        if !self.event_idx && !self.suppressed {
            self.store_used(0, VRING_USED_F_NO_NOTIFY as u16, Ordering::Relaxed)?;
            self.suppressed = true;
        }
        Ok(())
    }

    /// Asks for a notification of the next available chain. True when one came
    /// in the meantime: look again instead of waiting.
    pub fn arm(&mut self) -> Result<bool, Broken> {
        if self.event_idx {
            let at = RING_ENTRIES + 8 * usize::from(self.size());
            self.store_used(at, self.next_available.0, Ordering::Relaxed)?;
        } else if self.suppressed {
            self.store_used(0, 0, Ordering::Relaxed)?;
            self.suppressed = false;
        }
        // Our wish must be visible before the driver's index is read again.
        fence(Ordering::SeqCst);
        if self.next_available != self.seen_available {
            return Ok(true);
        }
        self.look()
    }

    /// Reads the driver's index; true when there is something new.
    fn look(&mut self) -> Result<bool, Broken> {
        let to = self
            .layout
            .available
            .slice()
            .load::<u16>(RING_INDEX, Ordering::Acquire)
            .map(|v| Wrapping(u16::from_le(v)))
            .map_err(|_| Broken::Ring)?;
        // The driver owns at most as many entries as the queue has, less those
        // that we have taken and not yet used.
        let held = self.next_available - self.next_used;
        let room = Wrapping(self.size()) - held;
        if unless_off!("available-jump", to - self.next_available > room) {
            return Err(Broken::AvailableJumps {
                from: self.next_available.0,
                to: to.0,
            });
        }
        self.seen_available = to;
        Ok(to != self.next_available)
    }

    /// Copies the chain that begins at `head`, judging every descriptor.
    fn walk(&self, head: u16, chain: &mut Chain) -> Result<(), Broken> {
        let size = self.size();
        let table = self.layout.descriptors.slice();
        chain.clear(head);
        let mut index = head;
        let mut most = u32::from(size);
        if !unless_off!("chain-length", true) {
            most = 1 << 20;
        }
        for _ in 0..most {
            if index >= size {
                return Err(Broken::Index { index, size });
            }
            let descriptor: Descriptor = table
                .read_obj(DESCRIPTOR * usize::from(index))
                .map_err(|_| Broken::Ring)?;
            if unless_off!("indirect", descriptor.refers_to_indirect_table()) {
                return Err(Broken::Indirect { index });
            }
            let segment = Segment {
                address: descriptor.addr(),
                len: descriptor.len(),
            };
            chain.push(segment, descriptor.is_write_only())?;
            if !descriptor.has_next() {
                return Ok(());
            }
            index = descriptor.next();
        }
        Err(Broken::Loop { head })
    }

    fn read_available(&self, at: usize) -> Result<u16, Broken> {
        let value = self
            .layout
            .available
            .slice()
            .load::<u16>(at, Ordering::Relaxed);
        value.map(u16::from_le).map_err(|_| Broken::Ring)
    }

    fn store_used(&self, at: usize, value: u16, order: Ordering) -> Result<(), Broken> {
        let stored = self.layout.used.slice().store(value.to_le(), at, order);
        stored.map_err(|_| Broken::Ring)
    }
}
