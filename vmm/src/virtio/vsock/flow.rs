//! The state of one connection: plain numbers, no fds, no memory.
//!
//! ```text
//!   guest: REQUEST                                        RST, from either side
//!  ──────────────────> open ──┬─ guest: SHUTDOWN(send) ──┬───────────────────────> over
//!                       │     └─ host: end of file ──────┤   (both ended: we say RST)
//!                       └─ guest breaks the rules ───────┘
//! ```
//! Each direction has its own end and its own credit: a sender may have as many
//! bytes under way as the receiver's `buf_alloc`, counted until the receiver has
//! passed them on (`fwd_cnt`); all counts are modulo 2³² (virtio 1.2 §5.10.6.3).

use super::buffer::Buffer;
use super::packet::{Header, NO_MORE_RECEIVE, NO_MORE_SEND, Op, STREAM};
use crate::unless_off::unless_off;
use std::num::Wrapping;

/// The two ports that name a connection. The context ids are the host's and the guest's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports {
    /// The guest's.
    pub guest: u32,
    /// The host's.
    pub host: u32,
}

/// Bytes passed on that the guest has not been told of, at which it is told.
const TELL: u32 = Buffer::CAPACITY / 4;

/// What is to be said to the guest next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Say {
    /// One packet without payload, with these flags.
    Control(Op, u32),
    /// Data, at most so many bytes, if the host has some.
    Data(u32),
}

/// The guest broke the rules of the protocol: the connection is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation;

/// One connection's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Its name.
    pub ports: Ports,
    /// Bytes from the guest.
    received: Wrapping<u32>,
    /// Bytes of the guest's that the host has taken (our `fwd_cnt`).
    delivered: Wrapping<u32>,
    /// `delivered` as the guest knows it.
    told: Wrapping<u32>,
    /// Bytes to the guest.
    sent: Wrapping<u32>,
    /// The guest's `buf_alloc`.
    guest_room: u32,
    /// The guest's `fwd_cnt`.
    guest_took: Wrapping<u32>,
    /// The guest sends no more.
    guest_ended: bool,
    /// The guest receives no more.
    guest_deaf: bool,
    /// The host sends no more, and all it sent has been passed on.
    host_ended: bool,
    /// The host receives no more.
    host_deaf: bool,
    /// The flags of SHUTDOWN that the guest was told.
    told_ends: u32,
    /// RESPONSE is due.
    answer_due: bool,
    /// A credit update is due.
    update_due: bool,
    /// The guest was asked for credit, and none has come since.
    asked: bool,
    /// RST is due.
    reset_due: bool,
    /// RST was said or heard: the guest's side is over.
    over: bool,
}

impl Flow {
    /// The connection this request opens.
    pub fn open(request: &Header) -> Self {
        Self {
            ports: Ports {
                guest: request.src_port,
                host: request.dst_port,
            },
            received: Wrapping(0),
            delivered: Wrapping(0),
            told: Wrapping(0),
            sent: Wrapping(0),
            guest_room: request.buf_alloc,
            guest_took: Wrapping(request.fwd_cnt),
            guest_ended: false,
            guest_deaf: false,
            host_ended: false,
            host_deaf: false,
            told_ends: 0,
            answer_due: true,
            update_due: false,
            asked: false,
            reset_due: false,
            over: false,
        }
    }

    /// Takes note of a packet's header. Its data, if any, comes separately.
    pub fn hear(&mut self, op: Op, header: &Header) -> Result<(), Violation> {
        self.guest_room = header.buf_alloc;
        self.guest_took = Wrapping(header.fwd_cnt);
        self.asked &= self.credit() == 0;
        match op {
            Op::Data | Op::CreditUpdate => {}
            Op::CreditRequest => self.update_due = true,
            Op::Reset => self.over = true,
            Op::Shutdown => {
                self.guest_ended |= header.flags & NO_MORE_SEND != 0;
                self.guest_deaf |= header.flags & NO_MORE_RECEIVE != 0;
                self.reset_due |= self.guest_ended && self.guest_deaf;
            }
            Op::Request | Op::Response => {
                if unless_off!("vsock-open-twice", true) {
                    return Err(Violation);
                }
            }
        }
        Ok(())
    }

