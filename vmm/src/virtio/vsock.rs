//! The socket device (virtio 1.2 §5.10): the guest's connections to the host,
//! spliced to sockets of the host's.
//!
//! | file | holds |
//! |---|---|
//! | `packet.rs` | the header, copied once |
//! | `flow.rs` | a connection's state machine: plain numbers |
//! | `connection.rs` | that, with the host's socket and the bytes it has not taken |
//! | `backend.rs` | where connections lead |
//!
//! Data goes from guest memory to the socket and back without a copy of ours;
//! only what a slow host does not take is held, at most the credit we gave.

mod backend;
mod buffer;
mod connection;
mod flow;
mod packet;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

use super::device::{Active, COMMON_FEATURES, ConfigSpace, DeviceType, Identity, VirtioDevice};
use super::guest_io::GuestIo;
use super::queue::{Broken, Chain, Cursor};
use super::worker::{Events, Next, Ready};
use crate::unless_off::unless_off;
pub use backend::{Backend, Stream, Streams, StreamsError};
use connection::Connection;
use flow::{Ports, Say};
use packet::{HEADER, HOST_CID, Header, MAX_PAYLOAD, Op, STREAM};
use std::collections::{BTreeMap, VecDeque};
use std::num::Wrapping;
use virtio_bindings::virtio_ids::VIRTIO_ID_VSOCK;

/// Queues and their sizes: to the guest, from the guest, events.
const QUEUE_SIZES: [u16; 3] = [256; 3];
const RX: usize = 0;
const TX: usize = 1;
/// Refusals that may wait for a buffer of the guest's; with more, we stop listening.
const MAX_REFUSALS: usize = 64;
/// Packets each way before the other way and the host's sockets get their turn.
const TURN: u32 = 64;

/// The device, its connections, and its queues while the guest drives it.
#[derive(Debug)]
pub struct Vsock<B> {
    guest_cid: u64,
    backend: B,
    talk: Talk,
    active: Option<Active>,
}

/// All that is under way with the guest; gone at reset.
#[derive(Debug, Default)]
struct Talk {
    /// By token.
    connections: BTreeMap<u32, Connection>,
    /// The next connection's token. None comes again while an event of the one
    /// that had it may be under way, not even after a reset.
    next_token: Wrapping<u32>,
    /// Those of them whose guest's side is not over.
    by_ports: BTreeMap<Ports, u32>,
    /// Tokens of connections that may have something to say, each once.
    speakers: VecDeque<u32>,
    /// Answers to packets of no connection.
    refusals: VecDeque<Header>,
    /// Something is to be said, and the guest has no buffer for it.
    starved: bool,
    chain: Chain,
    io: GuestIo,
}

impl<B: Backend> Vsock<B> {
    /// A device whose guest has this context id (at least 3).
    pub fn new(guest_cid: u64, backend: B) -> Self {
        Self {
            guest_cid,
            backend,
            talk: Talk::default(),
            active: None,
        }
    }

    /// Listens and speaks until there is nothing to do, or for some turns.
    fn run(&mut self, events: &Events) -> Result<Next, Broken> {
        let Some(active) = &mut self.active else {
            return Ok(Next::Wait);
        };
        active.queues[TX].suppress()?;
        active.queues[RX].suppress()?;
        let mut busy = true;
        for _ in 0..4 {
            let heard = self
                .talk
                .listen(active, &mut self.backend, self.guest_cid, events)?;
            let said = self.talk.speak(active, self.guest_cid, events)?;
            busy = heard || said;
            if !busy {
                break;
            }
        }
        active.flush(TX)?;
        active.flush(RX)?;
        if busy {
            return Ok(Next::Again);
        }
        // With refusals waiting, a buffer to put them in comes first.
        let more = !self.talk.is_full() && active.queues[TX].arm()?
            || self.talk.starved && active.queues[RX].arm()?;
        Ok(if more { Next::Again } else { Next::Wait })
    }
}

impl<B: Backend> VirtioDevice for Vsock<B> {
    fn identity(&self) -> Identity {
        const _: () = assert!(VIRTIO_ID_VSOCK == DeviceType::Vsock as u32);
        Identity {
            device_type: DeviceType::Vsock,
            features: COMMON_FEATURES,
            queue_sizes: QUEUE_SIZES.to_vec(),
            config: ConfigSpace::new(self.guest_cid.to_le_bytes().to_vec()),
        }
    }

