//! Attacks on the socket device (virtio 1.2 §5.10). A stream of the host's is good for
//! one connection, and a machine has eight; the class is run in batches that need no more.

use super::{Attack, attack};
use crate::bench::{ARENA, Bench, NOWHERE};
use crate::driver::queue::{Buffer, readable, writable};
use crate::driver::vsock::{
    CREDIT_REQUEST, CREDIT_UPDATE, Connection, FIRST_PORT, HEADER, NOWHERE as NO_PORT, Packet,
    REQUEST, RESPONSE, RST, RW, RX, SHUTDOWN, TX, Vsock,
};
use crate::outcome::Outcome::{self, *};
use casemate_guest_base::{pause, peek, poke, wait};

#[rustfmt::skip] // A line an attack: this is a list to be read.
pub const ATTACKS: &[Attack] = &[
    // Without a connection.
    attack("foreign-source", Ignored, "a packet that claims to be of another guest", |b| dropped(b, |p| p.src_cid = 4)),
    attack("source-of-the-host", Ignored, "a packet that claims to be the host's", |b| dropped(b, |p| p.src_cid = 2)),
    attack("to-another-guest", Ignored, "a packet to context id 4", |b| dropped(b, |p| p.dst_cid = 4)),
    attack("to-the-hypervisor", Ignored, "a packet to context id 0", |b| dropped(b, |p| p.dst_cid = 0)),
    attack("to-everybody", Ignored, "context id 2³²-1 and upper bits", |b| dropped(b, |p| p.dst_cid = u64::MAX)),
    attack("cid-upper-half", Ignored, "context id 2 with bits above the 32nd", |b| dropped(b, |p| p.dst_cid = 1 << 32 | 2)),
    attack("header-too-short", Ignored, "43 bytes", header_short),
    attack("header-in-pieces", Closed, "44 buffers of a byte", header_in_pieces),
    attack("header-to-be-written", Ignored, "nothing to read in the chain", header_writable),
    attack("operation-0", Closed, "no such operation", |b| alone(b, |p| p.op = 0)),
    attack("operation-8", Closed, "no such operation", |b| alone(b, |p| p.op = 8)),
    attack("operation-max", Closed, "no such operation", |b| alone(b, |p| p.op = u16::MAX)),
    attack("type-seqpacket-not-offered", Closed, "a socket type that nobody agreed on", |b| alone(b, |p| p.kind = 2)),
    attack("type-0", Closed, "no such socket type", |b| alone(b, |p| p.kind = 0)),
    attack("response-to-nothing", Closed, "RESPONSE without a request", |b| alone(b, |p| p.op = RESPONSE)),
    attack("data-to-nothing", Closed, "data without a connection", |b| alone(b, |p| p.op = RW)),
    attack("shutdown-of-nothing", Closed, "SHUTDOWN without a connection", |b| { alone(b, |p| { p.op = SHUTDOWN; p.flags = u32::MAX }) }),
    attack("credit-request-to-nothing", Closed, "a question without a connection", |b| alone(b, |p| p.op = CREDIT_REQUEST)),
    attack("length-beyond-the-chain-cve-2019-18960", Closed, "2³²-1 bytes announced, none there", |b| length_lie(b, u32::MAX)),
    attack("length-one-beyond-the-chain", Closed, "one byte more than there is", |b| length_lie(b, 17)),
    attack("rst-storm", Ignored, "2,000 resets of nothing", rst_storm),
    attack("request-flood-without-room", Ignored, "10,000 requests and no buffer for the answers: it stops to listen", flood_deaf),
    attack("request-flood", Ignored, "2,000 requests to nowhere, each answered", flood),
    attack("room-too-short-for-a-header", NeedsReset, "buffers of 43 bytes for what comes in", |b| odd_room(b, &[writable(ARENA, 43)])),
    attack("room-not-to-be-written", NeedsReset, "readable buffers for what comes in", |b| odd_room(b, &[readable(ARENA, 4096)])),
    attack("room-outside-memory", NeedsReset, "a buffer in the gap for what comes in", |b| odd_room(b, &[writable(NOWHERE, 4096)])),
    attack("room-of-nothing", NeedsReset, "an empty buffer for what comes in", |b| odd_room(b, &[writable(ARENA, 0)])),
    attack("room-in-pieces", Closed, "44 buffers of a byte for what comes in", |b| odd_room(b, &core::array::from_fn::<_, 44, _>(|n| writable(ARENA + 2 * n as u64, 1)))),
    attack("junk-on-the-event-queue", Ignored, "chains that are no buffers for events", event_junk),
    // With one.
    attack("proper-connection", Closed, "a few bytes there and back, and the end: no attack", |b| with(b, finish)),
    attack("port-reused-while-open", Closed, "a second REQUEST on an open connection's ports", |b| with(b, |s, c| said(s, c, REQUEST))),
    attack("response-from-the-guest", Closed, "RESPONSE where the guest has asked", |b| with(b, |s, c| said(s, c, RESPONSE))),
    attack("stream-taken-twice", Closed, "a stream that is in use is asked for from another port", |b| with(b, taken_twice)),
    attack("unknown-operation-on-a-connection", Closed, "operation 200", |b| with(b, |s, c| said(s, c, 200))),
    attack("data-beyond-the-chain", Closed, "100 bytes announced, 10 there", |b| with(b, |s, c| announced(s, c, 100))),
    attack("data-of-four-gigabytes", Closed, "2³²-1 bytes announced, 10 there", |b| with(b, |s, c| announced(s, c, u32::MAX))),
    attack("data-of-less-than-the-chain", Served, "5 bytes announced, 4096 there", |b| with(b, less_announced)),
    attack("data-in-single-bytes", Served, "63 buffers of a byte", |b| with(b, single_bytes)),
    attack("data-outside-memory", NeedsReset, "a good header, and a payload in the gap", |b| with(b, payload_outside)),
    attack("data-beyond-credit", Closed, "512 KiB to a host that does not read: more than it gave credit for", |b| with_silent(b, beyond_credit)),
    attack("data-after-shutdown", Closed, "data after the end of data", |b| with(b, after_shutdown)),
    attack("shutdown-with-all-flags", Closed, "flags that do not exist, too", |b| with(b, |s, c| flagged(s, c, u32::MAX))),
    attack("shutdown-with-no-flags", Served, "100 ends of nothing", |b| with(b, shutdown_storm)),
    attack("empty-data-storm", Served, "1,000 packets of no data", |b| with(b, |s, c| storm(s, c, RW))),
    attack("credit-request-storm", Served, "1,000 questions", |b| with(b, |s, c| storm(s, c, CREDIT_REQUEST))),
    attack("credit-update-storm", Served, "1,000 answers to no question", |b| with(b, |s, c| storm(s, c, CREDIT_UPDATE))),
    attack("credit-of-nothing", Served, "no room, and the host has data: none of it comes", |b| with(b, no_credit)),
    attack("credit-lie-huge", Served, "4 GiB of room, of which there are 256 KiB", |b| with(b, |s, c| lying(s, c, u32::MAX, 0))),
    attack("credit-lie-ahead", Served, "more taken than was ever sent", |b| with(b, |s, c| lying(s, c, 1 << 20, 0x8000_0000))),
    attack("host-flood-without-room", Served, "the host has 1 MiB, and nobody takes it", |b| with(b, host_flood)),
    attack("reset-with-an-open-connection", Ignored, "the device is reset while both sides talk", |b| with(b, reset_open)),
    attack("rst-then-more", Closed, "data after RST", |b| with(b, rst_then_more)),
];