    /// Accepts so many bytes of the guest's, if it may send them; `room` is what
    /// we can hold.
    pub fn receive(&mut self, len: u32, room: u32) -> Result<(), Violation> {
        if unless_off!("vsock-ended", self.guest_ended) || unless_off!("vsock-credit", len > room) {
            return Err(Violation);
        }
        self.received += len;
        Ok(())
    }

    /// So many bytes went to the host (or nowhere, when it is deaf).
    pub fn deliver(&mut self, len: u32) {
        self.delivered += len;
        self.update_due |= (self.delivered - self.told).0 >= TELL;
    }

    /// The host reads no more: what we hold for it has no taker.
    pub fn host_is_deaf(&mut self) {
        self.host_deaf = true;
        self.deliver((self.received - self.delivered).0);
    }

    /// The host has sent its last byte, and we have passed it on.
    pub fn host_has_ended(&mut self) {
        self.host_ended = true;
    }

    /// The connection is to be reset.
    pub fn condemn(&mut self) {
        self.reset_due = true;
    }

    /// Whether the guest's side is over.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Whether the guest's bytes have no taker.
    pub fn is_host_deaf(&self) -> bool {
        self.host_deaf
    }

    /// Whether the guest has sent its last byte.
    pub fn has_guest_ended(&self) -> bool {
        self.guest_ended || self.over
    }

    /// Whether the guest receives no more.
    pub fn is_guest_deaf(&self) -> bool {
        self.guest_deaf || self.over
    }

    /// Bytes the guest has room for.
    fn credit(&self) -> u32 {
        self.guest_room
            .saturating_sub((self.sent - self.guest_took).0)
    }

    /// What to say next. `readable`: the host may have data.
    pub fn next(&self, readable: bool) -> Option<Say> {
        let ends = if self.host_ended { NO_MORE_SEND } else { 0 }
            | if self.host_deaf { NO_MORE_RECEIVE } else { 0 };
        let all_delivered = self.received == self.delivered;
        let control = |op| Some(Say::Control(op, 0));
        if self.over {
            None
        } else if self.reset_due {
            control(Op::Reset)
        } else if self.answer_due {
            control(Op::Response)
        } else if self.told_ends != ends {
            Some(Say::Control(Op::Shutdown, ends))
        } else if self.guest_ended && all_delivered && self.host_ended {
            control(Op::Reset)
        } else if !readable || self.host_ended || self.guest_deaf {
            self.update_due.then_some(Say::Control(Op::CreditUpdate, 0))
        } else if self.credit() > 0 {
            // Its header is a credit update, too.
            Some(Say::Data(self.credit()))
        } else if !self.asked {
            control(Op::CreditRequest)
        } else {
            self.update_due.then_some(Say::Control(Op::CreditUpdate, 0))
        }
    }

    /// The header of what is said now, with `len` bytes of data; takes note of it.
    pub fn say(&mut self, op: Op, flags: u32, len: u32) -> Header {
        self.told = self.delivered;
        self.update_due = false;
        match op {
            Op::Response => self.answer_due = false,
            Op::Shutdown => self.told_ends = flags,
            Op::Reset => self.over = true,
            Op::CreditRequest => self.asked = true,
            Op::Data => self.sent += len,
            Op::Request | Op::CreditUpdate => {}
        }
        Header {
            src_port: self.ports.host,
            dst_port: self.ports.guest,
            len,
            kind: STREAM,
            op: op as u16,
            flags,
            buf_alloc: Buffer::CAPACITY,
            fwd_cnt: self.delivered.0,
            ..Header::default()
        }
    }
}
