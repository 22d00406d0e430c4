//! A descriptor chain, copied out of guest memory.

use super::super::Mem;
use super::Broken;
use crate::unless_off::unless_off;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, VolatileSlice};

/// One buffer of a chain. Guest physical, not yet known to be memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// First byte.
    pub address: GuestAddress,
    /// Length in bytes, not 0.
    pub len: u32,
}

/// A chain the driver made available: the copy that was judged, and the only
/// one looked at. Buffers the device reads come before those it writes.
#[derive(Debug, Default)]
pub struct Chain {
    pub(super) head: u16,
    pub(super) segments: Vec<Segment>,
    /// How many of `segments` the device may read; it may write the others.
    pub(super) readable: usize,
    pub(super) readable_len: u32,
    pub(super) writable_len: u32,
}

impl Chain {
    /// An empty chain to be filled by [`super::Virtqueue::pop`], again and again.
    pub fn new() -> Self {
        Self::default()
    }

    /// The index that names the chain in the used ring.
    pub fn head(&self) -> u16 {
        self.head
    }

    /// Bytes the device may read.
    pub fn readable_len(&self) -> u32 {
        self.readable_len
    }

    /// Bytes the device may write.
    pub fn writable_len(&self) -> u32 {
        self.writable_len
    }

    /// The part the device may read.
    pub fn readable(&self) -> Cursor<'_> {
        Cursor {
            segments: &self.segments[..self.readable],
            offset: 0,
            left: self.readable_len,
        }
    }

    /// The part the device may write.
    pub fn writable(&self) -> Cursor<'_> {
        Cursor {
            segments: &self.segments[self.readable..],
            offset: 0,
            left: self.writable_len,
        }
    }

    pub(super) fn clear(&mut self, head: u16) {
        self.head = head;
        self.segments.clear();
        self.readable = 0;
        self.readable_len = 0;
        self.writable_len = 0;
    }

    /// Appends a buffer; false when the whole chain would pass 4 GiB (virtio 1.2
    /// §2.7.5.2) or a readable buffer follows a writable one (§2.7.4.2).
    pub(super) fn push(&mut self, segment: Segment, writable: bool) -> Result<(), Broken> {
        let total = self.readable_len.checked_add(self.writable_len);
        let whole = total.and_then(|t| t.checked_add(segment.len));
        if unless_off!("chain-4-gib", whole.is_none()) {
            return Err(Broken::TooLong { head: self.head });
        }
        if writable {
            self.writable_len += segment.len;
        } else if unless_off!(
            "chain-order",
            self.readable != self.segments.len() || self.writable_len != 0
        ) {
            return Err(Broken::Order { head: self.head });
        } else {
            self.readable_len += segment.len;
        }
        if segment.len != 0 {
            self.segments.push(segment);
            self.readable += usize::from(!writable);
        }
        Ok(())
    }
}

/// A position in one direction's buffers of a chain.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'c> {
    segments: &'c [Segment],
    /// Bytes of the first segment that are behind us.
    offset: u32,
    left: u32,
}

impl<'c> Cursor<'c> {
    /// Bytes that are left.
    pub fn left(&self) -> u32 {
        self.left
    }

    /// Takes the next `len` bytes (or what is left) as a cursor of their own.
    pub fn take(&mut self, len: u32) -> Self {
        let taken = Self {
            left: len.min(self.left),
            ..*self
        };
        self.skip(len);
        taken
    }

    /// Moves on by `len` bytes, at most to the end.
    pub fn skip(&mut self, len: u32) {
        let mut len = len.min(self.left);
        self.left -= len;
        while let Some(first) = self.segments.first() {
            let here = first.len - self.offset;
            if len < here {
                self.offset += len;
                return;
            }
            len -= here;
            self.segments = &self.segments[1..];
            self.offset = 0;
        }
    }

    /// The guest memory from here to the end, piece by piece.
    pub fn slices<'m>(
        mut self,
        mem: &'m Mem,
    ) -> impl Iterator<Item = Result<VolatileSlice<'m>, Broken>> + use<'m, 'c> {
        std::iter::from_fn(move || {
            let first = self.segments.first()?;
            let len = (first.len - self.offset).min(self.left);
            let address = first.address.0.checked_add(self.offset.into());
            self.skip(len);
            (len != 0).then_some(Piece { address, len })
        })
        .flat_map(move |piece| piece.slices(mem))
    }

    /// Copies the next bytes out; fails when fewer are left.
    pub fn read(&mut self, mem: &Mem, mut to: &mut [u8]) -> Result<(), Broken> {
        for slice in self.want(to.len())?.slices(mem) {
            let slice = slice?;
            let (now, later) = to.split_at_mut(slice.len());
            slice.copy_to(now);
            to = later;
        }
        Ok(())
    }

    /// Copies bytes in; fails when there is less room.
    pub fn write(&mut self, mem: &Mem, mut from: &[u8]) -> Result<(), Broken> {
        for slice in self.want(from.len())?.slices(mem) {
            let slice = slice?;
            let (now, later) = from.split_at(slice.len());
            slice.write_slice(now, 0).map_err(|_| Broken::Short)?;
            from = later;
        }
        Ok(())
    }

    fn want(&mut self, len: usize) -> Result<Self, Broken> {
        match u32::try_from(len) {
            Ok(len) if len <= self.left => Ok(self.take(len)),
            _ => Err(Broken::Short),
        }
    }
}

/// A stretch of guest physical addresses.
struct Piece {
    /// `None` when it would start beyond 64 bits.
    address: Option<u64>,
    len: u32,
}

impl Piece {
    /// As memory: one slice, or more where it crosses from one region to the next.
    fn slices<'m>(self, mem: &'m Mem) -> impl Iterator<Item = Result<VolatileSlice<'m>, Broken>> {
        let Self { address, len } = self;
        let outside = Broken::Outside {
            address: address.unwrap_or(u64::MAX),
            len,
        };
        let found = address.map(|a| mem.get_slices(GuestAddress(a), len as usize));
        let nowhere = address.is_none().then_some(Err(outside));
        found
            .into_iter()
            .flatten()
            .map(move |s| s.map_err(|_| outside))
            .chain(nowhere)
    }
}
