//! Events of sockets that come when their connection is gone.

use super::super::packet::Op;
use super::super::testing::packet;
use super::super::{Streams, Vsock};
use super::guest::CID;
use crate::virtio::Mem;
use crate::virtio::testing::direct::Direct;
use crate::virtio::testing::{FREE, Ring, memory};
use crate::virtio::worker::Ready;
use casemate_proto::control::StreamConfig;
use nix::sys::epoll::EpollFlags;
use std::io::Read;
use std::os::unix::net::UnixStream;
use vm_memory::{Bytes, GuestAddress};

const PORTS: [u32; 3] = [1, 2, 3];

struct Guest {
    device: Direct<Vsock<Streams>>,
    mem: Mem,
    rings: Vec<Ring>,
}

impl Guest {
    fn start(&mut self) {
        self.rings = (0..3).map(|n| Ring::new(&self.mem, n, 16, false)).collect();
        let places: Vec<_> = self.rings.iter().map(|r| r.at).collect();
        assert!(self.device.start(u64::MAX, &places));
    }

    fn say(&mut self, op: Op, port: u32, payload: &[u8]) {
        let len = payload.len() as u32;
        let packet = [&packet(CID, 9, port, op as u16, 0, len), payload].concat();
        self.mem.write_slice(&packet, GuestAddress(FREE)).unwrap();
        self.rings[1].offer(&self.mem, &[(FREE, packet.len() as u32, false)]);
        self.device.kick(1);
        assert!(self.rings[1].used(&self.mem).is_some());
    }
}

/// epoll may report a hang-up together with the packets that end its connection
/// and open the next, which must not lose its data to it.
#[test]
fn a_hang_up_of_a_former_connection_is_nobodys() {
    let (mut hosts, ours): (Vec<_>, Vec<_>) = PORTS
        .map(|_| UnixStream::pair().unwrap())
        .into_iter()
        .unzip();
    let streams = PORTS.into_iter().zip(ours);
    let streams = streams.map(|(port, fd)| (StreamConfig { port }, fd.into()));
    let mem = memory();
    let mut guest = Guest {
        device: Direct::new(Vsock::new(CID, Streams::new(streams).unwrap()), mem.clone()),
        mem,
        rings: Vec::new(),
    };
    let late = |token| Ready {
        token,
        events: EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR,
    };
    guest.start();
    guest.say(Op::Request, 1, &[]);
    guest.say(Op::Reset, 1, &[]);
    guest.say(Op::Request, 2, &[]);
    guest.device.ready(late(0));
    guest.say(Op::Data, 2, b"after");

    guest.start();
    guest.say(Op::Request, 3, &[]);
    guest.device.ready(late(0));
    guest.device.ready(late(1));
    guest.say(Op::Data, 3, b"reset");
    guest.device.reset();
    for (host, said) in hosts.iter_mut().zip([&b""[..], b"after", b"reset"]) {
        let mut got = Vec::new();
        host.read_to_end(&mut got).unwrap();
        assert_eq!(got, said);
    }
}
