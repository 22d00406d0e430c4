//! System calls that move data between an fd and guest memory without a copy.
//!
//! The kernel gets the addresses of guest memory as iovecs, so that no Rust
//! reference to memory that the guest changes at will ever exists.

use super::Mem;
use super::queue::{Broken, Cursor};
use libc::{c_int, iovec, msghdr};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use thiserror::Error;
use vm_memory::bitmap::Bitmap;

/// Most iovecs one call takes (`UIO_MAXIOV`, readv(2)).
const MAX_IOVECS: usize = 1024;

/// Why a transfer did not happen, or not wholly.
#[derive(Debug, Error)]
pub enum TransferError {
    /// The guest named something that is not memory.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The system call failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file ended before the transfer did: it shrank.
    #[error("the file ended early")]
    EndOfFile,
}

/// Makes transfers; keeps its list of iovecs from one to the next.
#[derive(Debug, Default)]
pub struct GuestIo {
    /// Filled and emptied within each call.
    pieces: Vec<Piece>,
}

/// An iovec as plain numbers: the list may move between threads, pointers may not.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Piece {
    base: usize,
    len: usize,
}
const _: () = assert!(size_of::<Piece>() == size_of::<iovec>());

impl GuestIo {
    /// Without memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Fills the buffers from the file at `offset`, wholly.
    pub fn read_at(
        &mut self,
        mem: &Mem,
        buffers: Cursor<'_>,
        file: BorrowedFd<'_>,
        offset: u64,
    ) -> Result<(), TransferError> {
        let mut list = self.map(mem, buffers, true)?;
        list.whole(offset, |iov, count, at| {
            // SAFETY: `iov` points to `count` iovecs over guest memory that is
            // mapped as long as `list` borrows it, and that nothing else in this
            // process holds a reference to.
            unsafe { libc::preadv(file.as_raw_fd(), iov, count, at) }
        })
    }

    /// Writes the buffers to the file at `offset`, wholly.
    pub fn write_at(
        &mut self,
        mem: &Mem,
        buffers: Cursor<'_>,
        file: BorrowedFd<'_>,
        offset: u64,
    ) -> Result<(), TransferError> {
        self.map(mem, buffers, false)?
            .whole(offset, |iov, count, at| {
                // SAFETY: as in `read_at`; the kernel only reads the memory.
                unsafe { libc::pwritev(file.as_raw_fd(), iov, count, at) }
            })
    }

    /// Receives what the socket has, at most the buffers' length, without
    /// waiting. 0: the peer has ended its stream.
    pub fn receive(
        &mut self,
        mem: &Mem,
        buffers: Cursor<'_>,
        socket: BorrowedFd<'_>,
    ) -> Result<usize, TransferError> {
        let mut list = self.map(mem, buffers, true)?;
        Ok(list.message(|message| {
            // SAFETY: `message` refers to iovecs over guest memory that is
            // mapped as long as `list` borrows it, and to nothing else.
            unsafe { libc::recvmsg(socket.as_raw_fd(), message, libc::MSG_DONTWAIT) }
        })?)
    }

    /// Sends as much of the buffers as the socket takes, without waiting.
    pub fn send(
        &mut self,
        mem: &Mem,
        buffers: Cursor<'_>,
        socket: BorrowedFd<'_>,
    ) -> Result<usize, TransferError> {
        Ok(self.map(mem, buffers, false)?.message(|message| {
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // SAFETY: as in `receive`; the kernel only reads the memory.
            unsafe { libc::sendmsg(socket.as_raw_fd(), message, flags) }
        })?)
    }

    /// Finds the buffers in memory. The kernel bypasses the dirty log: what it
    /// will write is marked here.
    fn map<'a>(
        &'a mut self,
        mem: &'a Mem,
        buffers: Cursor<'_>,
        written: bool,
    ) -> Result<Mapped<'a>, Broken> {
        self.pieces.clear();
        for slice in buffers.slices(mem) {
            let slice = slice?;
            if written {
                slice.bitmap().mark_dirty(0, slice.len());
            }
            self.pieces.push(Piece {
                base: slice.ptr_guard().as_ptr() as usize,
                len: slice.len(),
            });
        }
        Ok(Mapped {
            rest: &mut self.pieces,
            _mem: PhantomData,
        })
    }
}

/// Iovecs over guest memory, which is borrowed as long as they live.
struct Mapped<'a> {
    rest: &'a mut [Piece],
    _mem: PhantomData<&'a Mem>,
}

impl Mapped<'_> {
    fn iovecs(&mut self) -> (*mut iovec, c_int) {
        let count = self.rest.len().min(MAX_IOVECS);
        (self.rest.as_mut_ptr().cast(), count as c_int)
    }

    /// Leaves the first `done` bytes behind.
    fn advance(&mut self, mut done: usize) {
        while let Some(first) = self.rest.first_mut() {
            if done < first.len {
                first.base += done;
                first.len -= done;
                return;
            }
            done -= first.len;
            self.rest = &mut std::mem::take(&mut self.rest)[1..];
        }
    }

    /// Repeats a positioned transfer until all is moved.
    fn whole(
        &mut self,
        mut offset: u64,
        transfer: impl Fn(*const iovec, c_int, i64) -> isize,
    ) -> Result<(), TransferError> {
        while !self.rest.is_empty() {
            let at = i64::try_from(offset).map_err(|_| TransferError::EndOfFile)?;
            let (iov, count) = self.iovecs();
            match retry(|| transfer(iov, count, at))? {
                0 => return Err(TransferError::EndOfFile),
                done => {
                    self.advance(done);
                    offset += done as u64;
                }
            }
        }
        Ok(())
    }

    fn message(&mut self, transfer: impl Fn(*mut msghdr) -> isize) -> io::Result<usize> {
        let (iov, count) = self.iovecs();
        // SAFETY: all zeroes is an empty message without address or control data.
        let mut message: msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = iov;
        message.msg_iovlen = count as usize;
        retry(|| transfer(&mut message))
    }
}

/// Sends bytes of our own to a socket, as much as it takes, without waiting.
pub fn send_bytes(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let mut piece = iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: all zeroes is an empty message without address or control data.
    let mut message: msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut piece;
    message.msg_iovlen = 1;
    retry(|| {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the message refers to `bytes`, which sendmsg only reads.
        unsafe { libc::sendmsg(socket.as_raw_fd(), &message, flags) }
    })
}

fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        let result = call();
        if let Ok(count) = usize::try_from(result) {
            return Ok(count);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
