//! One request to a disk (virtio 1.2 §5.2.6), from its chain to a typed value.

use crate::unless_off::unless_off;
use crate::virtio::Mem;
use crate::virtio::queue::{Broken, Chain, Cursor};
use virtio_bindings::virtio_blk::*;

/// The unit of capacity and offsets, in bytes.
pub const SECTOR: u64 = 512;
/// Largest number of data buffers of a request that we promise to take.
pub const SEG_MAX: u32 = super::QUEUE_SIZE as u32 - 2;
/// Largest data buffer that we promise to take, in bytes.
pub const SIZE_MAX: u32 = 64 << 10;
/// Most data a request moves, in bytes: what a driver can ask for that keeps to
/// the two limits above. More (the same buffer over and over) is refused.
pub const MAX_DATA: u32 = SEG_MAX * SIZE_MAX;

/// Bytes of the header.
const HEADER: usize = 16;

/// What a request asks for.
#[derive(Debug, Clone, Copy)]
pub enum Operation<'c> {
    /// Fill `to` from byte `offset` of the disk.
    Read {
        /// In bytes, within the capacity.
        offset: u64,
        /// Where to.
        to: Cursor<'c>,
    },
    /// Write `from` at byte `offset` of the disk.
    Write {
        /// In bytes, within the capacity.
        offset: u64,
        /// Where from.
        from: Cursor<'c>,
    },
    /// Bring what was written to stable storage.
    Flush,
    /// Tell the disk's serial.
    GetId {
        /// Where to; at least as long as the answer.
        to: Cursor<'c>,
    },
    /// Answer with this status and do nothing.
    Refuse(Status),
}

/// The answer's last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Done.
    Ok = VIRTIO_BLK_S_OK as u8,
    /// Not done.
    IoError = VIRTIO_BLK_S_IOERR as u8,
    /// Unknown.
    Unsupported = VIRTIO_BLK_S_UNSUPP as u8,
}

/// A request: what to do, and where its status goes.
#[derive(Debug)]
pub struct Request<'c> {
    /// What to do.
    pub operation: Operation<'c>,
    /// The last writable byte.
    pub status: Cursor<'c>,
    /// Writable bytes before the status.
    pub answer_len: u32,
}

impl<'c> Request<'c> {
    /// Judges a chain. A chain without room for a header and a status breaks the
    /// queue: there is no way to answer it.
    pub fn parse(
        mem: &Mem,
        chain: &'c Chain,
        sectors: u64,
        read_only: bool,
    ) -> Result<Self, Broken> {
        let mut readable = chain.readable();
        let mut header = [0; HEADER];
        readable.read(mem, &mut header)?;
        let [a, b, c, d, _, _, _, _, s @ ..] = header;
        let (kind, sector) = (u32::from_le_bytes([a, b, c, d]), u64::from_le_bytes(s));

        let mut status = chain.writable();
        let answer_len = chain.writable_len().checked_sub(1).ok_or(Broken::Short)?;
        let answer = status.take(answer_len);

        let operation = match kind {
            VIRTIO_BLK_T_IN => match extent(sector, answer.left(), sectors) {
                Some(offset) => Operation::Read { offset, to: answer },
                None => Operation::Refuse(Status::IoError),
            },
            VIRTIO_BLK_T_OUT => match extent(sector, readable.left(), sectors) {
                Some(offset) if !read_only => Operation::Write {
                    offset,
                    from: readable,
                },
                _ => Operation::Refuse(Status::IoError),
            },
            VIRTIO_BLK_T_FLUSH => Operation::Flush,
            VIRTIO_BLK_T_GET_ID
                if unless_off!("get-id-room", answer.left() < VIRTIO_BLK_ID_BYTES) =>
            {
                Operation::Refuse(Status::IoError)
            }
            VIRTIO_BLK_T_GET_ID => Operation::GetId { to: answer },
            _ => Operation::Refuse(Status::Unsupported),
        };
        Ok(Self {
            operation,
            status,
            answer_len,
        })
    }
}

/// The byte offset of `len` bytes at `sector`, if they are whole sectors within
/// the disk and within [`MAX_DATA`].
fn extent(sector: u64, len: u32, sectors: u64) -> Option<u64> {
    if unless_off!("whole-sectors", !u64::from(len).is_multiple_of(SECTOR))
        || unless_off!("some-data", len == 0)
        || unless_off!("most-data", len > MAX_DATA)
    {
        return None;
    }
    let end = sector.checked_add(u64::from(len) / SECTOR)?;
    if unless_off!("disk-end", end > sectors) {
        return None;
    }
    sector.checked_mul(SECTOR)
}
