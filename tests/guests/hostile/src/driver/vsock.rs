//! The socket device's driver (virtio 1.2 §5.10).

use super::mmio::Device;
use super::queue::{Buffer, readable, writable};
use crate::outcome::Outcome;
use casemate_guest_base::{peek, poke, wait};

/// The queues.
pub const RX: usize = 0;
pub const TX: usize = 1;
/// Bytes of a header.
pub const HEADER: u32 = 44;
/// The host's context id, and ours.
pub const HOST: u64 = 2;
pub const GUEST: u64 = 3;
/// Bytes of each buffer for what comes in.
pub const ROOM: u32 = 8192;
/// How many of them there are.
const BUFFERS: u64 = 32;

/// Operations.
pub const REQUEST: u16 = 1;
pub const RESPONSE: u16 = 2;
pub const RST: u16 = 3;
pub const SHUTDOWN: u16 = 4;
pub const RW: u16 = 5;
pub const CREDIT_UPDATE: u16 = 6;
pub const CREDIT_REQUEST: u16 = 7;

/// A port of the host's where nobody listens.
pub const NOWHERE: u32 = 9;
/// The first port where the test's own end is; see `vmm/tests/vm/hostile`.
pub const FIRST_PORT: u32 = 1000;

/// A packet's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    pub src_cid: u64,
    pub dst_cid: u64,
    pub src_port: u32,
    pub dst_port: u32,
    pub len: u32,
    pub kind: u16,
    pub op: u16,
    pub flags: u32,
    pub buf_alloc: u32,
    pub fwd_cnt: u32,
}

impl Packet {
    /// From us to the host.
    pub fn new(op: u16, src_port: u32, dst_port: u32) -> Self {
        Self {
            src_cid: GUEST,
            dst_cid: HOST,
            src_port,
            dst_port,
            len: 0,
            kind: 1,
            op,
            flags: 0,
            buf_alloc: 1 << 20,
            fwd_cnt: 0,
        }
    }

    /// Writes it to memory.
    pub fn write(&self, at: u64) {
        poke(at, self.src_cid);
        poke(at + 8, self.dst_cid);
        for (offset, value) in [
            (16, self.src_port),
            (20, self.dst_port),
            (24, self.len),
            (28, u32::from(self.kind) | u32::from(self.op) << 16),
            (32, self.flags),
            (36, self.buf_alloc),
            (40, self.fwd_cnt),
        ] {
            poke(at + offset, value);
        }
    }

    fn read(at: u64) -> Self {
        Self {
            src_cid: peek(at),
            dst_cid: peek(at + 8),
            src_port: peek(at + 16),
            dst_port: peek(at + 20),
            len: peek(at + 24),
            kind: peek(at + 28),
            op: peek(at + 30),
            flags: peek(at + 32),
            buf_alloc: peek(at + 36),
            fwd_cnt: peek(at + 40),
        }
    }
}

/// A connection, as far as a driver has to know it.
#[derive(Debug, Clone, Copy)]
pub struct Connection {
    /// Our port.
    pub guest: u32,
    /// The host's.
    pub host: u32,
    /// Bytes that came.
    pub received: u32,
}

/// The socket device.
pub struct Vsock {
    /// The device.
    pub device: Device,
    /// Where packets to send go.
    pub scratch: u64,
    /// Where packets come in.
    rooms: u64,
    /// Our next port.
    next_port: u32,
    /// The host's next port that leads somewhere.
    next_stream: u32,
}

impl Vsock {
    /// Device `n` of the machine.
    pub fn new(n: u64, scratch: u64, rooms: u64) -> Self {
        Self {
            device: Device::new(n, 3),
            scratch,
            rooms,
            next_port: 5000,
            next_stream: FIRST_PORT,
        }
    }

    /// The start of a proper driver: with buffers for what comes in.
    pub fn start(&mut self) -> bool {
        self.start_deaf() && {
            self.make_room();
            true
        }
    }

    /// The same without any.
    pub fn start_deaf(&mut self) -> bool {
        self.device.start()
    }

    /// Gives the device buffers for what comes in.
    pub fn make_room(&mut self) {
        for n in 0..BUFFERS {
            let at = self.rooms + n * u64::from(ROOM);
            self.device.queues[RX].offer(&[writable(at, ROOM)]);
        }
        self.device.kick(RX);
    }

    /// A port of ours that was not used yet.
    pub fn fresh_port(&mut self) -> u32 {
        self.next_port += 1;
        self.next_port
    }

