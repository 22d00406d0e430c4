//! The block device (virtio 1.2 §5.2): one queue, one raw disk, synchronous.

mod disk;
mod request;
#[cfg(test)]
mod tests;

use super::device::{Active, COMMON_FEATURES, ConfigSpace, DeviceType, Identity, VirtioDevice};
use super::guest_io::{GuestIo, TransferError};
use super::queue::{Broken, Chain};
use super::worker::{Events, Next};
pub use disk::{Disk, DiskError, SERIAL};
pub use request::{MAX_DATA, SECTOR};
use request::{Operation, Request, SEG_MAX, SIZE_MAX, Status};
use virtio_bindings::virtio_blk::*;

/// Entries of the request queue.
const QUEUE_SIZE: u16 = 256;
/// Completions after which a driver that waits is told, though there is more to do.
const BATCH: u32 = 32;

/// A disk and, while the guest drives it, its queue.
#[derive(Debug)]
pub struct Block {
    disk: Disk,
    io: GuestIo,
    chain: Chain,
    active: Option<Active>,
}

impl Block {
    /// A device for this disk.
    pub fn new(disk: Disk) -> Self {
        Self {
            disk,
            io: GuestIo::new(),
            chain: Chain::new(),
            active: None,
        }
    }

    /// The configuration space (virtio 1.2 §5.2.4), up to `blk_size`.
    fn config(&self) -> Vec<u8> {
        let geometry = [0; 4];
        let words = [
            SIZE_MAX,
            SEG_MAX,
            u32::from_le_bytes(geometry),
            SECTOR as u32,
        ];
        let capacity = self.disk.sectors().to_le_bytes();
        capacity
            .into_iter()
            .chain(words.into_iter().flat_map(u32::to_le_bytes))
            .collect()
    }
}

impl VirtioDevice for Block {
    fn identity(&self) -> Identity {
        let mut features = COMMON_FEATURES;
        for bit in [
            VIRTIO_BLK_F_SIZE_MAX,
            VIRTIO_BLK_F_SEG_MAX,
            VIRTIO_BLK_F_BLK_SIZE,
            VIRTIO_BLK_F_FLUSH,
        ] {
            features |= 1 << bit;
        }
        if self.disk.read_only() {
            features |= 1 << VIRTIO_BLK_F_RO;
        }
        Identity {
            device_type: DeviceType::Block,
            features,
            queue_sizes: vec![QUEUE_SIZE],
            config: ConfigSpace::new(self.config()),
        }
    }

    fn activate(&mut self, active: Active) {
        self.active = Some(active);
    }

    fn kicked(&mut self, _queue: usize, _: &Events) -> Result<Next, Broken> {
        let Some(active) = &mut self.active else {
            return Ok(Next::Wait);
        };
        let write_through = !active.has(VIRTIO_BLK_F_FLUSH);
        let mut work = Work {
            disk: &self.disk,
            io: &mut self.io,
            write_through,
        };
        let mut done = 0;
        loop {
            active.queues[0].suppress()?;
            while !active.halt.requested() && active.queues[0].pop(&mut self.chain)? {
                let written = work.serve(&active.mem, &self.chain)?;
                active.queues[0].push(&self.chain, written)?;
                active.queues[0].publish()?;
                done += 1;
                if done % BATCH == 0 {
                    active.flush(0)?;
                }
            }
            active.flush(0)?;
            if active.halt.requested() || !active.queues[0].arm()? {
                return Ok(Next::Wait);
            }
        }
    }

    fn reset(&mut self, _: &Events) {
        self.active = None;
    }
}

/// What serving a request takes.
struct Work<'a> {
    disk: &'a Disk,
    io: &'a mut GuestIo,
    /// The driver can't flush, so that every write has to be stable (§5.2.6.2).
    write_through: bool,
}

impl Work<'_> {
    /// Serves one request; returns how many bytes from the first writable one on
    /// were written. The status is written last.
    fn serve(&mut self, mem: &super::Mem, chain: &Chain) -> Result<u32, Broken> {
        let mut request = Request::parse(mem, chain, self.disk.sectors(), self.disk.read_only())?;
        let (status, filled) = match request.operation {
            Operation::Read { offset, to } => {
                (status(self.disk.read(self.io, mem, to, offset))?, to.left())
            }
            Operation::Write { offset, from } => {
                let mut outcome = self.disk.write(self.io, mem, from, offset);
                if outcome.is_ok() && self.write_through {
                    outcome = self.disk.flush().map_err(TransferError::Io);
                }
                (status(outcome)?, 0)
            }
            Operation::Flush => (status(self.disk.flush().map_err(TransferError::Io))?, 0),
            Operation::GetId { mut to } => {
                to.write(mem, self.disk.serial())?;
                (Status::Ok, SERIAL as u32)
            }
            Operation::Refuse(status) => (status, 0),
        };
        request.status.write(mem, &[status as u8])?;
        // Only an unbroken stretch from the first byte counts (§2.7.8.2), and the
        // status lies behind the answer.
        let filled = if status == Status::Ok { filled } else { 0 };
        Ok(filled + u32::from(filled == request.answer_len))
    }
}

/// An I/O error is the guest's to handle; a bad buffer breaks the queue.
fn status(outcome: Result<(), TransferError>) -> Result<Status, Broken> {
    match outcome {
        Ok(()) => Ok(Status::Ok),
        Err(TransferError::Broken(broken)) => Err(broken),
        Err(TransferError::Io(_) | TransferError::EndOfFile) => Ok(Status::IoError),
    }
}