/// A packet that must be dropped: the next one is answered, and it is not.
fn dropped(b: &mut Bench, change: fn(&mut Packet)) -> Outcome {
    let mut packet = Packet::new(REQUEST, 77, NO_PORT);
    change(&mut packet);
    b.vsock.send(packet);
    next_answer_is_not_for(&mut b.vsock, 77)
}

/// Sends a good request; the first answer must be to that.
fn next_answer_is_not_for(vsock: &mut Vsock, port: u32) -> Outcome {
    let good = vsock.fresh_port();
    vsock.send(Packet::new(REQUEST, good, NO_PORT));
    let mut answer = None;
    wait(|| {
        answer = vsock.receive();
        answer.is_some()
    });
    match answer {
        Some((packet, _)) if packet.dst_port == good => Ignored,
        Some((packet, _)) if packet.dst_port == port => Wrong("it was answered"),
        _ => Wrong("another answer"),
    }
}

fn header_short(b: &mut Bench) -> Outcome {
    Packet::new(REQUEST, 77, NO_PORT).write(ARENA);
    b.vsock.send_chain(&[readable(ARENA, HEADER - 1)]);
    next_answer_is_not_for(&mut b.vsock, 77)
}

fn header_in_pieces(b: &mut Bench) -> Outcome {
    let port = b.vsock.fresh_port();
    Packet::new(REQUEST, port, NO_PORT).write(ARENA);
    b.vsock.send_chain(&core::array::from_fn::<_, 44, _>(|n| {
        readable(ARENA + n as u64, 1)
    }));
    b.vsock.await_reset(port)
}