    fn activate(&mut self, active: Active) {
        self.active = Some(active);
    }

    fn kicked(&mut self, queue: usize, events: &Events) -> Result<Next, Broken> {
        match queue {
            RX | TX => self.run(events),
            // Buffers for events, of which there are none yet.
            _ => Ok(Next::Wait),
        }
    }

    fn ready(&mut self, ready: Ready, events: &Events) -> Result<Next, Broken> {
        self.talk.host_ready(ready, events);
        self.run(events)
    }

    fn reset(&mut self, events: &Events) {
        self.active = None;
        let fresh = Talk {
            next_token: self.talk.next_token,
            ..Talk::default()
        };
        let old = std::mem::replace(&mut self.talk, fresh);
        for connection in old.connections.into_values() {
            connection.close(events);
        }
    }
}

impl Talk {
    fn is_full(&self) -> bool {
        unless_off!("vsock-refusals", self.refusals.len() >= MAX_REFUSALS)
    }

    fn connection(&mut self, token: u32) -> Option<&mut Connection> {
        self.connections.get_mut(&token)
    }

    /// Takes packets from the guest; true when there were any.
    fn listen(
        &mut self,
        active: &mut Active,
        backend: &mut impl Backend,
        guest_cid: u64,
        events: &Events,
    ) -> Result<bool, Broken> {
        for turn in 0..TURN {
            let stop = active.halt.requested() || self.is_full();
            if stop || !active.queues[TX].pop(&mut self.chain)? {
                return Ok(turn > 0);
            }
            let chain = std::mem::take(&mut self.chain);
            self.hear(active, &chain, backend, guest_cid, events)?;
            active.queues[TX].push(&chain, 0)?;
            active.queues[TX].publish()?;
            self.chain = chain;
        }
        Ok(true)
    }

    /// Takes one packet. One that is too short for a header or not from this
    /// guest to the host is dropped; of what else is wrong, the sender is told.
    fn hear(
        &mut self,
        active: &Active,
        chain: &Chain,
        backend: &mut impl Backend,
        guest_cid: u64,
        events: &Events,
    ) -> Result<(), Broken> {
        let mut payload = chain.readable();
        if unless_off!("vsock-header", (payload.left() as usize) < HEADER) {
            return Ok(());
        }
        let mut bytes = [0; HEADER];
        payload.read(&active.mem, &mut bytes)?;
        let header = Header::from_bytes(&bytes);
        let foreign = (header.src_cid, header.dst_cid) != (guest_cid, HOST_CID);
        if unless_off!("vsock-cids", foreign) {
            return Ok(());
        }
        let ports = Ports {
            guest: header.src_port,
            host: header.dst_port,
        };
        let op = Op::of(header.op).filter(|_| header.kind == STREAM);
        let token = self
            .by_ports
            .get(&ports)
            .copied()
            .filter(|_| header.kind == STREAM);
        let whole = !unless_off!("vsock-length", header.len > payload.left());
        match (op, token) {
            (Some(op), Some(token)) if whole => {
                let payload = payload.take(header.len);
                self.hear_from(token, op, &header, payload, active, events)?;
            }
            (Some(Op::Request), None) => self.open(&header, backend, events),
            (Some(Op::Reset), None) => {}
            (_, Some(token)) => {
                if let Some(connection) = self.connection(token) {
                    connection.flow().condemn();
                }
                self.attend(token, events);
            }
            (_, None) => self.refusals.push_back(header.refusal()),
        }
        Ok(())
    }

    fn hear_from(
        &mut self,
        token: u32,
        op: Op,
        header: &Header,
        payload: Cursor<'_>,
        active: &Active,
        events: &Events,
    ) -> Result<(), Broken> {
        if let Some(connection) = self.connections.get_mut(&token) {
            connection.hear(op, header, payload, &active.mem, &mut self.io, events)?;
        }
        self.attend(token, events);
        Ok(())
    }