    /// Sends a packet, with `len` bytes from `scratch + 64` on behind its header, and
    /// waits until the device has taken it.
    pub fn send(&mut self, packet: Packet) -> Outcome {
        packet.write(self.scratch);
        let head = readable(self.scratch, HEADER);
        if packet.len == 0 {
            return self.send_chain(&[head]);
        }
        self.send_chain(&[head, readable(self.scratch + 64, packet.len)])
    }

    /// Sends a chain.
    pub fn send_chain(&mut self, chain: &[Buffer]) -> Outcome {
        self.device.queues[TX].offer(chain);
        let outcome = self.device.verdict(TX);
        while self.device.queues[TX].take().is_some() {}
        outcome
    }

    /// Takes the next packet that came in, if there is one: its header, and where
    /// its bytes were. The buffer goes back to the device at once.
    pub fn receive(&mut self) -> Option<(Packet, u64)> {
        let (head, _) = self.device.queues[RX].take()?;
        let at: u64 = peek(self.device.queues[RX].at.descriptors + 16 * u64::from(head));
        let packet = Packet::read(at);
        self.device.queues[RX].enter(head as u16);
        self.device.queues[RX].show();
        self.device.kick(RX);
        Some((packet, at + u64::from(HEADER)))
    }

    /// Waits for a packet to `port`, and drops others.
    pub fn await_packet(&mut self, port: u32) -> Option<(Packet, u64)> {
        let mut found = None;
        wait(|| {
            found = self.receive().filter(|(packet, _)| packet.dst_port == port);
            found.is_some()
        });
        found
    }

    /// Waits for RST to `port`, whatever else comes before.
    pub fn await_reset(&mut self, port: u32) -> Outcome {
        let came = wait(|| {
            self.receive()
                .is_some_and(|(packet, _)| packet.dst_port == port && packet.op == RST)
        });
        match (came, self.device.is_broken()) {
            (_, true) => Outcome::NeedsReset,
            (true, _) => Outcome::Closed,
            (false, _) => Outcome::Wrong("no RST"),
        }
    }

    /// Sends a packet and waits for RST.
    pub fn refused(&mut self, packet: Packet) -> Outcome {
        match self.send(packet) {
            Outcome::Served => self.await_reset(packet.src_port),
            other => other,
        }
    }

    /// Whether the device answers: a connection to nowhere is refused.
    ///
    /// # Errors
    /// What is not as it should be.
    pub fn check(&mut self) -> Result<(), &'static str> {
        let port = self.fresh_port();
        match self.refused(Packet::new(REQUEST, port, NOWHERE)) {
            Outcome::Closed => Ok(()),
            _ => Err("vsock does not answer"),
        }
    }

    /// Connects to the host's next free stream, where the test's own end waits. The
    /// first byte tells it what to do: see `vmm/tests/vm/hostile`.
    pub fn connect(&mut self) -> Option<Connection> {
        let host = self.next_stream;
        self.next_stream += 1;
        let guest = self.fresh_port();
        self.send(Packet::new(REQUEST, guest, host));
        let (packet, _) = self.await_packet(guest)?;
        (packet.op == RESPONSE).then_some(Connection {
            guest,
            host,
            received: 0,
        })
    }

    /// Sends bytes over a connection.
    pub fn write(&mut self, connection: &Connection, bytes: &[u8]) -> Outcome {
        for (n, &byte) in (0..).zip(bytes) {
            poke(self.scratch + 64 + n, byte);
        }
        self.send(Packet {
            len: bytes.len() as u32,
            ..self.packet(connection, RW)
        })
    }

    /// A packet of a connection's.
    pub fn packet(&self, connection: &Connection, op: u16) -> Packet {
        Packet {
            fwd_cnt: connection.received,
            ..Packet::new(op, connection.guest, connection.host)
        }
    }

    /// Waits for these bytes, which may come in pieces.
    pub fn expect(&mut self, connection: &mut Connection, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some((packet, at)) = self.await_packet(connection.guest) else {
                return false;
            };
            if packet.op != RW {
                if [RST, SHUTDOWN].contains(&packet.op) {
                    return false;
                }
                continue;
            }
            let len = packet.len as usize;
            let same = len <= rest.len() && (0..len).all(|n| peek::<u8>(at + n as u64) == rest[n]);
            if !same {
                return false;
            }
            connection.received = connection.received.wrapping_add(packet.len);
            rest = &rest[len..];
        }
        true
    }

    /// Has the host send some bytes back.
    pub fn echo(&mut self, connection: &mut Connection) -> bool {
        self.write(connection, b"e") == Outcome::Served
            && self.write(connection, b"hello, host") == Outcome::Served
            && self.expect(connection, b"hello, host")
    }
}
