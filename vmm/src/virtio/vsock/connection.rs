//! One connection: its [`Flow`], the host's socket, and what the host has not taken yet.

use super::backend::Stream;
use super::buffer::Buffer;
use super::flow::Flow;
use super::packet::{Header, Op};
use crate::virtio::Mem;
use crate::virtio::guest_io::{GuestIo, TransferError, send_bytes};
use crate::virtio::queue::{Broken, Cursor};
use crate::virtio::worker::Events;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{Shutdown, shutdown};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// A connection of the guest's to a socket of the host's.
#[derive(Debug)]
pub struct Connection {
    flow: Flow,
    stream: Stream,
    buffer: Buffer,
    /// Names the connection to epoll.
    token: u32,
    /// The host may have data for us.
    readable: bool,
    /// The host has ended its stream: there is data or the end to be read.
    hung_up: bool,
    /// The host's socket is full; epoll tells when it no longer is.
    blocked: bool,
    /// It waits for its turn to speak.
    queued: bool,
    /// Ends that the host was told of.
    told_end: bool,
    told_deaf: bool,
}

/// What epoll always watches for; a full socket adds `EPOLLOUT`.
const WATCH: EpollFlags = EpollFlags::EPOLLIN.union(EpollFlags::EPOLLRDHUP);

impl Connection {
    /// The connection that `request` opens, watched under `token`.
    pub fn open(request: &Header, stream: Stream, token: u32, events: &Events) -> io::Result<Self> {
        events.watch(stream.as_fd(), token, WATCH)?;
        Ok(Self {
            flow: Flow::open(request),
            stream,
            buffer: Buffer::default(),
            token,
            readable: false,
            hung_up: false,
            blocked: false,
            queued: false,
            told_end: false,
            told_deaf: false,
        })
    }

    /// Its state.
    pub fn flow(&mut self) -> &mut Flow {
        &mut self.flow
    }

    /// What it has to say to the guest.
    pub fn next(&self) -> Option<super::flow::Say> {
        self.flow.next(self.readable)
    }

    /// Takes its place in the line of those who have something to say; false when
    /// it has nothing or stands there already.
    pub fn queue_up(&mut self) -> bool {
        self.next().is_some() && !std::mem::replace(&mut self.queued, true)
    }

    /// Has left that line.
    pub fn dequeued(&mut self) {
        self.queued = false;
    }

    /// Nothing is left to be done on either side.
    pub fn is_finished(&self) -> bool {
        self.flow.is_over() && self.buffer.is_empty()
    }

    /// Takes a packet of the guest's. Breaking the protocol costs it the
    /// connection; buffers that are no memory break the queue.
    pub fn hear(
        &mut self,
        op: Op,
        header: &Header,
        payload: Cursor<'_>,
        mem: &Mem,
        io: &mut GuestIo,
        events: &Events,
    ) -> Result<(), Broken> {
        let allowed = self.flow.hear(op, header).and_then(|()| match op {
            Op::Data => self.flow.receive(payload.left(), self.buffer.room()),
            _ => Ok(()),
        });
        match allowed {
            Err(_) => self.flow.condemn(),
            Ok(()) if op == Op::Data => self.take(payload, mem, io, events)?,
            Ok(()) => {}
        }
        self.tell_host();
        Ok(())
    }

    /// The host's socket is ready.
    pub fn host_ready(&mut self, ready: EpollFlags, events: &Events) {
        self.readable = true;
        self.hung_up |= ready.intersects(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP);
        // After our own end of file, a hang-up only says that both have ended.
        let gone = ready.contains(EpollFlags::EPOLLHUP) && !self.told_end;
        if gone || ready.contains(EpollFlags::EPOLLERR) {
            self.host_is_deaf();
        } else if self.blocked && ready.contains(EpollFlags::EPOLLOUT) {
            self.flush(events);
        }
        self.tell_host();
    }