fn header_writable(b: &mut Bench) -> Outcome {
    Packet::new(REQUEST, 77, NO_PORT).write(ARENA);
    b.vsock.send_chain(&[writable(ARENA, HEADER)]);
    next_answer_is_not_for(&mut b.vsock, 77)
}

/// A packet of no connection, which is refused.
fn alone(b: &mut Bench, change: fn(&mut Packet)) -> Outcome {
    let mut packet = Packet::new(REQUEST, b.vsock.fresh_port(), NO_PORT);
    change(&mut packet);
    b.vsock.refused(packet)
}

fn length_lie(b: &mut Bench, len: u32) -> Outcome {
    let port = b.vsock.fresh_port();
    Packet {
        len,
        ..Packet::new(RW, port, NO_PORT)
    }
    .write(ARENA);
    b.vsock.send_chain(&[readable(ARENA, HEADER + 16)]);
    b.vsock.await_reset(port)
}

fn rst_storm(b: &mut Bench) -> Outcome {
    for _ in 0..2_000 {
        b.vsock.send(Packet::new(RST, 77, NO_PORT));
    }
    next_answer_is_not_for(&mut b.vsock, 77)
}

fn flood_deaf(b: &mut Bench) -> Outcome {
    b.vsock.start_deaf();
    Packet::new(REQUEST, 77, NO_PORT).write(ARENA);
    let queue = &mut b.vsock.device.queues[TX];
    let (mut sent, mut quiet) = (0u32, 0);
    while sent < 10_000 && quiet < 50 {
        if queue.made.wrapping_sub(queue.used()) < queue.size() {
            queue.offer(&[readable(ARENA, HEADER)]);
            sent += 1;
            quiet = 0;
        } else {
            poke(b.vsock.device.base + crate::driver::mmio::NOTIFY, TX as u32);
            pause();
            quiet += 1;
        }
    }
    let taken = queue.used();
    b.vsock.device.reset();
    Outcome::ignored_if(taken <= 256, "it listens without bound")
}

fn flood(b: &mut Bench) -> Outcome {
    let port = b.vsock.fresh_port();
    for _ in 0..2_000 {
        if b.vsock.refused(Packet::new(REQUEST, port, NO_PORT)) != Closed {
            return Wrong("not answered");
        }
    }
    Ignored
}

/// A device whose first buffer for what comes in is this one.
fn odd_room(b: &mut Bench, room: &[Buffer]) -> Outcome {
    b.vsock.start_deaf();
    b.vsock.device.queues[RX].offer(room);
    b.vsock.device.kick(RX);
    b.vsock.send(Packet::new(REQUEST, 77, NO_PORT));
    let broken = wait(|| b.vsock.device.is_broken() || b.vsock.device.queues[RX].used() == 1);
    let outcome = match (broken, b.vsock.device.is_broken()) {
        (_, true) => NeedsReset,
        (true, false) => Closed,
        _ => Wrong("neither answered nor broken"),
    };
    b.vsock.device.reset();
    outcome
}

fn event_junk(b: &mut Bench) -> Outcome {
    for n in 0..64 {
        b.vsock.device.queues[2].offer(&[readable(NOWHERE, n), writable(NOWHERE, u32::MAX - 64)]);
        b.vsock.device.kick(2);
    }
    b.vsock.device.queues[2].enter(u16::MAX);
    b.vsock.device.queues[2].show();
    (0..100).for_each(|_| b.vsock.device.kick(2));
    crate::bench::goes_on(&b.vsock.device)
}

/// Opens a connection, sees that it works, and attacks it.
fn with(b: &mut Bench, attack: fn(&mut Vsock, &mut Connection) -> Outcome) -> Outcome {
    let Some(mut connection) = b.vsock.connect() else {
        return Wrong("no connection");
    };
    if !b.vsock.echo(&mut connection) {
        return Wrong("no echo");
    }
    attack(&mut b.vsock, &mut connection)
}

