//! What the guest has sent and a slow host has not taken yet: a bounded ring of bytes.

use crate::virtio::Mem;
use crate::virtio::queue::{Broken, Cursor};

/// A ring of at most [`Buffer::CAPACITY`] bytes; costs nothing until it is needed.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Box<[u8]>,
    head: usize,
    len: usize,
}

impl Buffer {
    /// Bytes it holds: the credit we give the guest for each connection.
    pub const CAPACITY: u32 = 256 << 10;

    /// Bytes in it.
    pub fn len(&self) -> u32 {
        self.len as u32
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that still fit.
    pub fn room(&self) -> u32 {
        Self::CAPACITY - self.len()
    }

    /// The oldest bytes, as far as they lie in one piece.
    pub fn front(&self) -> &[u8] {
        let end = (self.head + self.len).min(self.bytes.len());
        &self.bytes[self.head..end]
    }

    /// Drops the oldest bytes.
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.len);
        self.len -= count;
        self.head = match self.len {
            0 => 0,
            _ => (self.head + count) % self.bytes.len(),
        };
    }

    /// Appends guest memory; fails when it does not fit.
    pub fn append(&mut self, mem: &Mem, mut from: Cursor<'_>) -> Result<(), Broken> {
        if from.left() > self.room() {
            return Err(Broken::Short);
        }
        if self.bytes.is_empty() {
            self.bytes = vec![0; Self::CAPACITY as usize].into();
        }
        while from.left() > 0 {
            let start = (self.head + self.len) % self.bytes.len();
            let end = (start + from.left() as usize).min(self.bytes.len());
            from.read(mem, &mut self.bytes[start..end])?;
            self.len += end - start;
        }
        Ok(())
    }

    /// Empties it and gives its memory back.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::queue::{Chain, Layout, Progress, Virtqueue};
    use crate::virtio::testing::{FREE, Ring, memory};
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use vm_memory::{Bytes, GuestAddress};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn is_a_queue_of_bytes(steps in prop::collection::vec((1u32..150_000, 0usize..200_000), 1..20)) {
            let mem = memory();
            let mut ring = Ring::new(&mem, 0, 16, false);
            let layout = Layout::new(&mem, 16, ring.at).unwrap();
            let mut queue = Virtqueue::new(layout, false, Progress::default());
            let (mut buffer, mut model) = (Buffer::default(), VecDeque::new());
            let mut chain = Chain::new();
            for (n, (add, remove)) in (1u8..).zip(steps) {
                let data: Vec<u8> = (0..add).map(|i| (i % 253) as u8 ^ n).collect();
                mem.write_slice(&data, GuestAddress(FREE)).unwrap();
                ring.offer(&mem, &[(FREE, add / 2, false), (FREE + u64::from(add / 2), add - add / 2, false)]);
                prop_assert!(queue.pop(&mut chain).unwrap());
                queue.push(&chain, 0).unwrap();
                queue.publish().unwrap();
                ring.used(&mem);
                let fits = add <= buffer.room();
                prop_assert_eq!(buffer.append(&mem, chain.readable()).is_ok(), fits);
                if fits {
                    model.extend(data);
                }
                prop_assert_eq!(buffer.len() as usize, model.len());
                for _ in 0..2 {
                    let front = buffer.front().len();
                    prop_assert!(front > 0 || model.is_empty());
                    prop_assert!(buffer.front().iter().eq(model.iter().take(front)));
                    let count = front.min(remove / 2);
                    buffer.consume(count);
                    model.drain(..count);
                }
            }
        }
    }
}
