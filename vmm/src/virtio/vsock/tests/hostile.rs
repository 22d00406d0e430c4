//! Guests that do what no driver does.

use super::super::packet::{HEADER, Header, Op};
use super::guest::*;
use proptest::prelude::*;
use std::io::{Read, Write};

#[test]
fn packets_of_no_connection_are_refused() {
    let mut guest = Guest::new(32);
    for op in [
        Op::Response,
        Op::Shutdown,
        Op::Data,
        Op::CreditUpdate,
        Op::CreditRequest,
    ] {
        guest.say(op, 1024);
        guest.expect(Op::Reset, 1024);
    }
    guest.say(Op::Reset, 1024);
    guest.expect_silence();
    guest.connect(1024);
}

#[test]
fn unknown_operations_and_types_are_refused() {
    let mut guest = Guest::new(32);
    guest.connect(1025);
    for (op, kind, port) in [
        (0, 1, 1024),
        (8, 1, 1024),
        (u16::MAX, 1, 1025),
        (1, 2, 1026),
    ] {
        guest.send(
            Header {
                op,
                kind,
                ..guest.header(Op::Data, port, 0)
            },
            &[],
        );
        let bytes = {
            let (head, _) = guest.driver.wait_used(0);
            assert!(head < 128);
            guest
                .driver
                .peek(RX_AREA + u64::from(head) * u64::from(RX_BUFFER), HEADER)
        };
        let header = Header::from_bytes(bytes[..].try_into().unwrap());
        assert_eq!(
            (header.op, header.kind, header.src_port),
            (Op::Reset as u16, kind, port)
        );
    }
}

#[test]
fn foreign_cids_are_dropped() {
    let mut guest = Guest::new(32);
    for (src_cid, dst_cid) in [
        (4, 2),
        (2, 3),
        (2, 2),
        (3, 3),
        (3, 1),
        (u64::MAX, 2),
        (3, u64::MAX),
    ] {
        guest.send(
            Header {
                src_cid,
                dst_cid,
                ..guest.header(Op::Request, 1024, 0)
            },
            &[],
        );
    }
    guest.expect_silence();
    guest.connect(1024);
}

/// CVE-2019-18960: lengths that the descriptors do not back.
#[test]
fn lengths_that_lie_cost_the_connection() {
    for len in [9, 4096, 1 << 20, u32::MAX] {
        let mut guest = Guest::new(32);
        guest.connect(1024);
        guest.send(guest.header(Op::Data, 1024, len), b"8 bytes!");
        guest.expect(Op::Reset, 1024);
        let mut bytes = Vec::new();
        guest.hosts[0].read_to_end(&mut bytes).unwrap();
        assert!(bytes.is_empty());
        assert_eq!(guest.driver.status(), 15);
    }
}

#[test]
fn short_headers_are_dropped() {
    let mut guest = Guest::new(32);
    let header = guest.header(Op::Request, 1024, 0).to_bytes();
    for len in [1, 16, HEADER - 1] {
        guest.send_raw(&header[..len], &[]);
        guest.driver.wait_used(1);
    }
    guest.expect_silence();
    // In two buffers it is whole.
    guest.send_raw(&header[..20], &header[20..]);
    guest.expect(Op::Response, 1024);
}

#[test]
fn more_than_the_credit_costs_the_connection() {
    let mut guest = Guest::new(32);
    guest.connect(1024);
    // The host reads nothing: its socket fills, then our buffer, then it is enough.
    let mut sent = 0;
    while guest
        .try_hear()
        .is_none_or(|(h, _)| h.op != Op::Reset as u16)
    {
        guest.data(1024, &[1; 64 << 10]);
        guest.driver.wait_used(1);
        sent += 64;
        assert!(sent < 4096, "the device takes without end");
    }
}

#[test]
fn data_after_the_end_costs_the_connection() {
    let mut guest = Guest::new(32);
    guest.connect(1024);
    guest.shutdown(1024, 2);
    guest.data(1024, b"one more thing");
    guest.expect(Op::Reset, 1024);
}

#[test]
fn a_second_request_costs_the_connection() {
    for op in [Op::Request, Op::Response] {
        let mut guest = Guest::new(32);
        guest.connect(1024);
        guest.say(op, 1024);
        guest.expect(Op::Reset, 1024);
    }
}