/// The same with a host that does not read.
fn with_silent(b: &mut Bench, attack: fn(&mut Vsock, &mut Connection) -> Outcome) -> Outcome {
    let Some(mut connection) = b.vsock.connect() else {
        return Wrong("no connection");
    };
    if b.vsock.write(&connection, b"s") != Served {
        return Wrong("not sent");
    }
    attack(&mut b.vsock, &mut connection)
}

fn said(vsock: &mut Vsock, connection: &mut Connection, op: u16) -> Outcome {
    vsock.refused(vsock.packet(connection, op))
}

fn finish(vsock: &mut Vsock, connection: &mut Connection) -> Outcome {
    flagged(vsock, connection, 3)
}

fn flagged(vsock: &mut Vsock, connection: &mut Connection, flags: u32) -> Outcome {
    vsock.refused(Packet {
        flags,
        ..vsock.packet(connection, SHUTDOWN)
    })
}

/// It still works.
fn still(vsock: &mut Vsock, connection: &mut Connection) -> Outcome {
    let works = vsock.write(connection, b"still") == Served && vsock.expect(connection, b"still");
    Outcome::served_if(works, "the connection does not work any more")
}

fn taken_twice(vsock: &mut Vsock, connection: &mut Connection) -> Outcome {
    let port = vsock.fresh_port();
    let refused = vsock.refused(Packet::new(REQUEST, port, connection.host));
    match still(vsock, connection) {
        Served => refused,
        other => other,
    }
}

fn announced(vsock: &mut Vsock, connection: &mut Connection, len: u32) -> Outcome {
    Packet {
        len,
        ..vsock.packet(connection, RW)
    }
    .write(ARENA);
    vsock.send_chain(&[readable(ARENA, HEADER), readable(ARENA + 64, 10)]);
    vsock.await_reset(connection.guest)
}

fn less_announced(vsock: &mut Vsock, connection: &mut Connection) -> Outcome {
    Packet {
        len: 5,
        ..vsock.packet(connection, RW)
    }
    .write(ARENA);
    (0..5).for_each(|n| poke(ARENA + 64 + n, b"bytes"[n as usize]));
    vsock.send_chain(&[readable(ARENA, HEADER), readable(ARENA + 64, 4096)]);
    match vsock.expect(connection, b"bytes") {
        true => still(vsock, connection),
        false => Wrong("other bytes than announced"),
    }
}

fn single_bytes(vsock: &mut Vsock, connection: &mut Connection) -> Outcome {
    Packet {
        len: 63,
        ..vsock.packet(connection, RW)
    }
    .write(ARENA);
    let text = [b'x'; 63];
    (0..63).for_each(|n| poke(ARENA + 64 + 2 * n, b'x'));
    let mut chain = [readable(ARENA, HEADER); 64];
    (0..63).for_each(|n| chain[n + 1] = readable(ARENA + 64 + 2 * n as u64, 1));
    vsock.send_chain(&chain);
    Outcome::served_if(vsock.expect(connection, &text), "other bytes came back")
}

fn payload_outside(vsock: &mut Vsock, connection: &mut Connection) -> Outcome {
    Packet {
        len: 64,
        ..vsock.packet(connection, RW)
    }
    .write(ARENA);
    vsock.send_chain(&[readable(ARENA, HEADER), readable(NOWHERE, 64)])
}

fn beyond_credit(vsock: &mut Vsock, connection: &mut Connection) -> Outcome {
    let len = 0x8000;
    Packet {
        len,
        ..vsock.packet(connection, RW)
    }
    .write(ARENA);
    // The host's own socket takes some, too.
    for _ in 0..64 {
        let outcome = vsock.send_chain(&[readable(ARENA, HEADER), readable(ARENA + 64, len)]);
        if outcome != Served {
            return outcome;
        }
    }
    vsock.await_reset(connection.guest)
}

fn after_shutdown(vsock: &mut Vsock, connection: &mut Connection) -> Outcome {
    vsock.send(Packet {
        flags: 2,
        ..vsock.packet(connection, SHUTDOWN)
    });
    Packet {
        len: 4,
        ..vsock.packet(connection, RW)
    }
    .write(ARENA);
    vsock.send_chain(&[readable(ARENA, HEADER + 4)]);
    let mut bytes = false;
    let reset = wait(|| match vsock.receive() {
        Some((packet, _)) if packet.dst_port == connection.guest => {
            bytes |= packet.op == RW;
            packet.op == RST
        }
        _ => false,
    });
    match (reset, bytes) {
        (true, false) => Closed,
        (_, true) => Wrong("data was taken after its end"),
        _ => Wrong("no RST"),
    }
}

