//! The socket device: a guest's packets, and hosts that read, write and go when
//! they like. No host gets more than its guest has sent.
#![no_main]

use arbitrary::Arbitrary;
use casemate_fuzz::guest::{Guest, Step};
use casemate_proto::control::StreamConfig;
use casemate_vmm::virtio::vsock::testing::packet;
use casemate_vmm::virtio::vsock::{Streams, Vsock};
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

const CID: u64 = 3;
const PORTS: u32 = 3;
const AREA: u64 = 0x3_0000;

#[derive(Debug, Clone, Arbitrary)]
enum Action {
    /// A packet; its length may differ from what it says.
    Packet {
        from: u8,
        to: u8,
        op: u8,
        flags: u8,
        len: u16,
        more: i8,
    },
    /// A packet of other numbers.
    Credit {
        from: u8,
        to: u8,
        op: u8,
        room: u32,
        taken: u32,
    },
    /// Buffers for packets to the guest.
    Receive(u8, u16),
    /// The host writes.
    HostWrites(u8, u16),
    /// The host reads.
    HostReads(u8, u16),
    /// The host ends a direction or both.
    HostEnds(u8, u8),
    /// The device looks at its sockets.
    Poll,
}

struct Hosts {
    ends: Vec<UnixStream>,
    sent: u64,
    got: u64,
}

type Device = Vsock<Streams>;

fn send(guest: &mut Guest<Device>, header: &[u8], payload: u32) {
    guest.poke(AREA, header);
    let mut buffers = vec![(AREA, header.len() as u32, false)];
    if payload > 0 {
        buffers.push((AREA + 0x100, payload, false));
    }
    guest.chain(1, &buffers);
    guest.kick(1);
}

fn act(guest: &mut Guest<Device>, hosts: &mut Hosts, action: &Action) {
    let host = |n: u8| usize::from(n) % PORTS as usize;
    let port = |n: u8| u32::from(n) % (PORTS + 1);
    match *action {
        Action::Packet {
            from,
            to,
            op,
            flags,
            len,
            more,
        } => {
            let len = u32::from(len);
            let op = u16::from(op % 9);
            let header = packet(CID, port(from), port(to), op, u32::from(flags % 4), len);
            hosts.sent += u64::from(len);
            send(guest, &header, len.saturating_add_signed(more.into()));
        }
        Action::Credit {
            from,
            to,
            op,
            room,
            taken,
        } => {
            let op = u16::from(op % 9);
            let mut header = packet(CID, port(from), port(to), op, 0, 0);
            header[36..40].copy_from_slice(&room.to_le_bytes());
            header[40..].copy_from_slice(&taken.to_le_bytes());
            send(guest, &header, 0);
        }
        Action::Receive(count, len) => {
            for _ in 0..count % 16 {
                guest.chain(0, &[(AREA + 0x4000, len.into(), true)]);
            }
            guest.kick(0);
        }
        Action::HostWrites(n, len) => {
            let _ = hosts.ends[host(n)].write(&vec![0x5a; len.into()]);
        }
        Action::HostReads(n, len) => {
            let mut bytes = vec![0; len.into()];
            hosts.got += hosts.ends[host(n)].read(&mut bytes).unwrap_or(0) as u64;
        }
        Action::HostEnds(n, how) => {
            let how = [Shutdown::Read, Shutdown::Write, Shutdown::Both][usize::from(how) % 3];
            let _ = hosts.ends[host(n)].shutdown(how);
        }
        Action::Poll => guest.device.poll(),
    }
}

fuzz_target!(|steps: Vec<Step<Action>>| {
    let pairs = (0..PORTS).map(|_| UnixStream::pair().expect("a pair of sockets"));
    let (ends, ours): (Vec<_>, Vec<_>) = pairs.unzip();
    for end in &ends {
        end.set_nonblocking(true)
            .expect("a socket that does not wait");
    }
    let streams = (0..PORTS)
        .zip(ours)
        .map(|(port, fd)| (StreamConfig { port }, fd.into()));
    let device = Vsock::new(CID, Streams::new(streams).expect("good streams"));
    let mut guest = Guest::new(device, 3);
    let hosts = RefCell::new(Hosts {
        ends,
        sent: 0,
        got: 0,
    });
    // What a guest writes with other steps may be packets, too.
    let odd = steps
        .iter()
        .any(|s| !matches!(s, Step::Request(_) | Step::Kick(_)));
    for step in steps.iter().take(200) {
        guest.step(step, |guest, action| {
            act(guest, &mut hosts.borrow_mut(), action)
        });
    }
    guest.device.poll();
    let mut hosts = hosts.into_inner();
    let mut bytes = vec![0; 1 << 16];
    for end in &mut hosts.ends {
        while let Ok(got @ 1..) = end.read(&mut bytes) {
            hosts.got += got as u64;
        }
    }
    assert!(
        odd || hosts.got <= hosts.sent,
        "the hosts got more than was sent"
    );
    guest.restart(3);
    send(&mut guest, &packet(CID, 9, 9, 1, 0, 0), 0);
    assert!(guest.device.is_active(), "a good packet breaks the device");
});