#[test]
fn credit_that_lies_gives_nothing() {
    let mut guest = Guest::new(32);
    guest.buf_alloc = 1000;
    guest.connect(1024);
    // More taken than was ever sent.
    guest.fwd_cnt = 5000;
    guest.say(Op::CreditUpdate, 1024);
    guest.hosts[0].write_all(&[1; 2000]).unwrap();
    guest.expect(Op::CreditRequest, 1024);
    guest.expect_silence();
    guest.fwd_cnt = 0;
    guest.say(Op::CreditUpdate, 1024);
    assert_eq!(guest.expect(Op::Data, 1024).1.len(), 1000);
}

#[test]
fn receive_buffers_without_room_break_the_queue() {
    for (len, writable, with_data) in [
        (43, true, false),
        (4096, false, false),
        (HEADER as u32, true, true),
    ] {
        let mut guest = Guest::new(u64::from(with_data));
        if with_data {
            guest.say(Op::Request, 1024);
            guest.driver.wait_used(0);
            guest.hosts[0].write_all(b"x").unwrap();
        }
        guest.driver.offer(0, &[(RX_AREA, len, writable)]);
        guest.driver.kick(0);
        if !with_data {
            guest.say(Op::Request, 99);
        }
        guest.driver.wait_broken();
    }
}

#[test]
fn payload_outside_memory_breaks_the_queue() {
    let mut guest = Guest::new(32);
    guest.connect(1024);
    let header = guest.header(Op::Data, 1024, 8).to_bytes();
    guest.driver.poke(TX_AREA, &header);
    guest
        .driver
        .offer(1, &[(TX_AREA, 44, false), (u64::MAX - 4, 8, false)]);
    guest.driver.kick(1);
    guest.driver.wait_broken();
    guest.driver.start(u64::MAX, 64);
}

/// Cloud Hypervisor fetched the header twice: a second vCPU changed the length in
/// between. Ours is judged and used from one copy; nothing but whole payloads arrive.
#[test]
fn a_header_that_changes_under_us() {
    use std::sync::atomic::{AtomicBool, Ordering};
    use vm_memory::{Bytes, GuestAddress};
    let mut guest = Guest::new(32);
    guest.connect(1024);
    let stop = AtomicBool::new(false);
    let mem = guest.driver.mem.clone();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for slot in 0..HEADER_SLOTS {
                    for len in [u32::MAX, 8, 0] {
                        let at = header_at(slot) + 24;
                        mem.write_obj(len, GuestAddress(at)).unwrap();
                    }
                }
            }
        });
        for _ in 0..2000 {
            guest.send(guest.header(Op::Data, 1024, 8), b"8 bytes!");
            while guest.try_hear().is_some() {}
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(guest.driver.status(), 15);
    guest.say(Op::Reset, 1024);
    let mut bytes = Vec::new();
    guest.hosts[0].read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() % 8, 0);
    assert!(bytes.chunks(8).all(|c| c == b"8 bytes!"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Any packets: the device lives, answers no RST with an RST, never sends more
    /// than it was given room for, and a fresh port still works.
    #[test]
    fn any_packets_are_survived(
        packets in prop::collection::vec((
            0u16..10, prop_oneof![Just(1u16), 0u16..3], 0usize..4, 0u32..4,
            prop_oneof![Just(u32::MAX), 0u32..100_000], any::<u32>(),
            prop_oneof![Just(None), (0u32..200_000).prop_map(Some)],
            prop_oneof![Just(0usize), 0usize..3000],
        ), 1..120),
        host_says in prop::collection::vec((0usize..2, 0usize..20_000), 0..6),
    ) {
        let mut guest = Guest::new(32);
        for (host, len) in host_says {
            guest.hosts[host].set_nonblocking(true).unwrap();
            let _ = guest.hosts[host].write(&vec![9; len]);
        }
        for (op, kind, port, flags, buf_alloc, fwd_cnt, len, payload) in packets {
            let port = [1024, 1025, 99, 100][port];
            let len = len.unwrap_or(payload as u32);
            let header = Header {
                op, kind, flags, buf_alloc, fwd_cnt, len, ..guest.header(Op::Data, port, 0)
            };
            guest.send(header, &vec![3; payload]);
            while guest.driver.used(0).is_some() {}
            if guest.driver.queues[0].free() > 64 {
                let at = RX_AREA + u64::from(op) * u64::from(RX_BUFFER);
                guest.driver.offer(0, &[(at, RX_BUFFER, true)]);
                guest.driver.kick(0);
            }
        }
        prop_assert_eq!(guest.driver.status(), 15);
        guest.driver.start(u64::MAX, 64);
        (0..16).for_each(|n| guest.post(RX_AREA + n * u64::from(RX_BUFFER)));
        guest.connect(1026);
    }
}
