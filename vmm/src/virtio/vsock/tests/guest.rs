//! A guest's socket driver, as far as the tests need one.

use super::super::packet::{HEADER, Header, Op, STREAM};
use super::super::{Streams, Vsock};
use crate::virtio::testing::{Driver, FREE};
use casemate_proto::control::StreamConfig;
use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::time::Duration;

pub const CID: u64 = 3;
/// The host ports that lead somewhere.
pub const PORTS: [u32; 3] = [1024, 1025, 1026];
/// The guest's port.
pub const MINE: u32 = 5000;
/// Bytes of a receive buffer, as in Linux.
pub const RX_BUFFER: u32 = 4096;
pub const RX_AREA: u64 = FREE;
pub const TX_AREA: u64 = FREE + 0x10_0000;
/// Where headers and payloads of the packets to the device lie, in slots that are
/// used in turn.
pub const HEADER_SLOTS: u64 = 128;
const PAYLOADS: u64 = TX_AREA + 0x1_0000;
const PAYLOAD_SLOT: u64 = 0x1_0000;
const PAYLOAD_SLOTS: u64 = 32;
/// Where packet `n`'s header lies.
pub fn header_at(n: u64) -> u64 {
    TX_AREA + n % HEADER_SLOTS * 0x40
}

pub struct Guest {
    pub driver: Driver,
    /// The host's ends, in order of [`PORTS`].
    pub hosts: Vec<UnixStream>,
    /// Receive buffers by head.
    posted: HashMap<u16, u64>,
    sent: u64,
    pub buf_alloc: u32,
    pub fwd_cnt: u32,
}

impl Guest {
    /// A started device with `buffers` receive buffers posted.
    pub fn new(buffers: u64) -> Self {
        let (hosts, ours): (Vec<_>, Vec<_>) = PORTS
            .map(|_| UnixStream::pair().unwrap())
            .into_iter()
            .unzip();
        let streams = PORTS.into_iter().zip(ours);
        let streams = streams.map(|(port, fd)| (StreamConfig { port }, fd.into()));
        let device = Vsock::new(CID, Streams::new(streams).unwrap());
        for host in &hosts {
            host.set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            host.set_write_timeout(Some(Duration::from_secs(10)))
                .unwrap();
        }
        let driver = Driver::started(device, 128);
        let mut guest = Self {
            driver,
            hosts,
            posted: HashMap::new(),
            sent: 0,
            buf_alloc: 256 << 10,
            fwd_cnt: 0,
        };
        (0..buffers).for_each(|n| guest.post(RX_AREA + n * u64::from(RX_BUFFER)));
        guest
    }

    /// Gives the device a receive buffer at `at`.
    pub fn post(&mut self, at: u64) {
        let head = self.driver.offer(0, &[(at, RX_BUFFER, true)]);
        self.posted.insert(head, at);
        self.driver.kick(0);
    }

    pub fn header(&self, op: Op, port: u32, len: u32) -> Header {
        Header {
            src_cid: CID,
            dst_cid: 2,
            src_port: MINE,
            dst_port: port,
            len,
            kind: STREAM,
            op: op as u16,
            flags: 0,
            buf_alloc: self.buf_alloc,
            fwd_cnt: self.fwd_cnt,
        }
    }

    /// Sends these very bytes as a packet, header and payload in two buffers.
    pub fn send_raw(&mut self, header: &[u8], payload: &[u8]) {
        let at = header_at(self.sent);
        let data = PAYLOADS + self.sent % PAYLOAD_SLOTS * PAYLOAD_SLOT;
        self.sent += 1;
        self.driver.poke(at, header);
        self.driver.poke(data, payload);
        let mut buffers = vec![(at, header.len() as u32, false)];
        if !payload.is_empty() {
            buffers.push((data, payload.len() as u32, false));
        }
        while self.driver.used(1).is_some() {}
        if self.driver.queues[1].free() < 4 {
            self.driver.wait_used(1);
        }
        self.driver.offer(1, &buffers);
        self.driver.kick(1);
    }

    pub fn send(&mut self, header: Header, payload: &[u8]) {
        self.send_raw(&header.to_bytes(), payload);
    }

    pub fn say(&mut self, op: Op, port: u32) {
        self.send(self.header(op, port, 0), &[]);
    }

    pub fn shutdown(&mut self, port: u32, flags: u32) {
        self.send(
            Header {
                flags,
                ..self.header(Op::Shutdown, port, 0)
            },
            &[],
        );
    }

    pub fn data(&mut self, port: u32, payload: &[u8]) {
        self.send(self.header(Op::Data, port, payload.len() as u32), payload);
    }

    /// The next packet if there is one, its buffer posted again.
    pub fn try_hear(&mut self) -> Option<(Header, Vec<u8>)> {
        let (head, len) = self.driver.used(0)?;
        let at = self.posted.remove(&head).expect("a buffer we posted");
        let bytes = self.driver.peek(at, len as usize);
        let (header, payload) = bytes.split_at(HEADER);
        let header = Header::from_bytes(header.try_into().unwrap());
        assert_eq!(header.len as usize, payload.len());
        assert_eq!(
            (header.src_cid, header.dst_cid, header.kind),
            (2, CID, STREAM)
        );
        self.post(at);
        Some((header, payload.to_vec()))
    }

    /// Waits for the next packet.
    pub fn hear(&mut self) -> (Header, Vec<u8>) {
        let start = std::time::Instant::now();
        loop {
            if let Some(packet) = self.try_hear() {
                return packet;
            }
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "waited in vain for a packet"
            );
            std::thread::yield_now();
        }
    }

    /// Waits for a packet of this kind from this port; passes over credit updates.
    pub fn expect(&mut self, op: Op, port: u32) -> (Header, Vec<u8>) {
        loop {
            let (header, payload) = self.hear();
            if header.op != Op::CreditUpdate as u16 || op == Op::CreditUpdate {
                assert_eq!(
                    (Op::of(header.op), header.src_port),
                    (Some(op), port),
                    "{header:?}"
                );
                assert_eq!(header.dst_port, MINE);
                return (header, payload);
            }
        }
    }

    /// Opens a connection to this port.
    pub fn connect(&mut self, port: u32) {
        self.say(Op::Request, port);
        let (header, _) = self.expect(Op::Response, port);
        assert_eq!(header.buf_alloc, 256 << 10);
    }

    /// Hears data until so many bytes have come, and gives credit for them.
    pub fn hear_data(&mut self, port: u32, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < count {
            let (_, payload) = self.expect(Op::Data, port);
            self.fwd_cnt = self.fwd_cnt.wrapping_add(payload.len() as u32);
            all.extend(payload);
            self.say(Op::CreditUpdate, port);
        }
        all
    }

    /// Nothing more comes: the device sleeps, asked twice.
    pub fn expect_silence(&mut self) {
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(self.try_hear().map(|p| p.0), None);
    }
}