    fn open(&mut self, request: &Header, backend: &mut impl Backend, events: &Events) {
        while self.connections.contains_key(&self.next_token.0) {
            self.next_token += 1;
        }
        let token = self.next_token.0;
        let connection = backend
            .connect(request.dst_port)
            .and_then(|stream| Connection::open(request, stream, token, events).ok());
        let Some(mut connection) = connection else {
            return self.refusals.push_back(request.refusal());
        };
        self.by_ports.insert(connection.flow().ports, token);
        self.connections.insert(token, connection);
        self.next_token += 1;
        self.attend(token, events);
    }

    fn host_ready(&mut self, ready: Ready, events: &Events) {
        if let Some(connection) = self.connection(ready.token) {
            connection.host_ready(ready.events, events);
            self.attend(ready.token, events);
        }
    }

    /// After something happened to a connection: lets it speak if it wants to,
    /// and lets it go when it is over.
    fn attend(&mut self, token: u32, events: &Events) {
        let Some(connection) = self.connection(token) else {
            return;
        };
        if !connection.flow().is_over() {
            if connection.queue_up() {
                self.speakers.push_back(token);
            }
            return;
        }
        let (ports, finished) = (connection.flow().ports, connection.is_finished());
        if self.by_ports.get(&ports) == Some(&token) {
            self.by_ports.remove(&ports);
        }
        if finished && let Some(connection) = self.connections.remove(&token) {
            connection.close(events);
        }
    }

    /// Sends the first speaker away; returns who it was.
    fn next_speaker(&mut self) -> Option<u32> {
        let token = self.speakers.pop_front()?;
        if let Some(connection) = self.connection(token) {
            connection.dequeued();
        }
        Some(token)
    }

    /// Says what there is to say, a packet a connection in turn; true when
    /// anything was said.
    fn speak(
        &mut self,
        active: &mut Active,
        guest_cid: u64,
        events: &Events,
    ) -> Result<bool, Broken> {
        let mut said = 0;
        self.starved = false;
        while said < TURN && !active.halt.requested() {
            let token = match self.refusals.is_empty() {
                true => self.speakers.front().copied(),
                false => None,
            };
            let say = token.and_then(|token| self.connection(token)?.next());
            if token.is_some() && say.is_none() {
                self.next_speaker();
                continue;
            }
            if token.is_none() && self.refusals.is_empty() {
                break;
            }
            if !active.queues[RX].pop(&mut self.chain)? {
                self.starved = true;
                break;
            }
            let chain = std::mem::take(&mut self.chain);
            let header = match token.zip(say) {
                Some((token, say)) => self.say(token, say, active, &chain)?,
                None => self.refusals.pop_front(),
            };
            let spoken = match header {
                Some(header) => {
                    let header = Header {
                        src_cid: HOST_CID,
                        dst_cid: guest_cid,
                        ..header
                    };
                    chain.writable().write(&active.mem, &header.to_bytes())?;
                    active.queues[RX].push(&chain, HEADER as u32 + header.len)?;
                    active.queues[RX].publish()?;
                    true
                }
                None => {
                    active.queues[RX].unpop();
                    false
                }
            };
            self.chain = chain;
            said += u32::from(spoken);
            if token.is_some() {
                // To the end of the line, if it has more to say.
                let token = self.next_speaker();
                token
                    .into_iter()
                    .for_each(|token| self.attend(token, events));
            }
        }
        Ok(said > 0)
    }

    /// What a connection says into this chain; `None` when it had no data after all.
    fn say(
        &mut self,
        token: u32,
        say: Say,
        active: &Active,
        chain: &Chain,
    ) -> Result<Option<Header>, Broken> {
        let Some(connection) = self.connections.get_mut(&token) else {
            return Ok(None);
        };
        let most = match say {
            Say::Control(op, flags) => return Ok(Some(connection.flow().say(op, flags, 0))),
            Say::Data(most) => most,
        };
        let mut room = chain.writable();
        room.skip(HEADER as u32);
        let room = room.take(most.min(MAX_PAYLOAD));
        if room.left() == 0 {
            return Err(Broken::Short);
        }
        let count = connection.receive(room, &active.mem, &mut self.io)?;
        Ok((count > 0).then(|| connection.flow().say(Op::Data, 0, count)))
    }
}