fn shutdown_storm(vsock: &mut Vsock, connection: &mut Connection) -> Outcome {
    for _ in 0..100 {
        vsock.send(vsock.packet(connection, SHUTDOWN));
    }
    still(vsock, connection)
}

fn storm(vsock: &mut Vsock, connection: &mut Connection, op: u16) -> Outcome {
    for _ in 0..1_000 {
        vsock.send(vsock.packet(connection, op));
        while vsock.receive().is_some() {}
    }
    still(vsock, connection)
}

fn no_credit(vsock: &mut Vsock, connection: &mut Connection) -> Outcome {
    vsock.send(Packet {
        buf_alloc: 0,
        ..vsock.packet(connection, CREDIT_UPDATE)
    });
    Packet {
        buf_alloc: 0,
        len: 5,
        ..vsock.packet(connection, RW)
    }
    .write(ARENA);
    vsock.send_chain(&[readable(ARENA, HEADER + 5)]);
    // It asks for credit, and must not send without.
    let mut early = false;
    let asked = wait(|| match vsock.receive() {
        Some((packet, _)) if packet.dst_port == connection.guest => {
            early |= packet.op == RW;
            packet.op == CREDIT_REQUEST || early
        }
        _ => false,
    });
    let bytes: [u8; 5] = core::array::from_fn(|n| peek(ARENA + u64::from(HEADER) + n as u64));
    vsock.send(vsock.packet(connection, CREDIT_UPDATE));
    match (asked, early) {
        (true, false) if vsock.expect(connection, &bytes) => still(vsock, connection),
        (_, true) => Wrong("data without credit"),
        _ => Wrong("credit was not asked for, or nothing came of it"),
    }
}

/// Says these untruths about its room with each of some packets.
fn lying(vsock: &mut Vsock, connection: &mut Connection, buf_alloc: u32, fwd_cnt: u32) -> Outcome {
    for n in 0..200u32 {
        let fwd_cnt = fwd_cnt.wrapping_mul(n);
        vsock.send(Packet {
            buf_alloc,
            fwd_cnt,
            ..vsock.packet(connection, CREDIT_UPDATE)
        });
        while vsock.receive().is_some() {}
    }
    vsock.send(vsock.packet(connection, CREDIT_UPDATE));
    still(vsock, connection)
}

/// The host's other end answers with a flood; nobody makes room for it.
fn host_flood(vsock: &mut Vsock, connection: &mut Connection) -> Outcome {
    vsock.send(Packet {
        buf_alloc: 0,
        ..vsock.packet(connection, CREDIT_UPDATE)
    });
    let Some(mut other) = vsock.connect() else {
        return Wrong("no second connection");
    };
    if vsock.write(&other, b"f") != Served {
        return Wrong("not sent");
    }
    let mut got = 0u32;
    wait(|| {
        while let Some((packet, _)) = vsock.device.queues[RX].take().map(|(_, len)| (len, ())) {
            got += packet;
        }
        got > 100_000
    });
    // The device has no buffers left now; it must sleep, and the end must work.
    vsock.make_room();
    other.received = got;
    let _ = vsock.send(vsock.packet(&other, RST));
    vsock.send(vsock.packet(connection, CREDIT_UPDATE));
    let reset = vsock.start();
    Outcome::served_if(reset, "no reset")
}

fn reset_open(vsock: &mut Vsock, connection: &mut Connection) -> Outcome {
    for _ in 0..10 {
        vsock.device.queues[TX].offer(&[readable(ARENA, HEADER)]);
    }
    vsock.device.kick(TX);
    if !vsock.start() {
        return Wrong("no reset");
    }
    // The connection is gone, and its stream with it.
    match vsock.refused(vsock.packet(connection, RW)) {
        Closed => Outcome::ignored_if(connection.host >= FIRST_PORT, "no stream"),
        other => other,
    }
}

fn rst_then_more(vsock: &mut Vsock, connection: &mut Connection) -> Outcome {
    vsock.send(vsock.packet(connection, RST));
    vsock.refused(vsock.packet(connection, RW))
}