    /// Moves data of the host's into the guest's buffer; 0 when there is none now
    /// or none any more.
    pub fn receive(
        &mut self,
        room: Cursor<'_>,
        mem: &Mem,
        io: &mut GuestIo,
    ) -> Result<u32, Broken> {
        match io.receive(mem, room, self.stream.as_fd()) {
            Ok(0) => self.flow.host_has_ended(),
            Ok(count) => {
                // A short read has emptied the socket (epoll(7)); only an end
                // that was signalled already would not be signalled again.
                let count = count as u32;
                self.readable = count == room.left() || self.hung_up;
                return Ok(count);
            }
            Err(TransferError::Broken(broken)) => return Err(broken),
            Err(TransferError::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(TransferError::Io(_) | TransferError::EndOfFile) => {
                self.flow.host_has_ended();
                self.host_is_deaf();
            }
        }
        self.readable = false;
        Ok(0)
    }

    /// Ends the stream to the host. What it has been sent, it can still read.
    pub fn close(mut self, events: &Events) {
        self.flush(events);
        let _ = events.unwatch(self.stream.as_fd());
        let _ = shutdown(self.stream.as_raw_fd(), Shutdown::Both);
    }

    /// Passes data on, straight from the guest's memory as far as the host takes it.
    fn take(
        &mut self,
        mut payload: Cursor<'_>,
        mem: &Mem,
        io: &mut GuestIo,
        events: &Events,
    ) -> Result<(), Broken> {
        if self.flow.is_host_deaf() {
            self.flow.deliver(payload.left());
            return Ok(());
        }
        if !self.blocked && payload.left() > 0 {
            match io.send(mem, payload, self.stream.as_fd()) {
                Ok(count) => {
                    self.flow.deliver(count as u32);
                    payload.skip(count as u32);
                }
                Err(TransferError::Broken(broken)) => return Err(broken),
                Err(TransferError::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(TransferError::Io(_) | TransferError::EndOfFile) => {
                    self.host_is_deaf();
                    return Ok(());
                }
            }
        }
        if payload.left() > 0 {
            self.buffer.append(mem, payload)?;
            self.block(events);
        }
        Ok(())
    }

    /// Sends what is held, as far as the host takes it.
    fn flush(&mut self, events: &Events) {
        while !self.buffer.is_empty() {
            match send_bytes(self.stream.as_fd(), self.buffer.front()) {
                Ok(count) => {
                    self.buffer.consume(count);
                    self.flow.deliver(count as u32);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return self.block(events),
                Err(_) => return self.host_is_deaf(),
            }
        }
        if std::mem::take(&mut self.blocked) {
            self.rewatch(events, WATCH);
        }
    }

    fn block(&mut self, events: &Events) {
        if !std::mem::replace(&mut self.blocked, true) {
            self.rewatch(events, WATCH | EpollFlags::EPOLLOUT);
        }
    }

    fn rewatch(&mut self, events: &Events, what: EpollFlags) {
        if events
            .rewatch(self.stream.as_fd(), self.token, what)
            .is_err()
        {
            // Unwatched, the connection would hang: rather end it.
            self.flow.condemn();
            self.host_is_deaf();
        }
    }

    fn host_is_deaf(&mut self) {
        self.flow.host_is_deaf();
        self.buffer.clear();
        self.blocked = false;
    }

    /// Passes the guest's ends on: the end of its data once all of it is delivered.
    fn tell_host(&mut self) {
        let end = self.flow.has_guest_ended() && self.buffer.is_empty();
        for (now, told, how) in [
            (end, &mut self.told_end, Shutdown::Write),
            (
                self.flow.is_guest_deaf(),
                &mut self.told_deaf,
                Shutdown::Read,
            ),
        ] {
            if now && !std::mem::replace(told, true) {
                // Fails only when the host has gone already.
                let _ = shutdown(self.stream.as_raw_fd(), how);
            }
        }
    }
}
